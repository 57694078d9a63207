"""One client's connection as a WebSocket: messages to its session, its session's frames to the socket.

What is read is worked off in slices, so that no flood holds the loop; what is
answered to a client that does not read is bounded; a client that was not heard
for a while is pinged, and closed when no byte comes.
"""

from __future__ import annotations

import asyncio

from fastmesh.api.websocket.session import SocketSession
from fastmesh.server.context import Context
from fastmesh.server.peer import OPEN, Peer
from fastmesh.streaming.pipeline import StreamingPipeline
from fastmesh.telemetry.log import get_logger
from fastmesh.telemetry.trace import Trace
from fastmesh.wire.encoders import WebSocketEncoder
from fastmesh.wire.websocket.events import Binary, Ended, Event, Ping, Text
from fastmesh.wire.websocket.machine import WebSocketMachine

log = get_logger()

# Answers that wait for a client that does not read: with more of them its commands wait too.
MAX_ANSWERS_BYTES = 65_536
NOT_TEXT, GOING_AWAY, NO_PONG = 1003, 1001, 1011


class WebSocketPeer(Peer):
    """The protocol of a socket after its upgrade, and the port of its session."""

    __slots__ = (
        "_answers_bytes",
        "_client",
        "_connection",
        "_heard_at",
        "_machine",
        "_pinged_at",
        "_request_id",
        "_session",
        "_trace",
    )

    def __init__(
        self,
        shared: Context,
        machine: WebSocketMachine,
        request_id: str,
        client: str | None,
        connection: int,
        trace: Trace,
    ) -> None:
        super().__init__(shared)
        self._machine = machine
        self._request_id = request_id
        self._client = client
        self._connection = connection
        self._trace = trace
        self._session: SocketSession | None = None
        self._heard_at = shared.clock()
        self._pinged_at: float | None = None  # while an answer is awaited
        self._answers_bytes = 0  # written while the transport had enough

    def begin(
        self,
        transport: asyncio.BaseTransport,
        head: bytes,
        stream: StreamingPipeline | None,
        rest: bytes,
        began: float,
    ) -> None:
        """Take over *transport*: *head* and the welcome leave in one write; *stream* is read, *rest* was received.

        The request's first byte was here at *began* seconds.
        """
        shared, machine = self._shared, self._machine
        self._made(transport)
        encoder = WebSocketEncoder(machine.text) if machine.compresses else shared.encoders["websocket", False]
        self._session = session = SocketSession(
            shared.module.registry,
            shared.plans,
            self,
            encoder,
            request_id=self._request_id,
            client=self._client,
            connection=self._connection,
            trace=self._trace,
            observe_ttfb=shared.metrics.ttfb.labels("websocket").observe,
        )
        self.send(head + session.welcome())
        if stream is not None:
            session.read(stream, began)
        self._set_due(self._heard_at + shared.stream.ws_ping_s)
        self._resume_reading()
        if rest:
            self.data_received(rest)

    # ── what the transport tells ─────────────────────────────────────────────────────────

    def data_received(self, data: bytes) -> None:
        """Some bytes came: life, and perhaps commands."""
        if self.life == OPEN:
            self._heard_at = self._shared.clock()
            if self._pinged_at is not None:
                self._pinged_at = None
                self._set_due(self._heard_at + self._shared.stream.ws_ping_s)
            self._machine.receive(data)
            self.go_on()

    def eof_received(self) -> bool:
        """The client is gone."""
        self._finished = True
        self._abort_when_written()
        return self._half_open

    def pause_writing(self) -> None:
        """The transport has enough."""
        super().pause_writing()
        self._shared.metrics.protocols["websocket"].pauses += 1

    def resume_writing(self) -> None:
        """There is room again."""
        super().resume_writing()
        self._shared.metrics.protocols["websocket"].resumes += 1
        self._answers_bytes = 0
        if self._session is not None:
            self._session.resumed()
        self.go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone, and with it who read its streams."""
        self._lost()
        self._let_go()

    # ── what was read ────────────────────────────────────────────────────────────────────

    def go_on(self) -> None:
        """Carry out a slice of what was read; the rest waits for its turn, and no more is read until then."""
        if self.waits or self.life != OPEN:
            return
        if self._answers_bytes > MAX_ANSWERS_BYTES:
            self._pause_reading()
            return
        try:
            for event in self._machine.events(self._shared.clock()):
                if self.life != OPEN:
                    return
                self._take(event)
        except Exception as error:
            log.error("connection.bug", request_id=self._request_id, exc_info=error)
            self.abort()
            return
        if self.life != OPEN:
            return
        if self._machine.pending:
            self._pause_reading()
            self._shared.intake.wait(self)
        else:
            self._resume_reading()

    def _take(self, event: Event) -> None:
        session = self._session
        assert session is not None
        match event:
            case Text(data):
                session.command(data)
            case Ping(payload):
                self.send(self._machine.pong(payload))
            case Binary():
                self.close(NOT_TEXT, "messages are text")
            case Ended(code, reason, reply):
                log.debug("websocket.ended", request_id=self._request_id, code=code, reason=reason)
                self.send(reply)
                self._close()

    # ── the session's port ───────────────────────────────────────────────────────────────

    def send(self, data: bytes) -> None:
        """Write *data*; what is written although the transport has enough is counted."""
        if self.paused:
            self._answers_bytes += len(data)
        super().send(data)

    def serve(self, max_bytes: int) -> int:
        """The pump's turn for this connection."""
        session = self._session
        if session is None or self.paused:
            return 0
        try:
            written = session.serve(max_bytes)
        except Exception as error:
            log.error("stream.bug", request_id=self._request_id, exc_info=error)
            self.abort()
            return 0
        if session.wants_service:
            self.ready()
        return written

    # ── waiting and closing ──────────────────────────────────────────────────────────────

    @property
    def request_id(self) -> str | None:
        """Of the request that opened it."""
        return self._request_id

    @property
    def client(self) -> str | None:
        """Who opened it."""
        return self._client

    @property
    def idle(self) -> bool:
        """Whether it reads no stream."""
        return self._session is None or not self._session.streams

    def drain(self) -> None:
        """Close when no stream is read any more."""
        if self.idle:
            self.close(GOING_AWAY, "the daemon is shutting down")

    def close(self, code: int, reason: str, within_s: float | None = None) -> None:
        """Say goodbye; what was written before is still delivered, *within_s* where that is given."""
        self.send(self._machine.close(code, reason))
        self._close(within_s)

    def _cut_off(self) -> None:
        if self._session is not None:
            self._session.cut_off()
        super()._cut_off()

    def _too_late(self) -> None:
        """Nothing was heard for a while: ping; nothing after the ping: it is gone."""
        now, stream = self._shared.clock(), self._shared.stream
        if self.idle and self._aged():
            self.close(GOING_AWAY, "the connection is old")
            return
        due = self._heard_at + stream.ws_ping_s
        if self._pinged_at is not None:
            due = self._pinged_at + stream.ws_pong_timeout_s
            if now >= due and self._progress is None:
                self.close(NO_PONG, "no pong")
                return
        elif now >= due:
            self.send(self._machine.ping(b""))
            self._pinged_at = now
            due = now + stream.ws_pong_timeout_s
        # While bytes wait for the client so does the ping behind them: then the write-stall timeout judges.
        self._set_due(due if now < due else now + stream.ws_pong_timeout_s)

    def _let_go(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()
