"""One connection to an origin: dialled only where the guard permits, read only within bounds.

This is aiohttp's connection, closed where that one is open: it has no bound on interim (1xx) answers nor on what chunks
are framed with, takes answers whose end two readers would see at different places, takes a reset or our own close for
the proper end of a body without a length, and would give what an origin sends after one answer to the next request.

What one read of the socket (256 KiB) may cost, whatever is sent: it is searched for heads once, within the bounds of
head.py; of a chunked body MAX_CHUNKS_A_TURN chunks reach Python, and the parser goes on with the rest in a turn of its
own; trailers count as fields of the head do.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from ipaddress import ip_address
from typing import Any, Final

from aiohttp import ClientConnectionError, ClientPayloadError, HttpVersion11, TCPConnector
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError, RawResponseMessage
from aiohttp.streams import StreamReader

from fastmesh.crawl.fetch.head import AnswerHead
from fastmesh.crawl.net.guard import AddressGuard
from fastmesh.crawl.net.resolver import GuardedResolver
from fastmesh.errors import BadResponse, bare

# Of a body, beside its content: chunk sizes, extensions, trailers.  The fixed part is what aiohttp may hold
# unparsed while its reader is behind, and 200,000 chunks of one byte; past it framing may be as long as content.
MAX_FRAMING_BYTES: Final = 1_048_576
# Every chunk is three calls of Python's, 3 µs; a host has eight connections, and each has its turn.
MAX_CHUNKS_A_TURN: Final = 256
# Pages of one host come close together; the rest should not keep a socket for long.
KEEPALIVE_S: Final = 5.0


class BoundedResponses(ResponseHandler):
    """aiohttp's protocol of one connection, with bounds around its parser."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._head = AnswerHead()
        self._body_bytes = 0
        self._goes_on = False

    def set_response_params(self, **params: Any) -> None:
        """A request is about to be sent: its answer is read from zero."""
        self._head = AnswerHead()
        self._body_bytes = 0
        super().set_response_params(**params)

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """The parser finished a head."""
        if odd := _oddity(data[0]):
            self._refuse(odd)
            return
        if data[0].chunked:
            # aiohttp pauses its parser at so many of them, a sixteenth of its buffer's bytes if nobody says less.
            data[1]._high_water_chunks, data[1]._low_water_chunks = MAX_CHUNKS_A_TURN, MAX_CHUNKS_A_TURN // 2
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """Bytes from the origin; empty when the parser is to go on with what it has."""
        if self._parser is not None and not self._head.whole:
            if self.exception() is not None:
                return
            try:
                found = self._head.feed(data)
            except BadResponse as refusal:
                self._refuse(refusal.message)
                return
            if found is None:
                return
            head, data = found
            super().data_received(head)
            if not data or self.exception() is not None:
                return
        if self._head.whole and data and (self._payload is None or self._payload.is_eof()):
            # Sent after its answer, to whoever asks next (a second "HTTP/1.1 200" parses well).
            self.force_close()
            if self.transport is not None:
                self.transport.close()
            return
        self._body_bytes += len(data)
        super().data_received(data)
        content = self._payload.total_bytes if self._payload is not None else 0
        if self._body_bytes > MAX_FRAMING_BYTES + 2 * content and self.exception() is None:
            self._refuse("the origin sent framing without content")

    def resume_reading(self, resume_parser: bool = True) -> None:
        """The reader has room again: the parser goes on with what it has, in a turn of the loop of its own."""
        if not resume_parser:
            super().resume_reading(False)
        elif self._reading_paused and not self._goes_on:
            self._goes_on = True
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._goes_on = False
        if self._reading_paused:
            super().resume_reading()

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """The connection is broken; the body's reader hears of it too, and does not wait until its time is over."""
        # aiohttp keeps it, and its cause has the frame that keeps it.
        super().set_exception(exc, *map(bare, cause))
        if self._payload is not None and not self._payload.is_eof() and self._payload.exception() is None:
            self._payload.set_exception(_known(exc))

    def close(self) -> None:
        """Closed by us; a body that ends with its connection has not come to its end."""
        if self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(ClientConnectionError("closed while it was read"))
        self._buffer.clear()  # an answer that nobody asked for, whose body knows this connection
        super().close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection ended; with a reset a body that ends with its connection is not whole."""
        if self._payload is not None and self._payload.exception() is not None:
            self._payload = None  # what ended it first is what its reader is told
        if isinstance(exc, ConnectionError) and self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(ClientPayloadError("the connection was reset"))
        super().connection_lost(exc)

    def _refuse(self, reason: str) -> None:
        if self.transport is not None:
            self.transport.abort()
        self.set_exception(BadResponse(reason))


def _known(fault: BaseException) -> BaseException:
    """What ends a body with *fault*."""
    if isinstance(fault, HttpProcessingError):
        return BadResponse("the body of the origin's answer is not framed as HTTP/1.1 has it")
    return fault if isinstance(fault, BadResponse) else ClientPayloadError("the body is broken")


def _oddity(head: RawResponseMessage) -> str | None:
    """Why two readers could see the end of this answer at two places; None for an ordinary one."""
    codings = [coding.strip().lower() for coding in head.headers.getall("Transfer-Encoding", ())]
    if not codings:
        return None
    # llhttp does not take "chunked<TAB>" for chunked: it would read on to the connection's end, with the
    # chunk sizes as content.
    if codings != ["chunked"] or not head.chunked:
        return "the origin answered with a transfer coding that was not asked for"
    if head.version != HttpVersion11:
        return "the origin answered in chunks, which HTTP/1.0 does not know"
    return None


class GuardedConnector(TCPConnector):
    """Opens and keeps connections.  How many there may be is decided before it (Slots)."""

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
