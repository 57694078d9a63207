"""One client's connection: bytes in, requests in their order, bytes out.

A thin shell round machines that know no socket.  It owns when: one request is
answered after the other, each answer written whole or streamed; reading goes on
during a stream, since only so its end is seen; every wait has a deadline.

    READING ⇄ STREAMING        a request is awaited; a stream is being written
       ↓          ↓
       CLOSING                 all is written; what is on its way is still delivered, what comes is thrown away
          ↓
       CLOSED
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import ip_address
from typing import cast

from fastmesh.api.router import Call, Reply, Route, Router, StreamReply
from fastmesh.config import ServerSettings
from fastmesh.errors import ApiError, InternalError, Overloaded, RequestTimeout
from fastmesh.log import get_logger
from fastmesh.metrics import Metrics
from fastmesh.server.flow import QUANTUM_BYTES, Pump
from fastmesh.server.progress import Progress, outstanding
from fastmesh.server.responses import CONTINUE, refusal, request_id, stream_head, whole
from fastmesh.server.timers import NEVER, TimerWheel
from fastmesh.streaming.delivery import Subscriber
from fastmesh.wire.encoders import ChunkedNdjsonEncoder, NdjsonEncoder
from fastmesh.wire.http1 import MAX_BATCH, HttpParser, Phase, Request

log = get_logger()

# Requests that come behind a running stream wait for its end: so many bytes of them.
MAX_BEHIND_BYTES = 65_536
LINGER_S = 2.0
LOOKS_A_TIMEOUT = 4  # so a client that takes nothing is cut off a quarter late at most
UNROUTED = "other"  # the metrics' name for what has no route

_CHUNKED = ChunkedNdjsonEncoder()
_UNTIL_CLOSE = NdjsonEncoder()


class Mode(Enum):
    """What the connection is doing."""

    READING = "reading"
    STREAMING = "streaming"
    CLOSING = "closing"
    CLOSED = "closed"


@dataclass(slots=True)
class Shared:
    """What all connections of a daemon share."""

    settings: ServerSettings
    high_water: int
    low_water: int
    router: Router
    metrics: Metrics
    pump: Pump
    wheel: TimerWheel
    clock: Callable[[], float]
    loop: asyncio.AbstractEventLoop
    connections: set[Connection] = field(default_factory=set)
    draining: bool = False


class Exchange:
    """One request under way: whose it is, and since when."""

    __slots__ = ("began", "request", "request_id", "route")

    def __init__(self, request: Request, began: float) -> None:
        self.request = request
        self.request_id = request_id(request)
        self.began = began
        self.route = UNROUTED


class Connection(asyncio.Protocol):
    """The protocol of one socket, and the sink of the stream that it carries."""

    __slots__ = (
        "_backlog",
        "_begun",
        "_behind",
        "_client",
        "_due",
        "_exchange",
        "_finished",
        "_judged",
        "_local_address",
        "_mode",
        "_parser",
        "_progress",
        "_request_began",
        "_shared",
        "_subscriber",
        "_transport",
        "_written",
        "deadline",
        "filed",
        "paused",
        "queued",
    )

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._mode = Mode.READING
        self._transport: asyncio.Transport | None = None
        self._parser: HttpParser | None = None  # only while a request is under way: idle connections are many
        self._begun = 0  # requests of this parser whose head has a deadline
        self._judged = 0  # and those that were judged before their body was here
        self._backlog: deque[Request] | None = None  # parsed, and not answered yet
        self._behind: bytearray | None = None  # came during a stream
        self._finished = False  # the client sends no more
        self._client: str | None = None
        self._local_address = ""
        self._request_began = 0.0
        self._exchange: Exchange | None = None
        self._subscriber: Subscriber | None = None
        self._progress: Progress | None = None  # while something written may be stuck
        self._written = 0
        self.paused = False
        self.queued = False
        self._due = NEVER  # when what is awaited must be here
        self.deadline = NEVER  # when to look again: then, or earlier for the progress
        self.filed = 0

    # ── what the transport tells ─────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is here; it has so long for its first request."""
        shared = self._shared
        # No isinstance: uvloop's Unix transport is none of asyncio's.
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(shared.high_water, shared.low_water)
        self._client, self._local_address = _addresses(transport)
        shared.connections.add(self)
        self._set_due(shared.clock() + shared.settings.header_timeout_s)
        if len(shared.connections) > shared.settings.max_connections:
            most = shared.settings.max_connections
            self._refuse(Request(), Overloaded(f"{most} connections are open, no more are allowed", retry_after_s=1))

    def data_received(self, data: bytes) -> None:
        """Some bytes came; ends with everything answered that can be answered now."""
        if self._mode is Mode.READING:
            assert self._transport is not None
            if self._transport.is_reading():
                self._feed(data)
            else:  # a read that was under way when reading was paused
                self._keep(data)
        elif self._mode is Mode.STREAMING:
            self._keep(data)

    def eof_received(self) -> bool:
        """The client sends no more.  During a stream that means it is gone, as in nginx; else it gets its answers."""
        self._finished = True
        if self._mode is Mode.STREAMING:
            self._abort()
        elif self._mode is Mode.READING:
            self._close()
        elif self._mode is Mode.CLOSING:
            self._abort_when_written()
        return True  # the transport stays open for what is still to be written

    def pause_writing(self) -> None:
        """The transport has enough: the pump passes this connection by."""
        self.paused = True
        self._watch_progress()
        if self._subscriber is not None:
            self._shared.metrics.protocols[self._subscriber.encoder.protocol].pauses += 1

    def resume_writing(self) -> None:
        """There is room again."""
        self.paused = False
        subscriber = self._subscriber
        if subscriber is not None:
            self._shared.metrics.protocols[subscriber.encoder.protocol].resumes += 1
            if subscriber.wants_service:
                self.ready()
        elif self._mode is Mode.READING:
            self._proceed()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone, and with it who read the stream."""
        self._mode = Mode.CLOSED
        shared = self._shared
        shared.connections.discard(self)
        shared.wheel.forget(self)
        self.deadline = self._due = NEVER
        self._parser = self._backlog = self._behind = None
        subscriber, self._subscriber = self._subscriber, None
        if subscriber is not None:
            subscriber.pipeline.detach()
            self._answered(200)
        self._transport = None

    # ── requests in their order ──────────────────────────────────────────────────────────

    def _feed(self, data: bytes) -> None:
        """Parse *data* and answer what is complete; b"" takes up what is left from before."""
        shared, parser = self._shared, self._parser
        now = shared.clock()
        if parser is None:
            parser = self._parser = HttpParser(shared.settings.max_header_bytes, shared.settings.max_body_bytes)
            self._begun = self._judged = 0
        if parser.phase is Phase.IDLE:
            self._request_began = now
        requests = parser.feed(data)
        self._backlog = deque(requests) or None
        self._answer_backlog()
        if self._mode is Mode.STREAMING and not parser.pending:
            self._parser = None
        if self._mode is not Mode.READING:
            return
        if self._backlog or self.paused or (len(requests) == MAX_BATCH and parser.pending):
            # More is here than one turn answers: no more is read until then.
            self._pause_reading()
            if not self.paused:
                shared.loop.call_soon(self._proceed)
        elif parser.phase is Phase.IDLE:
            self._parser = None
            self._set_due(now + shared.settings.keepalive_timeout_s)
        else:
            self._await_more(parser, now)

    def _answer_backlog(self) -> None:
        """Answer parsed requests until one becomes a stream, or the client must read first."""
        backlog = self._backlog
        while backlog and self._mode is Mode.READING and not self.paused:
            self._answer(backlog.popleft())
        if not backlog:
            self._backlog = None

    def _await_more(self, parser: HttpParser, now: float) -> None:
        """A request is here in part: until when must the rest be here?  Absolute, from the first byte of each part."""
        settings, awaited = self._shared.settings, parser.awaiting_body
        if awaited is None:
            if parser.begun != self._begun:
                self._begun = parser.begun
                self._request_began = now
                if self._written:  # the first request's time runs since the connection was made
                    self._set_due(now + settings.header_timeout_s)
        elif parser.begun != self._judged:
            self._judged = parser.begun
            self._set_due(now + settings.body_timeout_s)
            self._judge_early(parser, awaited)

    def _judge_early(self, parser: HttpParser, request: Request) -> None:
        """A head is here and its body is not: who would be refused anyway need not send it (RFC 9110, 10.1.1)."""
        try:
            self._shared.router.find(self._call(Exchange(request, self._request_began)))
        except ApiError as error:
            self._refuse(request, error)
            return
        if request.expects_continue and not parser.pending:
            self._send(CONTINUE)

    def _proceed(self) -> None:
        """Take up what waited: parsed requests, then bytes."""
        if self._mode is not Mode.READING or self.paused:
            return
        self._answer_backlog()
        if self._mode is not Mode.READING or self.paused or self._backlog:
            return
        behind, self._behind = self._behind, None
        self._resume_reading()
        self._feed(bytes(behind or b""))

    def _keep(self, data: bytes) -> None:
        """Keep what must wait, within bounds."""
        behind = self._behind
        if behind is None:
            behind = self._behind = bytearray()
        behind += data
        # One read that was under way when reading was paused may be as large as the transport's buffer.
        if self._mode is Mode.STREAMING and len(behind) > MAX_BEHIND_BYTES:
            log.warning("connection.too_much_behind_stream", request_id=self._exchange and self._exchange.request_id)
            self._abort()

    # ── one request ──────────────────────────────────────────────────────────────────────

    def _answer(self, request: Request) -> None:
        exchange = Exchange(request, self._request_began)
        self._exchange = exchange
        call = self._call(exchange)
        try:
            route = self._shared.router.find(call)
            exchange.route = route.name
            reply = route.handler(call)
            if isinstance(reply, StreamReply):
                self._start_stream(request, route, reply)
                return
        except ApiError as error:
            reply = refusal(error, exchange.request_id)
        except Exception as error:
            log.error("request.bug", request_id=exchange.request_id, exc_info=error)
            if self._mode is not Mode.READING:  # the stream has begun: there is no room for an answer any more
                self._abort()
                return
            reply = refusal(InternalError("the request failed by a fault of the server"), exchange.request_id)
        self._reply(request, reply)

    def _reply(self, request: Request, reply: Reply) -> None:
        exchange = self._exchange
        assert exchange is not None
        keep_alive = request.keep_alive and not self._shared.draining
        with_body = request.method != "HEAD"
        self._send(whole(reply, exchange.request_id, minor=request.minor, keep_alive=keep_alive, with_body=with_body))
        self._answered(reply.status)
        if not keep_alive:
            self._close()

    def _refuse(self, request: Request, error: ApiError) -> None:
        """Answer *request* with *error* and close: what follows it cannot be read."""
        request.keep_alive = False
        self._exchange = Exchange(request, self._request_began or self._shared.clock())
        self._reply(request, refusal(error, self._exchange.request_id))

    def _call(self, exchange: Exchange) -> Call:
        return Call(exchange.request, exchange.request_id, self._client, self._local_address)

    def _answered(self, status: int) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        shared = self._shared
        took_s = shared.clock() - exchange.began
        method = exchange.request.method if exchange.route != UNROUTED else UNROUTED
        shared.metrics.requests[exchange.route, method, status] += 1
        shared.metrics.request_seconds.labels(exchange.route).observe(took_s)
        log.debug(
            "request.answered",
            request_id=exchange.request_id,
            route=exchange.route,
            method=exchange.request.method,
            status=status,
            took_ms=round(took_s * 1000, 2),
        )

    # ── a stream ─────────────────────────────────────────────────────────────────────────

    def _start_stream(self, request: Request, route: Route, reply: StreamReply) -> None:
        """Open the stream; head and metadata leave in one write, in this turn of the loop."""
        exchange = self._exchange
        assert exchange is not None
        chunked = request.minor == 1
        encoder = _CHUNKED if chunked else _UNTIL_CLOSE
        request.keep_alive = keep_alive = request.keep_alive and chunked and not self._shared.draining
        if request.method == "HEAD":
            self._send(
                stream_head(encoder.content_type, exchange.request_id, None, minor=request.minor, keep_alive=keep_alive)
            )
            self._answered(200)
            if not keep_alive:
                self._close()
            return
        subscriber = reply.open(encoder, self)
        stream_id = subscriber.pipeline.id
        head = stream_head(
            encoder.content_type, exchange.request_id, stream_id, minor=request.minor, keep_alive=keep_alive
        )
        self._mode = Mode.STREAMING
        self._subscriber = subscriber
        self._set_due(NEVER)
        self._resume_reading()
        subscriber.serve(QUANTUM_BYTES, head)
        ttfb_s = self._shared.clock() - exchange.began
        self._shared.metrics.ttfb.labels(encoder.protocol).observe(ttfb_s)

    def serve(self, max_bytes: int) -> int:
        """The pump's turn for this connection."""
        subscriber = self._subscriber
        if subscriber is None or self.paused:
            return 0
        try:
            written = subscriber.serve(max_bytes)
            if self._subscriber is not None and subscriber.wants_service:
                self.ready()
        except Exception as error:
            log.error("stream.bug", stream_id=subscriber.pipeline.id, exc_info=error)
            self._abort()
            return 0
        return written

    def write(self, data: bytes) -> None:
        """The sink's side: take *data*; ``paused`` says when it is enough."""
        self._send(data)

    def ready(self) -> None:
        """The sink's side: there is something to serve."""
        if self._subscriber is not None and not self.paused:
            self._shared.pump.add(self)

    def end(self) -> None:
        """The sink's side: the stream's last byte was written."""
        subscriber, self._subscriber = self._subscriber, None
        exchange = self._exchange
        assert subscriber is not None
        assert exchange is not None
        subscriber.pipeline.detach()
        keep_alive = exchange.request.keep_alive
        self._answered(200)
        if self._mode is not Mode.STREAMING:
            return
        self._mode = Mode.READING
        if not keep_alive:
            self._close()
            return
        now = self._shared.clock()
        self._set_due(now + self._shared.settings.keepalive_timeout_s)
        if self._behind or self._backlog or (self._parser is not None and self._parser.pending):
            self._pause_reading()
            self._shared.loop.call_soon(self._proceed)
        else:
            self._parser = None

    # ── writing, waiting, closing ────────────────────────────────────────────────────────

    @property
    def idle(self) -> bool:
        """Whether nothing of a request is here and all answers were given."""
        return self._mode is Mode.READING and self._parser is None and not self._backlog

    def drain(self) -> None:
        """The daemon is on its way out: close when idle, else after what is under way."""
        if self.idle:
            self._abort_when_written()

    def abort(self) -> None:
        """Close now, whatever is still to be written."""
        self._abort()

    def _send(self, data: bytes) -> None:
        # A transport takes writes after its close, without a bound and to no end.
        if self._transport is None or self._mode in (Mode.CLOSING, Mode.CLOSED):
            return
        self._written += len(data)
        self._transport.write(data)

    def _set_due(self, due: float) -> None:
        self._due = due
        self._look_again()

    def _look_again(self) -> None:
        """When the wheel shall look at this connection next."""
        self.deadline = self._due
        if self._progress is not None:
            pause_s = min(LINGER_S, self._shared.settings.write_stall_timeout_s / LOOKS_A_TIMEOUT)
            self.deadline = min(self._due, self._shared.clock() + pause_s)
        self._shared.wheel.file(self)

    def _watch_progress(self) -> None:
        if self._progress is None:
            self._progress = Progress(self._shared.clock())
            self._look_again()

    def expired(self, now: float) -> None:
        """The wheel's call: it is time to look."""
        if self._progress is not None and self._transport is not None:
            left = outstanding(self._transport)
            if self._progress.look(self._written, left, now) >= self._shared.settings.write_stall_timeout_s:
                log.info("connection.write_stall", request_id=self._exchange and self._exchange.request_id, bytes=left)
                self._abort()
                return
            if not left and not self.paused:
                self._progress = None
            elif self._mode is Mode.CLOSING:
                self._due = now + LINGER_S  # counts from when all is delivered
        if now < self._due:
            self._look_again()
            return
        self._due = self.deadline = NEVER
        if self._mode is Mode.CLOSING:
            self._abort()
        elif self._mode is Mode.READING and self._transport is not None and self._transport.is_reading():
            self._too_late()

    def _too_late(self) -> None:
        parser = self._parser
        if parser is None or parser.phase is Phase.IDLE:
            self._abort_when_written()  # nothing was asked, nothing is unread
            return
        what = "head" if parser.awaiting_body is None else "body"
        self._refuse(parser.awaiting_body or Request(), RequestTimeout(f"the {what} of the request came too slowly"))

    def _close(self) -> None:
        """No more is written or read; what was written is still delivered.

        Closing with unread input would send RST, and the client would lose what
        is on its way: so input is read and thrown away until the client's end, for
        LINGER_S at most once all is delivered.
        """
        if self._mode in (Mode.CLOSING, Mode.CLOSED):
            return
        self._mode = Mode.CLOSING
        self._parser = self._backlog = self._behind = None
        transport = self._transport
        assert transport is not None
        self._resume_reading()
        transport.write_eof()
        self._set_due(self._shared.clock() + LINGER_S)
        self._watch_progress()
        if self._finished:
            self._abort_when_written()

    def _abort_when_written(self) -> None:
        """No input is unread: what the kernel has is still delivered after the close, without an RST."""
        if self._transport is None:
            return
        if self._transport.get_write_buffer_size():
            self._close()
        else:
            self._abort()

    def _abort(self) -> None:
        if self._transport is not None and self._mode is not Mode.CLOSED:
            self._mode = Mode.CLOSED
            self._transport.abort()

    def _pause_reading(self) -> None:
        if self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_reading():
            self._transport.resume_reading()


def _addresses(transport: asyncio.Transport) -> tuple[str | None, str]:
    """For whom its streams are counted (None: nobody), and the address that it came to."""
    peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    if not isinstance(peer, tuple) or not isinstance(own, tuple):  # a Unix socket
        return None, ""
    client = str(peer[0]).partition("%")[0]
    return None if ip_address(client).is_loopback else client, str(own[0])
