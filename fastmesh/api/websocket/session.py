"""What a client says over a WebSocket, and what it is told.  A session knows commands and subscriptions and no socket:
texts come in, frames go out through its port.  Whatever a text says, the connection stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from secrets import token_hex
from typing import Annotated, Any, Literal

from pydantic import Field

from fastmesh.api.plans import Plans
from fastmesh.api.requests.bodies import CrawlRequest
from fastmesh.api.requests.bounds import parsed, refuse_crowd
from fastmesh.api.requests.model import MAX_INTEGER, Strict, Whole
from fastmesh.api.requests.reading import read_value
from fastmesh.api.websocket.subscriptions import Port, Subscription, Subscriptions
from fastmesh.errors import ApiError, Conflict, InternalError, NotFound, ValidationError
from fastmesh.streaming.pipeline import StreamingPipeline
from fastmesh.streaming.registry import StreamRegistry
from fastmesh.telemetry.log import get_logger
from fastmesh.telemetry.trace import Trace
from fastmesh.wire.encoders import Encoder

log = get_logger()

PROTOCOL_VERSION = "fastmesh.v1"
MAX_ID = 256


class Command(Strict):
    """What every command has."""

    type: str
    id: str


class CrawlCommand(CrawlRequest):
    """Opens a stream and subscribes to it."""

    type: Literal["crawl"]
    id: str


class Subscribe(Command):
    """Reads a stream, from its first kept frame or behind the frame *after*."""

    stream_id: str
    after: Annotated[int, Field(ge=-MAX_INTEGER, le=MAX_INTEGER), Whole] | None = None


class OfStream(Command):
    """A command that only names a stream."""

    stream_id: str


class SocketSession(Subscriptions):
    """One WebSocket: what its client commands, and what it is told."""

    __slots__ = ("_client", "_connection", "_plans", "_request_id", "_trace")

    def __init__(
        self,
        registry: StreamRegistry,
        plans: Plans,
        port: Port,
        encoder: Encoder,
        *,
        request_id: str,
        client: str | None,
        connection: int,
        trace: Trace,
        observe_ttfb: Callable[[float], None],
    ) -> None:
        super().__init__(registry, port, encoder, observe_ttfb)
        self._plans = plans
        self._request_id = request_id
        self._client = client
        self._connection = connection
        self._trace = trace

    def welcome(self) -> bytes:
        """The first message."""
        return self._framed(
            {
                "type": "welcome",
                "protocol_version": PROTOCOL_VERSION,
                "session_id": token_hex(16),
                "operations": list(COMMANDS),
            }
        )

    def command(self, text: bytes) -> None:
        """Carry out one message of the client; whatever it says, the connection stays."""
        given: Any = None
        try:
            given = parsed(text, self._plans.max_urls)
            refuse_crowd(given, text, self._plans.max_urls)
            model, carry_out = self._named(given)
            carry_out(self, read_value(model, given))
        except ApiError as error:
            self._refuse(given, error)
        except Exception as error:
            log.error("command.bug", request_id=self._request_id, exc_info=error)
            self._refuse(given, InternalError("the command failed by a fault of the server"))

    def _named(self, given: Any) -> tuple[type[Strict], Callable[[SocketSession, Any], None]]:
        if not isinstance(given, dict):
            raise ValidationError("a message is a JSON object with a type and an id")
        if not isinstance(given.get("id"), str) or len(given["id"]) > MAX_ID:
            raise ValidationError(f"id: want a string of at most {MAX_ID} characters", field="id")
        kind = given.get("type")
        if not isinstance(kind, str) or kind not in COMMANDS:
            raise ValidationError(f"type: want one of {', '.join(COMMANDS)}", field="type")
        return COMMANDS[kind]

    def _crawl(self, command: CrawlCommand) -> None:
        begun = self._registry.now()
        plan = self._plans.checked_crawl(command, self._request_id, self._client)
        opening = replace(plan.opening, trace=self._trace.child(), connection=self._connection)
        pipeline = self._registry.open(opening, plan.make_processor)
        self.read(pipeline, begun, None, self._ack(command.id, pipeline))

    def _subscribe(self, command: Subscribe) -> None:
        begun = self._registry.now()
        pipeline = self._found(command.stream_id)
        if pipeline.id in self._subscriptions:
            raise Conflict("this connection is subscribed to that stream already", field="stream_id")
        last, after = pipeline.journal.last_seq, command.after
        if after is not None and not 0 <= after <= last:
            raise ValidationError(f"after: {after} is not between 0 and {last}, the stream's last", field="after")
        if pipeline.complete and after == last:
            self.port.send(self._ack(command.id, pipeline, complete=True))
        else:
            self.read(pipeline, begun, after, self._ack(command.id, pipeline))

    def _unsubscribe(self, command: OfStream) -> None:
        self.drop(self._subscribed(command.stream_id))
        self._done(command)

    def _cancel(self, command: OfStream) -> None:
        pipeline = self._found(command.stream_id)
        if pipeline.complete or pipeline.stopped:
            raise Conflict("the stream is over already, or about to be", field="stream_id")
        self._done(command)
        pipeline.stop("cancelled")

    def _hold(self, command: OfStream) -> None:
        self._subscribed(command.stream_id).held = True
        self._done(command)

    def _release(self, command: OfStream) -> None:
        subscription = self._subscribed(command.stream_id)
        subscription.held = False
        self._done(command)
        if subscription.subscriber is not None and subscription.subscriber.wants_service:
            self.add(subscription)

    def _ping(self, command: Command) -> None:
        self.port.send(self._framed({"type": "pong", "id": command.id}))

    def _status(self, command: Command) -> None:
        streams = []
        for subscription in self._subscriptions.values():
            reader = subscription.subscriber
            assert reader is not None
            streams.append(
                {
                    "stream_id": reader.pipeline.id,
                    "state": reader.pipeline.state,
                    "last_seq": reader.pipeline.journal.last_seq,
                    "sent_seq": reader.next_seq - 1,
                    "capacity": reader.buffer.capacity_frames,
                    "unread": reader.unread_frames,
                    "held": subscription.held,
                }
            )
        self.port.send(self._framed({"type": "status", "id": command.id, "streams": streams}))

    def _found(self, stream_id: str) -> StreamingPipeline:
        pipeline = self._registry.find(stream_id, self._client)
        if pipeline is None:
            raise NotFound("there is no such stream, or it can be read no more")
        return pipeline

    def _subscribed(self, stream_id: str) -> Subscription:
        subscription = self._subscriptions.get(stream_id)
        if subscription is None:
            raise NotFound("this connection is not subscribed to such a stream")
        return subscription

    def _done(self, command: OfStream) -> None:
        self.port.send(self._framed({"type": "ack", "id": command.id, "stream_id": command.stream_id}))

    def _ack(self, id_: str, pipeline: StreamingPipeline, **fields: bool) -> bytes:
        told: dict[str, Any] = {"type": "ack", "id": id_, "stream_id": pipeline.id} | fields
        if pipeline.cut_off is not None:
            told["cut_off"], pipeline.cut_off = pipeline.cut_off, None
        return self._framed(told)

    def _refuse(self, given: Any, error: ApiError) -> None:
        frame: dict[str, Any] = {"type": "error"}
        id_ = given.get("id") if isinstance(given, dict) else None
        if isinstance(id_, str) and len(id_) <= MAX_ID:
            frame["id"] = id_
        told = error.as_json()
        if error.field is not None:
            told["field"] = error.field
        if error.retry_after_s is not None:
            told["retry_after_s"] = error.retry_after_s
        self.port.send(self._framed(frame | {"error": told}))


COMMANDS: dict[str, tuple[type[Strict], Callable[[SocketSession, Any], None]]] = {
    "crawl": (CrawlCommand, SocketSession._crawl),
    "subscribe": (Subscribe, SocketSession._subscribe),
    "unsubscribe": (OfStream, SocketSession._unsubscribe),
    "cancel": (OfStream, SocketSession._cancel),
    "hold": (OfStream, SocketSession._hold),
    "release": (OfStream, SocketSession._release),
    "ping": (Command, SocketSession._ping),
    "status": (Command, SocketSession._status),
}
