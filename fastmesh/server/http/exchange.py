"""One request and its answer: the route that answers it, its refusal, and its record in metrics and log.

An answer is whole, or it begins here and goes on by itself: a stream on the connection, or a WebSocket in its place.  A
handler that has to wait for it does so in a task, which ends with the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from fastmesh.api.calls import Answer, Call, Reply, SocketReply, StreamReply
from fastmesh.errors import ApiError, InternalError, bare
from fastmesh.server.http.responses import refusal, request_id, socket_fields, stream_head, whole
from fastmesh.server.http.stream_sink import StreamSink
from fastmesh.server.peer import OPEN
from fastmesh.server.websocket import WebSocketPeer
from fastmesh.telemetry.log import get_logger
from fastmesh.telemetry.trace import HEADER, Trace
from fastmesh.wire.encoders import WholeEncoder
from fastmesh.wire.http1 import Request

log = get_logger()

BUG = "the request failed by a fault of the server"  # all that a client is told of one
UNROUTED = "other"  # the metrics' name for all requests without a route
CONTENT_TYPES = {"ndjson": "application/x-ndjson", "sse": "text/event-stream", "json": "application/json"}


class Exchange:
    """The request under way on *connection*, as long as its answer is written: of streams there are many."""

    __slots__ = ("_connection", "_task", "began", "client", "keep_alive", "method", "request_id", "route", "trace")

    def __init__(self, connection: StreamSink, request: Request, began: float) -> None:
        self._connection = connection
        self._task: asyncio.Task[None] | None = None  # while its handler waits
        self.method = request.method
        self.keep_alive = request.keep_alive  # whether the connection goes on behind the answer
        self.request_id = request_id(request)
        self.trace = Trace.of(request.headers.get(HEADER))
        self.began = began  # when the request's first byte was here, in seconds
        self.route = UNROUTED
        self.client: str | None = None  # who asks, where that is known

    def answer(self, call: Call, rest: bytes) -> None:
        """Answer *call*, or begin to; *rest* was received behind a request that asks for another protocol."""
        try:
            route, call = self._connection.shared.router.find(call)
            self.route, self.client = route.name, call.client
            reply = self._begun(call, route.handler(call), rest)
        except Exception as error:  # noqa: BLE001 - of a handler, told to the client
            reply = self._fault(error)
        if reply is not None:
            self._send(call.request, reply)

    def refuse(self, request: Request, error: ApiError) -> None:
        """Answer *request* with *error*, and end the connection: no request can be read behind it."""
        request.keep_alive = False
        self._send(request, refusal(error, self.request_id))

    def leave(self) -> None:
        """The client is gone: a handler that waits for its answer need not go on."""
        if self._task is not None:
            self._task.cancel()

    def record(self, status: int) -> None:
        """Have metrics and log say that it was answered with *status*."""
        shared = self._connection.shared
        took_s = shared.clock() - self.began
        method = self.method if self.route != UNROUTED else UNROUTED
        shared.metrics.requests[self.route, method, status] += 1
        shared.metrics.request_seconds.labels(self.route).observe(took_s)
        log.debug(
            "request.answered",
            request_id=self.request_id,
            trace_id=self.trace.trace_id,
            route=self.route,
            method=self.method,
            status=status,
            took_ms=round(took_s * 1000, 2),
        )

    def _begun(self, call: Call, answer: Answer | Awaitable[Answer], rest: bytes) -> Reply | None:
        """Begin *answer* and return None; return it when it is whole and has yet to be sent."""
        if isinstance(answer, Reply):
            return answer
        if isinstance(answer, StreamReply):
            self._start_stream(call.request, answer)
        elif isinstance(answer, SocketReply):
            fields = socket_fields(self.request_id)
            WebSocketPeer.take_over(self._connection, call, answer, fields, rest, self.began)
            self._connection.over(101)
        else:
            shared = self._connection.shared
            self._task = shared.loop.create_task(self._answer_later(call, answer, rest))
            self._task.add_done_callback(self._waited)
            shared.waiting.add(self._task)
            self._connection.watch()
        return None

    async def _answer_later(self, call: Call, answer: Awaitable[Answer], rest: bytes) -> None:
        connection = self._connection
        try:
            known = await answer
            if connection.life != OPEN:  # the client left, and the handler would not be cancelled
                return
            reply = self._begun(call, known, rest)
        except Exception as error:  # noqa: BLE001 - of a handler, told to the client
            reply = self._fault(error)
        if reply is not None:
            self._send(call.request, reply)
        connection.go_on_behind()

    def _waited(self, task: asyncio.Task[None]) -> None:
        """The *task* is done: one that ended without an answer to a client that is there is a bug."""
        connection, self._task = self._connection, None
        connection.shared.waiting.discard(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None and connection.life == OPEN:
            connection.shared.metrics.bugs.met("answers", error, **connection.named)
            connection.abort()

    def _fault(self, error: Exception) -> Reply | None:
        """The answer to a request that *error* ended; None when its stream has begun and there is no room for one."""
        if isinstance(error, ApiError):
            return refusal(bare(error), self.request_id)  # the request may have it, as its fault
        log.error("request.bug", request_id=self.request_id, trace_id=self.trace.trace_id, exc_info=error)
        if self._connection.reader is not None or self._connection.life != OPEN:
            self._connection.abort()
            return None
        return refusal(InternalError(BUG), self.request_id)

    def _send(self, request: Request, reply: Reply) -> None:
        connection = self._connection
        self.keep_alive = keep_alive = request.keep_alive and connection.lasts
        with_body = request.method != "HEAD"
        cors = connection.shared.router.cors_fields(request)
        connection.send(
            whole(reply, self.request_id, cors, minor=request.minor, keep_alive=keep_alive, with_body=with_body)
        )
        connection.over(reply.status)

    def _start_stream(self, request: Request, reply: StreamReply) -> None:
        connection, shared, began = self._connection, self._connection.shared, self.began
        chunked = request.minor == 1  # HTTP/1.0 has no chunks: its streams end with the connection
        self.keep_alive = request.keep_alive and chunked and connection.lasts
        fields = [("Content-Type", CONTENT_TYPES[reply.encoding]), *shared.router.cors_fields(request)]
        if request.method == "HEAD":
            connection.send(stream_head(fields, self.request_id, minor=request.minor, keep_alive=self.keep_alive))
            connection.over(200)
            return
        own = reply.encoding == "json"
        encoder = WholeEncoder(chunked=chunked) if own else shared.encoders[reply.encoding, chunked]
        subscriber = reply.attach(encoder, connection)
        pipeline = subscriber.pipeline
        log.debug(
            "stream.attached",
            stream_id=pipeline.id,
            request_id=self.request_id,
            trace_id=self.trace.trace_id,
            protocol=encoder.protocol,
        )
        self.trace = pipeline.opening.trace  # one object for all that read: of these there are many
        fields.append(("X-Stream-ID", pipeline.id))
        head = stream_head(fields, self.request_id, minor=request.minor, keep_alive=self.keep_alive)
        connection.carry(subscriber, head)
        shared.metrics.ttfb.labels(encoder.protocol).observe(shared.clock() - began)
