"""One stream, over as many connections as it takes.

A FrameStream opens or attaches, checks that no frame is missing, and resumes where it was when a connection breaks
before the summary.  Until the first frame is there the opening request is repeated with the same key, so that no crawl
is ever started twice; from then on it attaches after the last frame that it has.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final, Literal, Self

from fastmesh.client.connections import BODIES, Connection, WebSocketConnection, attached
from fastmesh.client.errors import ClientError, ConnectionLost, ProtocolViolation, Refused, StreamLost, Unreachable
from fastmesh.client.frames import Frame, Heartbeat
from fastmesh.client.http import Http, Query
from fastmesh.client.retry import Retry
from fastmesh.client.sequence import Sequence, opened_id, stream_path, valid_stream_id

ProtocolName = Literal["ndjson", "sse", "ws"]
PROTOCOLS: Final[tuple[ProtocolName, ...]] = ("ndjson", "sse", "ws")

CANCEL_TIMEOUT_S: Final = 5.0  # for the cancel that cancel_on_exit promises


@dataclass(frozen=True, slots=True)
class Opening:
    """The request that starts a stream, its path by protocol.  With *subscribed*, on WebSocket, it only opens: the
    frames come by a subscription."""

    method: Literal["GET", "POST"]
    paths: Mapping[ProtocolName, str]
    body: Mapping[str, Any] | None = None
    query: Query = ()
    subscribed: bool = False


class FrameStream:
    """The frames of one stream: ``async for frame in stream``, once.

    They end with the summary.  Leaving the loop early closes the connection, and with *cancel_on_exit* cancels the
    stream; ``async with stream:`` or aclose() do so at a certain time.  (A stream whose id is not known yet is left to
    the daemon, which cancels it when nobody comes back.)  ``stream_id`` is None until it is known; ``breaks`` counts
    the connections that were lost; ``cancel_on_exit`` may be changed at any time.

    Iterating raises Refused, Unreachable when nobody was there from the start, ConnectionLost when a connection broke
    and did not come back, StreamLost when the daemon forgot the stream meanwhile, and ProtocolViolation.
    """

    def __init__(
        self,
        http: Callable[[], Http],
        protocol: ProtocolName,
        retry: Retry,
        *,
        opening: Opening | None = None,
        stream_id: str | None = None,
        after: int | None = 0,
        heartbeats: bool = False,
        cancel_on_exit: bool = False,
    ) -> None:
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol {protocol!r}: want one of {', '.join(PROTOCOLS)}")
        self.breaks = 0
        self._http = http
        self._protocol: ProtocolName = protocol
        self._retry = retry
        self._opening = opening
        self._key = token_hex(16)
        self._opened_id = stream_id  # as the opening's answer says; the frames say it again
        self._after = after
        self._sequence = Sequence(stream_id, after or 0)
        self._heartbeats = heartbeats
        self.cancel_on_exit = cancel_on_exit
        self._connection: Connection | None = None
        self._connected_at_s = 0.0
        self._reached = False  # there was a connection
        self._failures = 0
        self._over = False
        self._iterated = False
        self._leaving = False
        self._closed = False
        self._one_close = asyncio.Lock()

    @property
    def stream_id(self) -> str | None:
        """The stream's id, as soon as it is known."""
        return self._sequence.stream_id or self._opened_id

    def __aiter__(self) -> AsyncIterator[Frame]:
        return self._frames()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def batches(self) -> AsyncGenerator[list[Frame], None]:
        """The frames in lists, as many at once as one read brought."""
        if self._iterated:
            raise RuntimeError("a stream can be iterated once; subscribe to it to read it again")
        self._iterated = True
        try:
            while not (self._sequence.complete or self._over or self._leaving):
                batch, fault = await self._next_batch()
                if batch:
                    yield batch
                if fault is not None:
                    raise fault
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Close the connection and, with *cancel_on_exit*, cancel a stream that has not ended; no frame follows."""
        self._leaving = True
        async with self._one_close:  # a second caller waits until it is done
            await self._drop_connection()
            if self._closed:
                return
            try:
                await self._cancel()
            finally:
                self._closed = True

    async def _frames(self) -> AsyncGenerator[Frame, None]:
        async with aclosing(self.batches()) as batches:
            async for batch in batches:
                for frame in batch:
                    yield frame

    async def _next_batch(self) -> tuple[list[Frame], ProtocolViolation | None]:
        """What comes next, over as many connections as it takes, and what was wrong after it."""
        while True:
            try:
                connection = await self._connected()
                received = await connection.receive()
                if received is None:
                    if not connection.over:
                        raise ConnectionLost("the connection ended before the summary")
                    return [], self._end()
            except (ConnectionLost, Refused) as error:
                if self._leaving:
                    return [], None
                await self._recover(error)
                continue
            batch: list[Frame] = []
            try:
                for frame in received:
                    self._sequence.take(frame)
                    if frame.seq is not None:
                        self._failures = 0
                    if self._heartbeats or not isinstance(frame, Heartbeat):
                        batch.append(frame)
            except ProtocolViolation as error:
                return batch, error
            if batch:
                return batch, None

    def _end(self) -> ProtocolViolation | None:
        """The daemon says that nothing follows: right where it attached at the stream's end, and only there."""
        self._over = True
        if self._sequence.position == (self._after or 0) and self._opening is None:
            return None
        return ProtocolViolation(f"the stream is said to be over after frame {self._sequence.position}, no summary")

    # ── connections ──────────────────────────────────────────────────────────────────────

    async def _connected(self) -> Connection:
        if self._connection is None:
            if self._opening is not None and self._sequence.position == 0:
                self._connection = await self._open(self._opening)
            else:
                assert self.stream_id is not None
                # A reader that chose no position has one once the first frame was there.
                after = self._sequence.position or (self._after if not self._reached else 0)
                self._connection = await attached(self._http(), self._protocol, self.stream_id, after)
            self._reached = True
            self._connected_at_s = asyncio.get_running_loop().time()
        return self._connection

    async def _open(self, opening: Opening) -> Connection:
        http, path, headers = self._http(), opening.paths[self._protocol], {"Idempotency-Key": self._key}
        if self._protocol == "ws":
            if not opening.subscribed:
                return WebSocketConnection(http, await http.websocket(path, query=opening.query, headers=headers))
            self._opened_id = opened_id(await http.ask(opening.method, path, body=opening.body, headers=headers))
            self._reached = True
            return await attached(http, self._protocol, self._opened_id, 0)
        body = BODIES[self._protocol]
        headers["Accept"] = body.content_type
        response = await http.open(opening.method, path, body=opening.body, query=opening.query, headers=headers)
        stream_id = response.headers.get("X-Stream-ID")
        if stream_id is not None and valid_stream_id(stream_id):
            self._opened_id = stream_id
        return body(http, response)

    async def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _cancel(self) -> None:
        if self.cancel_on_exit and not self._sequence.complete and self.stream_id is not None:
            # One that is over, unknown or out of reach needs no cancelling; RuntimeError is an interpreter
            # at its end, which starts no thread for a name to be resolved in.
            with suppress(ClientError, TimeoutError, RuntimeError):
                async with asyncio.timeout(CANCEL_TIMEOUT_S):
                    await self._http().ask("DELETE", stream_path(self.stream_id))

    async def _recover(self, error: ConnectionLost | Refused) -> None:
        """Wait until it is time to try again.  Raises *error*, or what it means, when it is not to be tried."""
        asked_s = self._noticed(error)
        await self._drop_connection()
        if isinstance(error, Refused):
            attached = self._opening is None or self._sequence.position > 0
            if error.status == 404 and self.breaks and attached and self.stream_id is not None:
                raise StreamLost(self.stream_id, self._sequence.position) from error
            if not error.passing:
                raise error
        elif isinstance(error, Unreachable) and not self._reached:
            raise error
        self._failures += 1
        wait_s = self._retry.wait_s(self._failures, random.random(), asked_s)
        if wait_s is None:
            raise error
        await asyncio.sleep(wait_s)

    def _noticed(self, error: ConnectionLost | Refused) -> float:
        """Count *error*; return how many seconds the daemon asks for."""
        if isinstance(error, Refused):
            return error.retry_after_s or 0.0
        if self._connection is None:
            return 0.0
        self.breaks += 1
        if asyncio.get_running_loop().time() - self._connected_at_s > self._retry.cap_s:
            self._failures = 0  # a connection that was quiet for so long was no failed try
        return min(self._connection.retry_s, self._retry.max_wait_s)
