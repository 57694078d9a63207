"""Requests to one daemon: the session, and their faults as errors of the client.  Nothing of the environment counts (no
proxy, no netrc, no cookies) and no redirect is followed, so that a token goes to the daemon and to nobody else."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NoReturn

import aiohttp
import orjson
from aiohttp import ClientResponse, ClientSession, ClientTimeout, ClientWebSocketResponse, ClientWSTimeout

from fastmesh.client.address import Address
from fastmesh.client.errors import ConnectionLost, ProtocolViolation, Unreachable
from fastmesh.client.framing import MAX_FRAME_BYTES
from fastmesh.client.refusals import bounded, redirected, refusal_in, refusal_of
from fastmesh.version import __version__

WS_CLOSE_S: Final = 1.0  # how long the answer to a close frame is waited for
SUBPROTOCOL: Final = "fastmesh.v1"

Query = tuple[tuple[str, str], ...]


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
        """An answer whose status is 2xx, its body unread; the caller closes it.  Raises ConnectionLost and Refused."""
        sent = dict(headers or {})
        data: bytes | None = None
        if body is not None:
            sent["Content-Type"] = "application/json"
            data = orjson.dumps(body)
        with self.typed_faults():
            response = await self._session.request(
                method, self._base + path, params=query, data=data, headers=sent, allow_redirects=False
            )
            if 200 <= response.status <= 299:
                return response
            async with response:
                raise await refusal_in(response)

    async def ask(
        self, method: str, path: str, *, body: object = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The JSON object that answers.  Raises ConnectionLost, Refused and ProtocolViolation."""
        async with await self.open(method, path, body=body, headers=headers) as response:
            with self.typed_faults():
                data = await bounded(response, MAX_FRAME_BYTES)
        try:
            answer = orjson.loads(data)
        except orjson.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict):
            raise ProtocolViolation(f"the answer to {method} {path} is not a JSON object")
        return answer

    async def get(self, path: str, *, also: frozenset[int] = frozenset()) -> bytes:
        """The body at *path*, whose status is 2xx or one of *also*.  Raises ConnectionLost, Refused and
        ProtocolViolation."""
        with self.typed_faults():
            async with self._session.get(self._base + path, allow_redirects=False) as response:
                if not (200 <= response.status <= 299 or response.status in also):
                    raise await refusal_in(response)
                return await bounded(response, MAX_FRAME_BYTES)

    async def websocket(
        self, path: str, *, query: Query = (), headers: Mapping[str, str] | None = None
    ) -> ClientWebSocketResponse[bool]:
        """An open WebSocket.  Raises ConnectionLost and Refused."""
        with self.typed_faults():
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
        with self.typed_faults():
            return await response.content.readany()

    async def receive(
        self, socket: ClientWebSocketResponse[bool]
    ) -> aiohttp.WSMessage | aiohttp.http.WSMessageTextBytes:
        """The next message of a WebSocket.  Raises ConnectionLost."""
        with self.typed_faults():
            return await socket.receive()

    @contextmanager
    def typed_faults(self) -> Iterator[None]:
        """Turn what aiohttp and the system raise into the client's errors."""
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


def _verdict(error: aiohttp.ClientConnectorCertificateError) -> str:
    found = error.certificate_error
    return found.verify_message if isinstance(found, ssl.SSLCertVerificationError) else str(found)


def _reason(error: OSError) -> str:
    """Without the address once more, which asyncio puts in the place of the reason."""
    return os.strerror(error.errno) if error.errno is not None and error.errno > 0 else str(error)


async def _refuse_redirect(_session: object, _context: object, found: aiohttp.TraceRequestRedirectParams) -> NoReturn:
    found.response.close()
    raise redirected(found.response.status, found.response.headers.get("Location"))
