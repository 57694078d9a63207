"""One client's connection as a WebSocket: messages to its session, its session's frames to the socket.

Its input is worked off in slices, so that no flood holds the loop; answers to a client that does not read are bounded;
a client that was not heard for a while is pinged, and closed when no byte comes.
"""

from __future__ import annotations

from fastmesh.api.calls import Call, SocketReply
from fastmesh.api.websocket.session import SocketSession
from fastmesh.server.context import Context
from fastmesh.server.intake import SLICE_S
from fastmesh.server.peer import OPEN, Peer
from fastmesh.streaming.pipeline import StreamingPipeline
from fastmesh.telemetry.log import get_logger
from fastmesh.wire.encoders import WebSocketEncoder
from fastmesh.wire.websocket.handshake import upgrade
from fastmesh.wire.websocket.machine import Binary, Ended, Event, Limits, Ping, Text, WebSocketMachine

log = get_logger()

# Answers that wait for a client that does not read: with more of them its commands wait too.
MAX_ANSWERS_BYTES = 65_536
NOT_TEXT, GOING_AWAY, NO_PONG = 1003, 1001, 1011

Fields = list[tuple[str, str]]


class WebSocketPeer(Peer):
    """The protocol of a socket after its upgrade, and the port of its session."""

    __slots__ = ("_answers_bytes", "_heard_at", "_machine", "_pinged_at", "_session", "client", "request_id")

    request_id: str  # of the request that opened it
    client: str | None  # who opened it

    def __init__(self, shared: Context, machine: WebSocketMachine, call: Call) -> None:
        super().__init__(shared)
        self._machine = machine
        self.request_id = call.request_id
        self.client = call.client
        self._heard_at = shared.clock()
        self._pinged_at: float | None = None  # while an answer is awaited
        self._answers_bytes = 0  # written while the transport had enough
        self._session: SocketSession | None = SocketSession(
            shared.module.registry,
            shared.plans,
            self,
            WebSocketEncoder(machine.text) if machine.compresses else shared.encoders["websocket", False],
            request_id=call.request_id,
            client=call.client,
            connection=call.connection,
            trace=call.trace,
            observe_ttfb=shared.metrics.ttfb.labels("websocket").observe,
        )

    @classmethod
    def take_over(cls, http: Peer, call: Call, reply: SocketReply, fields: Fields, rest: bytes, began: float) -> None:
        """Speak WebSocket where *http* spoke HTTP: the answer to *call* and the welcome leave in one write.

        The answer has *fields* beside the handshake's own.  *rest* was received behind the
        request, whose first byte was here at *began* seconds.  Raises an ApiError while it can still be refused.
        """
        shared = http.shared
        limits = Limits(max_message_bytes=shared.stream.ws_max_message_bytes)
        head, machine = upgrade(call.request, fields, limits=limits, deflate=shared.stream.ws_deflate)
        stream = reply.open()
        peer = cls(shared, machine, call)
        http.hand_over(peer)
        try:
            peer._begin(head, stream, rest, began)
        except BaseException:
            peer.abort()
            raise

    def _begin(self, head: bytes, stream: StreamingPipeline | None, rest: bytes, began: float) -> None:
        session = self._session
        assert session is not None
        self.send(head + session.welcome())
        if stream is not None:
            session.read(stream, began)
        self._set_due(self._heard_at + self.shared.stream.ws_ping_s)
        self._resume_reading()
        if rest:
            self.data_received(rest)

    # ── calls of the transport ─────────────────────────────────────────────────────────

    def data_received(self, data: bytes) -> None:
        """Some bytes came: life, and perhaps commands."""
        if self.life == OPEN:
            self._heard_at = self.shared.clock()
            if self._pinged_at is not None:
                self._pinged_at = None
                self._set_due(self._heard_at + self.shared.stream.ws_ping_s)
            self._machine.receive(data)
            self._go_on()

    def eof_received(self) -> bool:
        """The client is gone."""
        self._finished = True
        self._abort_when_written()
        return self._half_open

    def pause_writing(self) -> None:
        super().pause_writing()
        self.shared.metrics.protocols["websocket"].pauses += 1

    def resume_writing(self) -> None:
        super().resume_writing()
        self.shared.metrics.protocols["websocket"].resumes += 1
        self._answers_bytes = 0
        if self._session is not None:
            self._session.resumed()
        self._go_on()

    def _go_on(self, slice_s: float = SLICE_S) -> None:  # the machine has bounds of its own
        if self.waits or self.life != OPEN:
            return
        if self._answers_bytes > MAX_ANSWERS_BYTES:
            self._pause_reading()
            return
        try:
            for event in self._machine.events(self.shared.clock()):
                if self.life != OPEN:
                    return
                self._take(event)
        except Exception as error:
            log.error("connection.bug", request_id=self.request_id, exc_info=error)
            self.abort()
            return
        if self.life != OPEN:
            return
        if self._machine.pending:
            self._pause_reading()
            self.shared.intake.wait(self)
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
                log.debug("websocket.ended", request_id=self.request_id, code=code, reason=reason)
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
            log.error("stream.bug", request_id=self.request_id, exc_info=error)
            self.abort()
            return 0
        if session.wants_service:
            self.ready()
        return written

    @property
    def idle(self) -> bool:
        """Whether it reads no stream."""
        return self._session is None or not self._session.streams

    def drain(self) -> None:
        """Close when no stream is read any more."""
        if self.idle:
            self.close(GOING_AWAY, "the daemon is shutting down")

    def close(self, code: int, reason: str, within_s: float | None = None) -> None:
        """Send a close frame; all that was written before is still delivered, *within_s* where that is given."""
        self.send(self._machine.close(code, reason))
        self._close(within_s)

    def _cut_off(self) -> None:
        if self._session is not None:
            self._session.cut_off()
        super()._cut_off()

    def _too_late(self) -> None:
        """The client was not heard for a while: ping it; not after the ping either: it is gone."""
        now, stream = self.shared.clock(), self.shared.stream
        if self.idle and self._aged():
            self.close(GOING_AWAY, "the connection is old")
            return
        due = self._heard_at + stream.ws_ping_s
        if self._pinged_at is not None:
            due = self._pinged_at + stream.ws_pong_timeout_s
            if now >= due and self._stall is None:
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
