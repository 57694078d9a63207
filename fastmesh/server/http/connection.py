"""One client's connection as HTTP: requests in, their answers out in order.

It owns when: one request is answered after the other, each answer written whole
or streamed; reading goes on during a stream, since only so its end is seen.
"""

from __future__ import annotations

import asyncio

from fastmesh.api.calls import Call, Reply, SocketReply, StreamReply
from fastmesh.errors import ApiError, InternalError, Overloaded, RateLimited, RequestTimeout, bare
from fastmesh.server.context import Context
from fastmesh.server.http.responses import CONTINUE, refusal, request_id, socket_fields, stream_head, whole
from fastmesh.server.intake import SLICE_S
from fastmesh.server.peer import CLOSED, CLOSING, OPEN, Peer, addresses
from fastmesh.server.per_peer import Place
from fastmesh.server.timers import NEVER
from fastmesh.server.websocket import WebSocketPeer
from fastmesh.streaming.subscriber import Subscriber
from fastmesh.telemetry.log import get_logger
from fastmesh.telemetry.trace import HEADER, Trace
from fastmesh.wire.http1 import MAX_STEPS, HttpParser, Phase, Request
from fastmesh.wire.websocket.handshake import upgrade
from fastmesh.wire.websocket.machine import Limits
from fastmesh.wire.whole import WholeEncoder

log = get_logger()

# What came is worked off at once up to so many bytes, with more of them it waits for its turn: a body of 1 MB may take
# 10 ms, and many may be whole in one turn of the loop.
AT_ONCE_BYTES = 16_384
# Requests that come behind a running stream wait for its end: so many bytes of them.
MAX_BEHIND_BYTES = 65_536
# TLS tells the client's end together with what came before it, and takes no answer afterwards: so many requests are
# answered then, in so many steps of the parser.
MAX_AT_END = 64
STEPS_AT_END = 2048
RETRY_S = 1.0  # what is late while the daemon itself is, is looked at again
NO_TRACE = Trace("", "")  # of what is only judged
BUG = "the request failed by a fault of the server"  # all that a client is told of one
UNROUTED = "other"  # the metrics' name for what has no route
CONTENT_TYPES = {"ndjson": "application/x-ndjson", "sse": "text/event-stream", "json": "application/json"}


class Exchange:
    """What is known of the request under way as long as its answer is written: of streams there are many."""

    __slots__ = ("began", "keep_alive", "method", "request_id", "route", "trace")

    def __init__(self, request: Request, began: float) -> None:
        self.method = request.method
        self.keep_alive = request.keep_alive
        self.request_id = request_id(request)
        self.trace = Trace.of(request.headers.get(HEADER))
        self.began = began
        self.route = UNROUTED


class Connection(Peer):
    """The protocol of one socket, and the sink of the stream that it carries."""

    __slots__ = (
        "_begun",
        "_client",
        "_exchange",
        "_judged",
        "_local_address",
        "_number",
        "_parser",
        "_request_began",
    )

    reader: Subscriber | None  # while a stream is written

    def __init__(self, shared: Context, place: Place | None = None) -> None:
        super().__init__(shared)
        self.born = shared.clock()
        self.place = place
        self._parser: HttpParser | None = None  # only while something of a request is here: idle connections are many
        self._begun = 0  # requests of this parser whose head has a deadline
        self._judged = 0  # and those that were judged before their body was here
        self._client: str | None = None
        self._number = next(shared.numbers)
        self._local_address = ""
        self._request_began = 0.0
        self._exchange: Exchange | None = None

    # ── what the transport tells ─────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is here; it has so long for its first request."""
        shared = self._shared
        self._made(transport)
        assert self.transport is not None
        self._client, self._local_address = addresses(self.transport)
        self._set_due(shared.clock() + shared.settings.header_timeout_s)
        if len(shared.connections) > shared.settings.max_connections:
            most = shared.settings.max_connections
            self._refuse(Request(), Overloaded(f"{most} connections are open, no more are allowed", retry_after_s=1))
        elif self.place is not None and self.place.refused:
            most = shared.settings.max_connections_per_peer
            why = f"this peer has {most} connections open, no more are allowed (SERVER__MAX_CONNECTIONS_PER_PEER)"
            self._refuse(Request(), RateLimited(why, retry_after_s=1))

    def data_received(self, data: bytes) -> None:
        """Some bytes came; ends with everything answered that can be answered now."""
        if self.life != OPEN:
            return
        if self.reader is not None and not self._goes_on:
            return  # the connection ends with its stream
        parser = self._parser
        if parser is None:
            settings = self._shared.settings
            parser = self._parser = HttpParser(settings.max_header_bytes, settings.max_body_bytes)
            self._begun = self._judged = 0
        parser.receive(data)
        if self.reader is not None:
            self._bound_behind(parser)
        elif self.waits:  # this read was under way when reading was paused
            pass
        elif parser.held > AT_ONCE_BYTES:
            self._wait()
        else:
            self.go_on()

    def eof_received(self) -> bool:
        """The client sends no more.  During a stream that means it is gone, as in nginx; else it gets its answers."""
        self._finished = True
        if self.life == OPEN and self.reader is None:
            self._answer_at_end()
        if self.life == CLOSING:
            self._abort_when_written()
        elif self.reader is not None:
            self.abort()
        else:
            self._close()
        return self._half_open

    def pause_writing(self) -> None:
        """The transport has enough: the pump passes this connection by."""
        super().pause_writing()
        if self.reader is not None:
            self._shared.metrics.protocols[self.reader.encoder.protocol].pauses += 1

    def resume_writing(self) -> None:
        """There is room again."""
        super().resume_writing()
        subscriber = self.reader
        if subscriber is not None:
            self._shared.metrics.protocols[subscriber.encoder.protocol].resumes += 1
            if subscriber.wants_service:
                self.ready()
        elif not self.waits:
            self.go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone, and with it who read the stream."""
        self._lost()
        self._let_go()
        subscriber, self.reader = self.reader, None
        if subscriber is not None:
            subscriber.pipeline.detach(subscriber)
            self._answered(200)

    # ── requests in their order ──────────────────────────────────────────────────────────

    def go_on(self) -> None:
        """Answer a slice of what was received; the rest waits for its turn, and no more is read until then."""
        shared, parser = self._shared, self._parser
        if parser is None or not self._reading:
            return
        began = now = shared.clock()
        while parser.pending and self._reading and not self.paused and now - began < SLICE_S:
            if not self._answer_next(parser, now):
                break
            if parser.pending:
                now = shared.clock()
        if self.reader is not None:
            if not self._goes_on or not parser.held:
                self._parser = None
            else:
                self._bound_behind(parser)
        if not self._reading:
            return
        if self.paused:  # the client must read first
            self._pause_reading()
        elif parser.pending:
            self._wait()
        else:
            self._resume_reading()
            if parser.phase is Phase.IDLE:
                self._parser = None
                self._set_due(self._kept_until(now))
            else:
                self._await_more(parser, now)

    def _wait(self) -> None:
        """Go on when it is this connection's turn, and read no more until then."""
        self._pause_reading()
        self._shared.intake.wait(self)

    def _answer_next(self, parser: HttpParser, now: float) -> bool:
        """Answer the next request; False when none is whole yet, or not read in so many steps."""
        if parser.phase is Phase.IDLE:
            self._request_began = now
        try:
            request = parser.next_request()
        except Exception as error:
            log.error("request.bug", request_id=None, exc_info=error)
            self._refuse(parser.awaiting_body or Request(), InternalError(BUG))
            return False
        if request is None:
            return False
        self._answer(request)
        return True

    def _answer_at_end(self) -> None:
        """Answer what waits for its turn, for the last time: only TLS comes here with anything that does."""
        parser, steps = self._parser, STEPS_AT_END
        until = self.written + self._shared.high_water
        for _ in range(MAX_AT_END):
            while parser is not None and parser.pending and self._reading and self.written < until and steps > 0:
                if self._answer_next(parser, self._shared.clock()):
                    break
                steps -= MAX_STEPS

    def _bound_behind(self, parser: HttpParser) -> None:
        """What came behind a running stream waits for its end, within bounds: wherever the bytes were cut."""
        if parser.held > MAX_BEHIND_BYTES:
            log.warning("connection.too_much_behind_stream", request_id=self.request_id)
            self.abort()

    def _await_more(self, parser: HttpParser, now: float) -> None:
        """A request is here in part: until when must the rest be here?  Absolute, from the first byte of each part."""
        settings, awaited = self._shared.settings, parser.awaiting_body
        if awaited is None:
            if parser.begun != self._begun:
                self._begun = parser.begun
                self._request_began = now
                if self.written:  # the first request's time runs since the connection was made
                    self._set_due(now + settings.header_timeout_s)
        elif parser.begun != self._judged:
            self._judged = parser.begun
            self._set_due(now + settings.body_timeout_s)
            self._judge_early(parser, awaited)

    def _judge_early(self, parser: HttpParser, request: Request) -> None:
        """A head is here and its body is not: who would be refused anyway need not send it (RFC 9110, 10.1.1)."""
        try:
            self._shared.router.find(self._call(request, "", NO_TRACE))
        except ApiError as error:
            self._refuse(request, error)
            return
        if request.expects_continue and not parser.held:
            self.send(CONTINUE)

    # ── one request ──────────────────────────────────────────────────────────────────────

    def _answer(self, request: Request) -> None:
        exchange = Exchange(request, self._request_began)
        self._exchange = exchange
        call = self._call(request, exchange.request_id, exchange.trace)
        try:
            route, call = self._shared.router.find(call)
            exchange.route = route.name
            reply = route.handler(call)
            if isinstance(reply, StreamReply):
                self._start_stream(request, reply)
                return
            if isinstance(reply, SocketReply):
                self._start_socket(request, reply, call.client)
                return
        except ApiError as error:  # the request may have it, as its fault
            reply = refusal(bare(error), exchange.request_id)
        except Exception as error:
            log.error("request.bug", request_id=exchange.request_id, trace_id=exchange.trace.trace_id, exc_info=error)
            if not self._reading:  # the stream has begun: there is no room for an answer any more
                self.abort()
                return
            reply = refusal(InternalError(BUG), exchange.request_id)
        self._reply(request, reply)

    def _reply(self, request: Request, reply: Reply) -> None:
        exchange = self._exchange
        assert exchange is not None
        keep_alive = request.keep_alive and not self._shared.draining and not self._aged()
        with_body = request.method != "HEAD"
        cors = self._shared.router.cors_fields(request)
        self.send(
            whole(reply, exchange.request_id, cors, minor=request.minor, keep_alive=keep_alive, with_body=with_body)
        )
        self._answered(reply.status)
        if not keep_alive:
            self._close()

    def _refuse(self, request: Request, error: ApiError) -> None:
        """Answer *request* with *error* and close: what follows it cannot be read."""
        request.keep_alive = False
        self._exchange = Exchange(request, self._request_began or self._shared.clock())
        self._reply(request, refusal(error, self._exchange.request_id))

    def _call(self, request: Request, request_id: str, trace: Trace) -> Call:
        return Call(request, request_id, self._client, self._local_address, self._number, trace)

    def _answered(self, status: int) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        shared = self._shared
        took_s = shared.clock() - exchange.began
        method = exchange.method if exchange.route != UNROUTED else UNROUTED
        shared.metrics.requests[exchange.route, method, status] += 1
        shared.metrics.request_seconds.labels(exchange.route).observe(took_s)
        log.debug(
            "request.answered",
            request_id=exchange.request_id,
            trace_id=exchange.trace.trace_id,
            route=exchange.route,
            method=exchange.method,
            status=status,
            took_ms=round(took_s * 1000, 2),
        )

    # ── a stream ─────────────────────────────────────────────────────────────────────────

    def _start_stream(self, request: Request, reply: StreamReply) -> None:
        """Open the stream; head and metadata leave in one write, in this turn of the loop."""
        exchange, shared = self._exchange, self._shared
        assert exchange is not None
        chunked = request.minor == 1
        exchange.keep_alive = request.keep_alive and chunked and not shared.draining and not self._aged()
        fields = [("Content-Type", CONTENT_TYPES[reply.encoding]), *shared.router.cors_fields(request)]
        if request.method == "HEAD":
            self.send(stream_head(fields, exchange.request_id, minor=request.minor, keep_alive=exchange.keep_alive))
            self._answered(200)
            if not exchange.keep_alive:
                self._close()
            return
        own = reply.encoding == "json"
        encoder = WholeEncoder(chunked=chunked) if own else shared.encoders[reply.encoding, chunked]
        subscriber = reply.attach(encoder, self)
        pipeline = subscriber.pipeline
        log.debug(
            "stream.attached",
            stream_id=pipeline.id,
            request_id=exchange.request_id,
            trace_id=exchange.trace.trace_id,
            protocol=encoder.protocol,
        )
        exchange.trace = pipeline.opening.trace  # one object for all that read: of these there are many
        fields.append(("X-Stream-ID", pipeline.id))
        head = stream_head(fields, exchange.request_id, minor=request.minor, keep_alive=exchange.keep_alive)
        self.reader = subscriber
        self._set_due(NEVER)
        self._resume_reading()
        subscriber.serve(shared.module.registry.first_bytes.share(), head + encoder.begin())
        shared.metrics.ttfb.labels(encoder.protocol).observe(shared.clock() - exchange.began)

    def failed(self, error: Exception) -> None:
        """The stream's delivery raised *error*, perhaps at its very end, when the reader is gone."""
        named = {} if self.reader is None else self.reader.pipeline.named
        log.error("stream.bug", **named, exc_info=error)
        self.abort()

    write = Peer.send  # the sink's side
    give_up = Peer.abort

    def beat(self, data: bytes) -> None:
        """The sink's side: take a heartbeat; a client that does not acknowledge it in time is gone."""
        self.send(data)
        self._watch_progress()

    def end(self) -> None:
        """The sink's side: the stream's last byte was written."""
        subscriber, self.reader = self.reader, None
        exchange = self._exchange
        assert subscriber is not None
        assert exchange is not None
        subscriber.pipeline.detach(subscriber)
        keep_alive = exchange.keep_alive
        self._answered(200)
        if self.life != OPEN:
            return
        if not keep_alive:
            self._close()
            return
        now = self._shared.clock()
        self._set_due(self._kept_until(now))
        if self._parser is not None:  # something came behind it
            self._wait()

    # ── a WebSocket ──────────────────────────────────────────────────────────────────────

    def _start_socket(self, request: Request, reply: SocketReply, client: str | None) -> None:
        """Hand the transport over to a WebSocket; its welcome leaves with the answer."""
        exchange, shared, transport = self._exchange, self._shared, self.transport
        assert exchange is not None
        assert transport is not None
        limits = Limits(max_message_bytes=shared.stream.ws_max_message_bytes)
        fields = socket_fields(exchange.request_id)
        head, machine = upgrade(request, fields, limits=limits, deflate=shared.stream.ws_deflate)
        stream = reply.open()  # raises an ApiError, as the handshake does: until here it can still be refused
        rest = self._parser.rest if self._parser is not None else b""
        self._answered(101)
        self._let_go()
        shared.connections.discard(self)
        self._forget_deadlines()
        self.life = CLOSED
        self.transport = None
        peer = WebSocketPeer(shared, machine, exchange.request_id, client, self._number, exchange.trace)
        peer.born, peer.place, self.place = self.born, self.place, None
        transport.set_protocol(peer)
        peer.begin(transport, head, stream, rest, exchange.began)

    # ── what the peer asks ───────────────────────────────────────────────────────────────

    @property
    def request_id(self) -> str | None:
        """Of the request under way."""
        return None if self._exchange is None else self._exchange.request_id

    @property
    def client(self) -> str | None:
        """Whose stream it reads."""
        return None if self.reader is None else self.reader.pipeline.opening.client

    @property
    def _reading(self) -> bool:
        """Whether requests are read and answered now."""
        return self.life == OPEN and self.reader is None

    def _kept_until(self, now: float) -> float:
        """Until when it is kept, from *now* on, with nothing under way."""
        settings = self._shared.settings
        until = now + settings.keepalive_timeout_s
        return min(until, self.born + settings.max_age_s) if settings.max_age_s else until

    @property
    def _goes_on(self) -> bool:
        """Whether the connection outlives the stream that it carries: what comes behind it is to be kept."""
        return self._exchange is not None and self._exchange.keep_alive

    @property
    def idle(self) -> bool:
        """Whether nothing of a request is here and all answers were given."""
        return self._reading and self._parser is None

    def drain(self) -> None:
        """Close when idle, else after what is under way."""
        if self.idle:
            self._abort_when_written()

    def _let_go(self) -> None:
        self._parser = None

    def _too_late(self) -> None:
        parser = self._parser
        assert self.transport is not None
        if self.reader is not None:
            return
        if not self.transport.is_reading():  # what is late may be here, and waits for its turn
            self._set_due(self._shared.clock() + RETRY_S)
            return
        if parser is None or parser.phase is Phase.IDLE:
            self._abort_when_written()  # nothing was asked, nothing is unread
            return
        what = "head" if parser.awaiting_body is None else "body"
        self._refuse(parser.awaiting_body or Request(), RequestTimeout(f"the {what} of the request came too slowly"))
