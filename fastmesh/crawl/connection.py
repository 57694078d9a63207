"""One connection to an origin: dialled only where the guard permits, read only within bounds.

This is aiohttp's connection with what it leaves open: it has no bound on
interim (1xx) answers nor on what chunks are framed with, takes answers whose
end two readers would see at different places, takes a reset or our own close for
the proper end of a body without a length, and would give what an origin sends after one answer
to the next request.
"""

from __future__ import annotations

import asyncio
import functools
import re
import socket
import ssl
from ipaddress import ip_address
from typing import Any, Final

from aiohttp import ClientConnectionError, ClientPayloadError, HttpVersion10, HttpVersion11, TCPConnector
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.streams import StreamReader

from fastmesh.crawl.guard import AddressGuard
from fastmesh.crawl.resolve import GuardedResolver
from fastmesh.errors import ConnectFailed

# Everything up to the end of the final head, all interim answers included.
MAX_HEAD_BYTES: Final = 65_536
# An origin says 103 Early Hints once or twice; a thousand are work for us and nothing else.
MAX_INTERIM_ANSWERS: Final = 16
# Fed to the parser at once while the head is not whole: uvloop reads up to 256 KiB,
# and the bounds are looked at between two steps.
HEAD_STEP_BYTES: Final = 4_096
# llhttp takes a bare LF for a line's end.
BLANK_LINE: Final = re.compile(rb"\n\r?\n")
# Of a body, beside its content: chunk sizes, extensions, trailers.  A chunk of one byte has five bytes
# around it; the fixed part is what aiohttp may hold unparsed while its reader is behind.
MAX_FRAMING_BYTES: Final = 1_048_576
MAX_FRAMING_RATIO: Final = 8
# Pages of one host come close together; the rest should not keep a socket for long.
KEEPALIVE_S: Final = 5.0


class BoundedResponses(ResponseHandler):
    """aiohttp's protocol of one connection, with bounds around its parser."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._head_bytes = 0
        self._head_tail = b""
        self._body_bytes = 0
        self._interim = 0
        self._answered = False

    def set_response_params(self, **params: Any) -> None:
        """A request is about to be sent: count its answer from zero."""
        self._head_bytes = 0
        self._head_tail = b""
        self._body_bytes = 0
        self._interim = 0
        self._answered = False
        super().set_response_params(**params)

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """The parser finished a head."""
        head = data[0]
        # 101 is final: no other answer follows it.
        self._answered = self._answered or head.code >= 200 or head.code == 101
        self._interim += not self._answered
        if self._interim > MAX_INTERIM_ANSWERS:
            self._refuse(f"the origin sent more than {MAX_INTERIM_ANSWERS} interim answers")
        elif odd := _oddity(head):
            self._refuse(odd)
        else:
            super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """Bytes from the origin; empty when the parser is to go on with what it has."""
        if self._answered and data and (self._payload is None or self._payload.is_eof()):
            # Sent after its answer, to whoever asks next (a second "HTTP/1.1 200" parses well).
            self.force_close()
            if self.transport is not None:
                self.transport.close()
            return
        taken = 0
        while not self._answered and taken < len(data) and self.exception() is None:
            step = self._head_step(data, taken)
            taken += len(step)
            self._head_bytes += len(step)
            super().data_received(step)
            if not self._answered and self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(f"the origin sent {MAX_HEAD_BYTES} bytes of head without an answer")
        if (taken < len(data) or not data) and self.exception() is None:
            self._body_bytes += len(data) - taken
            super().data_received(data[taken:])
            content = self._payload.total_bytes if self._payload is not None else 0
            if self._body_bytes > MAX_FRAMING_BYTES + MAX_FRAMING_RATIO * content:
                self._refuse("the origin sent framing without content")

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """The connection is broken; who reads the body is told too, and does not wait until its time is over."""
        super().set_exception(exc, *cause)
        if self._payload is not None and not self._payload.is_eof() and self._payload.exception() is None:
            known = exc if isinstance(exc, ConnectFailed) else ClientPayloadError("the body is broken")
            self._payload.set_exception(known)

    def close(self) -> None:
        """Closed by us; a body that ends with its connection has not come to its end."""
        if self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(ClientConnectionError("closed while it was read"))
        super().close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection ended; with a reset a body that ends with its connection is not whole."""
        if isinstance(exc, ConnectionError) and self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(ClientPayloadError("the connection was reset"))
        super().connection_lost(exc)

    def _head_step(self, data: bytes, start: int) -> bytes:
        """What the parser gets next: at most HEAD_STEP_BYTES, and nothing of what follows a head.

        Where a body is longer than its length says, or a 204 has one, the rest is
        no HTTP; in one piece with the head its error would take the answer along.
        """
        step = data[start : start + HEAD_STEP_BYTES]
        end = BLANK_LINE.search(self._head_tail + step)
        if end is not None:
            step = step[: end.end() - len(self._head_tail)]
        self._head_tail = (self._head_tail + step)[-2:]
        return step

    def _refuse(self, reason: str) -> None:
        if self.transport is not None:
            self.transport.abort()
        self.set_exception(ConnectFailed(reason))


def _oddity(head: RawResponseMessage) -> str | None:
    """Why nobody can tell where this answer ends; None for an ordinary one."""
    if head.version not in (HttpVersion10, HttpVersion11):
        return "the origin answered with another HTTP than 1.0 and 1.1"
    codings = [coding.strip().lower() for coding in head.headers.getall("Transfer-Encoding", ())]
    # llhttp does not take "chunked<TAB>" for chunked: it would read on to the connection's end, with the
    # chunk sizes as content.
    if codings and (codings != ["chunked"] or not head.chunked):
        return "the origin answered with a transfer coding that was not asked for"
    return None


class GuardedConnector(TCPConnector):
    """Opens and keeps connections.  How many there may be is decided before it (Turns)."""

    def __init__(self, guard: AddressGuard, resolver: GuardedResolver) -> None:
        context = ssl.create_default_context()
        context.set_alpn_protocols(["http/1.1"])

        def judged_socket(info: Any) -> socket.socket:
            # The last look, at the very socket address that connect() gets: it is the only one
            # for what never passes a resolver (IP literals).
            family, kind, proto, _, sockaddr = info
            guard.check(ip_address(sockaddr[0]), sockaddr[1])
            return socket.socket(family, kind, proto)

        super().__init__(
            resolver=resolver,
            use_dns_cache=False,  # c-ares keeps answers by their TTL; a cache here would outlive them
            limit=0,
            ssl=context,
            keepalive_timeout=KEEPALIVE_S,
            socket_factory=judged_socket,
        )
        # aiohttp offers no other way to choose the protocol (tests/crawl/test_fetch.py would notice its end).
        self._factory = functools.partial(BoundedResponses, loop=self._loop)  # type: ignore[assignment]
