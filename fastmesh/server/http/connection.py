"""One client's connection as HTTP: requests in, their answers out in order.  It decides the order: one request is
answered after the other, whole or as a stream; requests behind an answer that takes its time wait, within bounds."""

from __future__ import annotations

import asyncio

from fastmesh.api.calls import Call
from fastmesh.errors import ApiError, InternalError, Overloaded, RateLimited, RequestTimeout
from fastmesh.server.context import Context
from fastmesh.server.http.exchange import BUG, Exchange
from fastmesh.server.http.responses import CONTINUE
from fastmesh.server.http.stream_sink import StreamSink
from fastmesh.server.intake import SLICE_S
from fastmesh.server.peer import CLOSING, OPEN, addresses
from fastmesh.server.per_peer import Place
from fastmesh.telemetry.log import get_logger
from fastmesh.telemetry.trace import Trace
from fastmesh.wire.http1 import MAX_STEPS, HttpParser, Phase, Request

log = get_logger()

# Input is worked off at once up to so many bytes, with more of them it waits for its turn: a body of 1 MB may take
# 10 ms, and many may be whole in one turn of the loop.
AT_ONCE_BYTES = 16_384
# So many bytes of requests may wait behind an answer that takes its time.
MAX_BEHIND_BYTES = 65_536
# Over TLS the client's end is told in one turn with the bytes before it, and no answer can follow: at most so many
# requests are answered there, in so many steps of the parser.
MAX_AT_END = 64
STEPS_AT_END = 2048
RETRY_S = 1.0  # a deadline that passes while reading is paused is looked at again after so long
NO_TRACE = Trace("", "")  # for a request that is only judged


class Connection(StreamSink):
    """The protocol of one socket: its requests in their order, and until when each must be here."""

    __slots__ = ("_address", "_began", "_client", "_exchange", "_judged", "_number", "_parser", "_timed")

    def __init__(self, shared: Context, place: Place | None = None) -> None:
        super().__init__(shared)
        self.born = shared.clock()
        self.place = place
        self._parser: HttpParser | None = None  # only while something of a request is here: idle connections are many
        self._timed = 0  # the newest request of this parser whose head was given a deadline
        self._judged = 0  # and the newest that was judged before its body was here
        self._client: str | None = None
        self._number = next(shared.numbers)
        self._address = ""
        self._began = 0.0  # when the first byte of the request was here
        self._exchange: Exchange | None = None

    # ── calls of the transport ─────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is here; it has so long for its first request."""
        shared = self.shared
        super().connection_made(transport)
        assert self.transport is not None
        self._client, self._address = addresses(self.transport)
        self._set_due(shared.clock() + shared.settings.header_timeout_s)
        if len(shared.connections) > shared.settings.max_connections:
            most = shared.settings.max_connections
            self._refuse(Request(), Overloaded(f"{most} connections are open, no more are allowed", retry_after_s=1))
        elif self.place is not None and self.place.refused:
            most = shared.settings.max_connections_per_peer
            why = f"this peer has {most} connections open, no more are allowed (SERVER__MAX_CONNECTIONS_PER_PEER)"
            self._refuse(Request(), RateLimited(why, retry_after_s=1))

    def data_received(self, data: bytes) -> None:
        """Some bytes came: answer the requests that can be answered now, or stand in line for it."""
        exchange = self._exchange
        if self.life != OPEN or (exchange is not None and not exchange.keep_alive):
            return  # the connection ends with the answer under way
        parser = self._parser
        if parser is None:
            settings = self.shared.settings
            parser = self._parser = HttpParser(settings.max_header_bytes, settings.max_body_bytes)
            self._timed = self._judged = 0
        parser.receive(data)
        if exchange is not None:
            self._bound_behind(parser)
        elif self.waits:  # this read was under way when reading was paused
            pass
        elif parser.held > AT_ONCE_BYTES:
            self._wait()
        else:
            self._go_on()

    def eof_received(self) -> bool:
        """The client sends no more and gets its answers; during a long one it is gone, as in nginx."""
        self._finished = True
        if self._reading:
            self._answer_at_end()
        if self.life == CLOSING:
            self._abort_when_written()
        elif self._exchange is not None:
            self.abort()
        else:
            self._close()
        return self._half_open

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.waits:
            self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone, and with it the client that reads a stream or waits for an answer."""
        super().connection_lost(exc)
        if self.reader is not None:
            self._detach()
        elif self._exchange is not None:
            self._exchange.leave()
            self._exchange = None

    # ── requests in their order ──────────────────────────────────────────────────────────

    def _go_on(self, slice_s: float = SLICE_S) -> None:
        shared, parser = self.shared, self._parser
        if parser is None or not self._reading:
            return
        began = now = shared.clock()
        while parser.pending and self._reading and not self.paused and now - began <= slice_s:
            if not self._answer_next(parser, now):
                break
            if parser.pending:
                now = shared.clock()
        exchange = self._exchange
        if exchange is not None:
            if not exchange.keep_alive or not parser.held:
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
        self.shared.intake.wait(self)

    def _answer_next(self, parser: HttpParser, now: float) -> bool:
        """Answer the next request; False when none is whole yet, or not read in so many steps."""
        if parser.phase is Phase.IDLE:
            self._began = now
        try:
            request = parser.next_request()
        except Exception as error:
            log.error("request.bug", request_id=None, exc_info=error)
            self._refuse(parser.awaiting_body or Request(), InternalError(BUG))
            return False
        if request is None:
            return False
        exchange = self._exchange = Exchange(self, request, self._began)
        exchange.answer(self._call(request, exchange.request_id, exchange.trace), parser.rest)
        return True

    def _answer_at_end(self) -> None:
        """Answer the requests that still wait for their turn: only TLS comes to its end with any."""
        parser, steps = self._parser, STEPS_AT_END
        until = self.written + self.shared.high_water
        for _ in range(MAX_AT_END):
            while parser is not None and parser.pending and self._reading and self.written < until and steps > 0:
                if self._answer_next(parser, self.shared.clock()):
                    break
                steps -= MAX_STEPS

    def _bound_behind(self, parser: HttpParser) -> None:
        """Requests behind an answer under way wait for its end, within bounds: wherever the bytes were cut."""
        if parser.held <= MAX_BEHIND_BYTES:
            return
        if self.reader is None:
            self._pause_reading()
        else:  # it may take an hour, in which the client's end would not be seen
            log.warning("connection.too_much_behind_stream", request_id=self.request_id)
            self.abort()

    def _await_more(self, parser: HttpParser, now: float) -> None:
        """A request is here in part: until when must the rest be here?  Absolute, from the first byte of each part."""
        settings, awaited = self.shared.settings, parser.awaiting_body
        if awaited is None:
            if parser.begun != self._timed:
                self._timed = parser.begun
                self._began = now
                if self.written:  # the first request's time runs since the connection was made
                    self._set_due(now + settings.header_timeout_s)
        elif parser.begun != self._judged:
            self._judged = parser.begun
            self._set_due(now + settings.body_timeout_s)
            self._judge_early(parser, awaited)

    def _judge_early(self, parser: HttpParser, request: Request) -> None:
        """A head is here and its body is not: a client that is refused anyway need not send it (RFC 9110, 10.1.1)."""
        try:
            self.shared.router.find(self._call(request, "", NO_TRACE))
        except ApiError as error:
            self._refuse(request, error)
            return
        if request.expects_continue and not parser.held:
            self.send(CONTINUE)

    def _refuse(self, request: Request, error: ApiError) -> None:
        self._exchange = Exchange(self, request, self._began or self.shared.clock())
        self._exchange.refuse(request, error)

    def _call(self, request: Request, request_id: str, trace: Trace) -> Call:
        return Call(request, request_id, self._client, self._address, self._number, trace)

    # ── the end of an answer ───────────────────────────────────────────────────────────────────

    def over(self, status: int) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        exchange.record(status)
        if not exchange.keep_alive:
            self._close()

    def go_on_behind(self) -> None:
        if self._reading:
            self._set_due(self._kept_until(self.shared.clock()))
            if self._parser is not None:
                self._wait()

    # ── what is under way ───────────────────────────────────────────────────────────────

    @property
    def request_id(self) -> str | None:
        return None if self._exchange is None else self._exchange.request_id

    @property
    def client(self) -> str | None:
        return None if self._exchange is None else self._exchange.client

    @property
    def _reading(self) -> bool:
        """Whether the next request may be taken up: the connection is open, and no answer is under way."""
        return self.life == OPEN and self._exchange is None

    def _kept_until(self, now: float) -> float:
        """Until when it is kept, from *now* on, with nothing under way."""
        settings = self.shared.settings
        until = now + settings.keepalive_timeout_s
        return min(until, self.born + settings.max_age_s) if settings.max_age_s else until

    @property
    def idle(self) -> bool:
        """Whether nothing of a request is here and all answers were given."""
        return self._reading and self._parser is None

    def drain(self) -> None:
        """Close when idle, else behind the answer under way."""
        if self.idle:
            self._abort_when_written()

    def _let_go(self) -> None:
        self._parser = None

    def _too_late(self) -> None:
        parser = self._parser
        assert self.transport is not None
        if self._exchange is not None:
            return
        if not self.transport.is_reading():  # the late bytes may be here, and wait for their turn
            self._set_due(self.shared.clock() + RETRY_S)
            return
        if parser is None or parser.phase is Phase.IDLE:
            self._abort_when_written()  # nothing was asked, nothing is unread
            return
        what = "head" if parser.awaiting_body is None else "body"
        self._refuse(parser.awaiting_body or Request(), RequestTimeout(f"the {what} of the request came too slowly"))
