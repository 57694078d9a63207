"""Requests to one daemon: the address, the session, and what goes wrong in this room's terms.

Nothing of the environment counts (no proxy, no netrc, no cookies) and no redirect
is followed, so that a token goes to the daemon and to nobody else.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Self
from urllib.parse import quote

import aiohttp
import orjson
from aiohttp import ClientResponse, ClientSession, ClientTimeout, ClientWebSocketResponse, ClientWSTimeout
from yarl import URL

from fastmesh.client.errors import ConnectionLost, ProtocolViolation, Refused, Unreachable
from fastmesh.client.ndjson import MAX_FRAME_BYTES
from fastmesh.version import __version__

MAX_REFUSAL_BYTES: Final = 65_536
MAX_MESSAGE_CHARS: Final = 1000
WS_CLOSE_S: Final = 1.0  # how long the answer to a close frame is waited for
SUBPROTOCOL: Final = "fastmesh.v1"

Query = tuple[tuple[str, str], ...]

_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_SECONDS: Final = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a daemon listens: *base*, and the Unix socket at *path* when it is one."""

    base: str
    path: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """From ``http://host:port[/prefix]``, ``https://…`` or ``unix:/path``.  Raises ValueError."""
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            if not path.startswith("/"):
                raise ValueError(f"{text!r} is no address: want the absolute path of a socket, as in unix:/run/x.sock")
            return cls("http://localhost", path)
        try:
            url = URL(text)
            fits = url.scheme in ("http", "https") and url.host and url.port and not (url.query_string or url.fragment)
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(f"{text!r} is no address: want http://host:port, https://host or unix:/path")
        if url.user is not None or url.password is not None:
            raise ValueError("an address holds no user and no password: the daemon takes a token")
        return cls(str(url).rstrip("/"))


class Http:
    """One session with one daemon; it must be made while the loop runs, and closed."""

    def __init__(
        self,
        address: Address,
        *,
        token: str | None,
        connect_timeout_s: float,
        idle_timeout_s: float,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.idle_timeout_s = idle_timeout_s
        self._base = address.base
        self._shown = address.base if address.path is None else f"unix:{address.path}"
        headers = {"User-Agent": f"fastmesh/{__version__}", "Accept-Encoding": "identity"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        trace = aiohttp.TraceConfig()
        trace.on_request_redirect.append(_refuse_redirect)  # a WebSocket's handshake would follow them
        self._session = ClientSession(
            # As many streams as its user wants, each a connection of its own.
            connector=aiohttp.UnixConnector(address.path, limit=0)
            if address.path is not None
            else aiohttp.TCPConnector(limit=0, ssl=tls or True),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            timeout=ClientTimeout(total=None, sock_connect=connect_timeout_s, sock_read=idle_timeout_s),
            headers=headers,
            trace_configs=[trace],
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def open(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        query: Query = (),
        headers: Mapping[str, str] | None = None,
    ) -> ClientResponse:
        """An answer whose status is 2xx, its body unread; who asks closes it.

        Raises ConnectionLost and Refused.
        """
        sent = dict(headers or {})
        data: bytes | None = None
        if body is not None:
            sent["Content-Type"] = "application/json"
            data = orjson.dumps(body)
        with self._typed_faults():
            response = await self._session.request(
                method, self._base + path, params=query, data=data, headers=sent, allow_redirects=False
            )
            if 200 <= response.status <= 299:
                return response
            async with response:
                raise await _refusal(response)

    async def ask(
        self, method: str, path: str, *, body: object = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The JSON object that answers.  Raises ConnectionLost, Refused and ProtocolViolation."""
        async with await self.open(method, path, body=body, headers=headers) as response:
            with self._typed_faults():
                data = await _bounded(response, MAX_FRAME_BYTES)
        try:
            answer = orjson.loads(data)
        except orjson.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict):
            raise ProtocolViolation(f"the answer to {method} {path} is not a JSON object")
        return answer

    async def get(self, path: str, *, also: frozenset[int] = frozenset()) -> bytes:
        """The body at *path*, whose status is 2xx or one of *also*.

        Raises ConnectionLost, Refused and ProtocolViolation.
        """
        with self._typed_faults():
            async with self._session.get(self._base + path, allow_redirects=False) as response:
                if not (200 <= response.status <= 299 or response.status in also):
                    raise await _refusal(response)
                return await _bounded(response, MAX_FRAME_BYTES)

    async def websocket(
        self, path: str, *, query: Query = (), headers: Mapping[str, str] | None = None
    ) -> ClientWebSocketResponse[bool]:
        """An open WebSocket.  Raises ConnectionLost and Refused."""
        with self._typed_faults():
            return await self._session.ws_connect(
                self._base + path,
                params=query,
                headers=headers,
                protocols=(SUBPROTOCOL,),
                timeout=ClientWSTimeout(ws_receive=self.idle_timeout_s, ws_close=WS_CLOSE_S),
                autoping=False,  # a ping is a sign of life, and must be seen
                max_msg_size=MAX_FRAME_BYTES,
                decode_text=False,
            )

    async def read(self, response: ClientResponse) -> bytes:
        """The next bytes of a body, empty at its end.  Raises ConnectionLost."""
        with self._typed_faults():
            return await response.content.readany()

    async def receive(
        self, socket: ClientWebSocketResponse[bool]
    ) -> aiohttp.WSMessage | aiohttp.http.WSMessageTextBytes:
        """The next message of a WebSocket.  Raises ConnectionLost."""
        with self._typed_faults():
            return await socket.receive()

    @contextmanager
    def _typed_faults(self) -> Iterator[None]:
        """Turn what aiohttp and the system raise into this room's errors."""
        try:
            yield
        except aiohttp.WSServerHandshakeError as error:
            if error.status == 101:
                raise ProtocolViolation(f"no WebSocket was opened: {error.message}") from None
            raise refusal_of(error.status, None, error.headers or {}) from None
        except aiohttp.ClientConnectorCertificateError as error:
            raise Unreachable(f"{self._shown} shows no certificate that is trusted: {_verdict(error)}") from None
        except aiohttp.ClientConnectorError as error:
            raise Unreachable(f"nobody answers at {self._shown}: {_reason(error.os_error)}") from None
        except aiohttp.ConnectionTimeoutError:
            raise Unreachable(f"nobody answers at {self._shown} in time") from None
        except TimeoutError:
            raise ConnectionLost("nothing was received for too long") from None
        except aiohttp.ClientResponseError as error:
            raise ProtocolViolation(f"the answer is not HTTP: {error.message}") from None
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionLost(f"the connection broke: {error or type(error).__name__}") from None


def trusting(path: str) -> ssl.SSLContext:
    """TLS that trusts whom the PEM file *path* holds, and nobody else.  Raises ValueError."""
    try:
        return ssl.create_default_context(cafile=path)
    except ssl.SSLError as error:
        raise ValueError(f"{path} holds no certificates as PEM ({error.reason or 'broken'})") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def valid_token(token: str) -> bool:
    """Whether *token* can be sent in a header."""
    return _TOKEN.fullmatch(token) is not None


def stream_path(stream_id: str) -> str:
    """The path of a stream."""
    return f"/streams/{quote(stream_id, safe='')}"


# ── what goes wrong ──────────────────────────────────────────────────────────────────────

STATUS_OF: Final[Mapping[str, int]] = {
    "validation_error": 400,
    "bad_request": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "conflict": 409,
    "payload_too_large": 413,
    "rate_limited": 429,
    "search_unavailable": 503,
    "overloaded": 503,
    "shutting_down": 503,
}


def refusal_of(status: int | None, error: object, headers: Mapping[str, str]) -> Refused:
    """The refusal that an envelope's *error* holds; where it holds none, what the status and *headers* say.

    Without a *status* (on a WebSocket) it is the one that the error's type has.
    """
    known = error if isinstance(error, dict) else {}

    def text(name: str) -> str | None:
        value = known.get(name)
        return value[:MAX_MESSAGE_CHARS] if isinstance(value, str) else None

    type_ = text("type") or "http"
    if status is None:
        status = STATUS_OF.get(type_, 500)
    retry_after = headers.get("Retry-After", "").strip()
    return Refused(
        status,
        type_,
        text("message") or "the answer does not say why",
        retryable=known.get("retryable") is True,
        request_id=text("request_id") or headers.get("X-Request-ID"),
        field=text("field"),
        retry_after_s=float(retry_after) if _SECONDS.fullmatch(retry_after) else None,
    )


async def _refusal(response: ClientResponse) -> Refused:
    if 300 <= response.status <= 399:
        return _redirected(response.status, response.headers.get("Location"))
    try:
        envelope = orjson.loads(await _bounded(response, MAX_REFUSAL_BYTES))
    except (orjson.JSONDecodeError, ProtocolViolation):
        envelope = None
    error = envelope.get("error") if isinstance(envelope, dict) else None
    return refusal_of(response.status, error, response.headers)


def _redirected(status: int, location: str | None) -> Refused:
    return Refused(status, "http", f"a redirect to {(location or '')[:MAX_MESSAGE_CHARS]!r}, which is not followed")


async def _refuse_redirect(_session: object, _context: object, found: aiohttp.TraceRequestRedirectParams) -> NoReturn:
    found.response.close()
    raise _redirected(found.response.status, found.response.headers.get("Location"))


async def _bounded(response: ClientResponse, limit: int) -> bytes:
    body = bytearray()
    while data := await response.content.readany():
        body += data
        if len(body) > limit:
            raise ProtocolViolation(f"an answer is over the limit of {limit} bytes")
    return bytes(body)


def _verdict(error: aiohttp.ClientConnectorCertificateError) -> str:
    found = error.certificate_error
    return found.verify_message if isinstance(found, ssl.SSLCertVerificationError) else str(found)


def _reason(error: OSError) -> str:
    """Without the address once more, which asyncio puts in the place of the reason."""
    return os.strerror(error.errno) if error.errno is not None and error.errno > 0 else str(error)
