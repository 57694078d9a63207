"""The client: every operation of a daemon, as asyncio has it.

async with Client("http://127.0.0.1:8080") as client:
    async for frame in client.crawl(["https://example.com/"], protocol="sse"):
        ...
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping
from secrets import token_hex
from typing import Any, Final, Self
from weakref import WeakSet

from fastmesh.client.address import Address, checked_token, trusting
from fastmesh.client.errors import ConnectionLost, Refused, Unreachable
from fastmesh.client.http import Http
from fastmesh.client.retry import Retry
from fastmesh.client.sequence import checked, opened_id, stream_path
from fastmesh.client.stream import FrameStream, Opening, ProtocolName

CRAWL: Final[Mapping[ProtocolName, str]] = {"ndjson": "/crawl/stream", "sse": "/crawl/sse", "ws": "/streams"}
FIREHOSE: Final[Mapping[ProtocolName, str]] = {
    "ndjson": "/firehose/stream",
    "sse": "/firehose/sse",
    "ws": "/firehose/ws",
}
DEEPSEARCH: Final[Mapping[ProtocolName, str]] = {"ndjson": "/deepsearch/stream"}

Json = Mapping[str, Any]


class Client:
    """Talks to the daemon at *url*: ``http://host:port``, ``https://…`` or ``unix:/path``.

    *token* is sent as ``Authorization: Bearer``.  *cacert* names a PEM file of those whose signature on the daemon's
    certificate is trusted, in place of the system's.  *retry* says how often and how long a broken connection is tried
    again; one that brings nothing for *idle_timeout_s*, not even a sign of life, counts as broken.  To be used in
    ``async with``, or closed.  Raises ValueError for an address, token or file that is none.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8080",
        *,
        token: str | None = None,
        cacert: str | None = None,
        retry: Retry | None = None,
        idle_timeout_s: float = 60.0,
        connect_timeout_s: float = 10.0,
    ) -> None:
        self._token = checked_token(token)
        self._address = Address.parse(url)
        self._tls = trusting(cacert)
        self._retry = retry or Retry()
        self._idle_timeout_s = idle_timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._session: Http | None = None
        self._streams: WeakSet[FrameStream] = WeakSet()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End all iterations as if they were left, and close all connections."""
        for stream in list(self._streams):
            await stream.aclose()
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # ── streams of frames ────────────────────────────────────────────────────────────────

    def crawl(
        self,
        urls: Iterable[str | Json],
        *,
        protocol: ProtocolName = "ndjson",
        options: Json | None = None,
        stream: Json | None = None,
        heartbeats: bool = False,
        cancel_on_exit: bool = False,
    ) -> FrameStream:
        """Crawl *urls*; what one may be, *options* and *stream* are those of the request's body."""
        opening = Opening("POST", CRAWL, _crawl_body(urls, options, stream), subscribed=True)
        return self._stream(protocol, opening=opening, heartbeats=heartbeats, cancel_on_exit=cancel_on_exit)

    def deepsearch(
        self,
        query: str,
        *,
        limit: int | None = None,
        include_content: bool | None = None,
        options: Json | None = None,
        heartbeats: bool = False,
        cancel_on_exit: bool = False,
    ) -> FrameStream:
        """Search for *query* and crawl what is found; the daemon streams it as NDJSON only."""
        given = {"query": query, "limit": limit, "include_content": include_content, "options": options}
        body = {name: value for name, value in given.items() if value is not None}
        opening = Opening("POST", DEEPSEARCH, body)
        return self._stream("ndjson", opening=opening, heartbeats=heartbeats, cancel_on_exit=cancel_on_exit)

    def firehose(
        self,
        *,
        frames: int | None = None,
        frame_bytes: int | None = None,
        rate: float | None = None,
        protocol: ProtocolName = "ndjson",
        heartbeats: bool = False,
        cancel_on_exit: bool = False,
    ) -> FrameStream:
        """The stream that measures the daemon: *frames* of about *frame_bytes*, *rate* a second."""
        given = (("frames", frames), ("bytes", frame_bytes), ("rate", rate))
        query = tuple((name, str(value)) for name, value in given if value is not None)
        opening = Opening("GET", FIREHOSE, query=query)
        return self._stream(protocol, opening=opening, heartbeats=heartbeats, cancel_on_exit=cancel_on_exit)

    def subscribe(
        self,
        stream_id: str,
        after: int | None = 0,
        *,
        protocol: ProtocolName = "ndjson",
        heartbeats: bool = False,
        cancel_on_exit: bool = False,
    ) -> FrameStream:
        """The frames of a stream that runs, or that can be resumed, after frame *after*.  None reads from the start
        too, but only watches: it takes no place that an earlier reader left."""
        checked(stream_id)
        if after is not None and after < 0:
            raise ValueError(f"after {after}: want a frame's number, or 0")
        return self._stream(
            protocol, stream_id=stream_id, after=after, heartbeats=heartbeats, cancel_on_exit=cancel_on_exit
        )

    # ── single requests ──────────────────────────────────────────────────────────────────

    async def open(self, urls: Iterable[str | Json], *, options: Json | None = None, stream: Json | None = None) -> str:
        """Open a stream over *urls* without reading it; return its id."""
        headers = {"Idempotency-Key": token_hex(16)}
        return opened_id(await self._ask("POST", "/streams", _crawl_body(urls, options, stream), headers))

    async def cancel(self, stream_id: str) -> dict[str, Any]:
        """Cancel a stream; return what the daemon says of it.  Raises Refused with 404 for an unknown stream and with
        409 for one that has ended, which may be the cancel's own doing when a connection broke before its answer."""
        return await self._ask("DELETE", stream_path(checked(stream_id)))

    async def streams(self) -> dict[str, Any]:
        """What the daemon says of all its streams."""
        return await self._ask("GET", "/streams")

    async def stream(self, stream_id: str) -> dict[str, Any]:
        """What the daemon says of one stream.  Raises Refused with 404 for an unknown one."""
        return await self._ask("GET", stream_path(checked(stream_id)))

    async def _ask(
        self, method: str, path: str, body: Json | None = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """One answer, over as many tries as it takes."""
        failures = 0
        while True:
            try:
                return await self._http().ask(method, path, body=body, headers=headers)
            except (ConnectionLost, Refused) as error:
                asked_s = 0.0
                if isinstance(error, Refused):
                    if not error.passing:
                        raise
                    asked_s = error.retry_after_s or 0.0
                elif isinstance(error, Unreachable) and not failures:
                    raise
                failures += 1
                wait_s = self._retry.wait_s(failures, random.random(), asked_s)
                if wait_s is None:
                    raise
            await asyncio.sleep(wait_s)

    def _stream(self, protocol: ProtocolName, **given: Any) -> FrameStream:
        stream = FrameStream(self._http, protocol, self._retry, **given)
        self._streams.add(stream)
        return stream

    def _http(self) -> Http:
        """The session; it belongs to the loop that first asks."""
        if self._session is None:
            self._session = Http(
                self._address,
                token=self._token,
                tls=self._tls,
                connect_timeout_s=self._connect_timeout_s,
                idle_timeout_s=self._idle_timeout_s,
            )
        return self._session


def _crawl_body(urls: Iterable[str | Json], options: Json | None, stream: Json | None) -> dict[str, Any]:
    if isinstance(urls, str):
        raise ValueError("urls is one string: want a list of URLs")
    return {
        "urls": list(urls),
        **({} if options is None else {"options": dict(options)}),
        **({} if stream is None else {"stream": dict(stream)}),
    }
