"""What a client says over a WebSocket, and what it is told (contract section 5).

A session knows commands and subscriptions and no socket: texts come in, frames
go out through its port.  Its streams are served in turn, so many bytes each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from secrets import token_hex
from typing import Annotated, Any, Literal, Protocol

import orjson
from pydantic import Field

from fastmesh.api.plans import Plans
from fastmesh.api.requests.bounds import parsed, refuse_crowd
from fastmesh.api.requests.schema import MAX_INTEGER, CrawlRequest, Strict, Whole, read_value
from fastmesh.errors import ApiError, Conflict, InternalError, NotFound, ValidationError
from fastmesh.streaming.pipeline import StreamingPipeline
from fastmesh.streaming.registry import StreamRegistry
from fastmesh.streaming.subscriber import Subscriber
from fastmesh.telemetry.log import get_logger
from fastmesh.telemetry.trace import Trace
from fastmesh.wire.encoders import Encoder

log = get_logger()

PROTOCOL_VERSION = "fastmesh.v1"
QUANTUM_BYTES = 16_384
MAX_ID = 256
TRY_AGAIN_LATER = 1013
# The close frame of who reads too slowly stands behind all that it has not read.  Its streams can be resumed, so
# nothing is lost when it is not waited for, and the reason is told again to who resumes.
SLOW_CLOSE_S = 5.0


class Port(Protocol):
    """The connection under a session."""

    paused: bool

    def send(self, data: bytes) -> None:
        """Write *data*, framed already."""
        ...

    def ready(self) -> None:
        """The session has something to serve."""
        ...

    def close(self, code: int, reason: str, within_s: float | None = None) -> None:
        """Say goodbye and close, *within_s* at most even if the client takes its time."""
        ...


# ── commands ─────────────────────────────────────────────────────────────────────────────


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


class Subscription:
    """One stream on a connection: the sink of its subscriber."""

    __slots__ = ("held", "queued", "session", "subscriber")

    def __init__(self, session: SocketSession) -> None:
        self.session = session
        self.subscriber: Subscriber | None = None
        self.held = False
        self.queued = False

    @property
    def paused(self) -> bool:
        """Whether the client asked to hold it, or the connection has enough."""
        return self.held or self.session.port.paused

    def write(self, data: bytes) -> None:
        """Hand *data* to the connection."""
        self.session.port.send(data)

    beat = write

    def ready(self) -> None:
        """There is something to serve."""
        self.session.add(self)

    def end(self) -> None:
        """The stream's last frame was written."""
        self.session.drop(self)

    def give_up(self) -> None:
        """The stream waits for nobody who is so slow."""
        self.session.give_up(self)


class SocketSession:
    """The commands and subscriptions of one WebSocket."""

    __slots__ = (
        "_client",
        "_connection",
        "_encoder",
        "_observe_ttfb",
        "_plans",
        "_ready",
        "_registry",
        "_request_id",
        "_subscriptions",
        "_trace",
        "port",
    )

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
        self.port = port
        self._registry = registry
        self._plans = plans
        self._encoder = encoder
        self._request_id = request_id
        self._client = client
        self._connection = connection
        self._trace = trace
        self._observe_ttfb = observe_ttfb
        self._subscriptions: dict[str, Subscription] = {}
        self._ready: deque[Subscription] = deque()

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

    @property
    def streams(self) -> int:
        """How many streams it is subscribed to."""
        return len(self._subscriptions)

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

    def read(self, pipeline: StreamingPipeline, begun: float) -> None:
        """Subscribe to *pipeline*, from its beginning; it was asked for at *begun* seconds."""
        self._attach(pipeline, None, b"", begun)

    def serve(self, max_bytes: int) -> int:
        """Write about *max_bytes* of what its streams have, each in turn; return what was written."""
        ready = self._ready
        written = 0
        while ready and written < max_bytes:
            subscription = ready.popleft()
            subscription.queued = False
            subscriber = subscription.subscriber
            if subscriber is None or subscription.paused:
                continue
            written += subscriber.serve(min(QUANTUM_BYTES, max_bytes))
        return written

    @property
    def wants_service(self) -> bool:
        """Whether serving it would write something."""
        return bool(self._ready)

    def resumed(self) -> None:
        """The connection takes bytes again."""
        for subscription in self._subscriptions.values():
            if subscription.subscriber is not None and subscription.subscriber.wants_service:
                self.add(subscription)

    def close(self) -> None:
        """The connection is gone, and with it every subscription."""
        for subscription in list(self._subscriptions.values()):
            self.drop(subscription)
        self._ready.clear()

    # ── for its subscriptions ────────────────────────────────────────────────────────────

    def add(self, subscription: Subscription) -> None:
        """*subscription* has something to write."""
        if not subscription.queued and not subscription.paused:
            subscription.queued = True
            self._ready.append(subscription)
            self.port.ready()

    def give_up(self, subscription: Subscription) -> None:
        """*subscription* is too slow and asked to be ended then; with the last one the connection ends."""
        subscriber = subscription.subscriber
        assert subscriber is not None
        told = {"type": "slow_client", "message": "the client reads too slowly", "retryable": True}
        frame = {"type": "error", "stream_id": subscriber.pipeline.id, "error": told}
        subscriber.pipeline.cut_off = "slow_client"
        self.port.send(self._framed(frame))
        self.drop(subscription)
        if not self._subscriptions:
            self.port.close(TRY_AGAIN_LATER, "the client reads too slowly", SLOW_CLOSE_S)

    def cut_off(self) -> None:
        """The client takes nothing and is not waited for: who reads these streams next is told why."""
        for subscription in self._subscriptions.values():
            if subscription.subscriber is not None:
                subscription.subscriber.pipeline.cut_off = "slow_client"

    def drop(self, subscription: Subscription) -> None:
        """*subscription* is over."""
        subscriber, subscription.subscriber = subscription.subscriber, None
        if subscriber is not None:
            del self._subscriptions[subscriber.pipeline.id]
            subscriber.pipeline.detach(subscriber)

    # ── the commands ─────────────────────────────────────────────────────────────────────

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
        self._attach(pipeline, None, self._ack(command.id, pipeline), begun)

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
            self._attach(pipeline, after, self._ack(command.id, pipeline), begun)

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

    # ── helpers of the commands ──────────────────────────────────────────────────────────

    def _attach(self, pipeline: StreamingPipeline, after: int | None, head: bytes, begun: float) -> None:
        """Subscribe; *head* and what is there leave in one write."""
        subscription = Subscription(self)
        self._subscriptions[pipeline.id] = subscription
        subscriber = self._registry.attach(pipeline, self._encoder, subscription, after)
        subscription.subscriber = subscriber
        subscriber.serve(self._registry.first_bytes.share(), head)
        self._observe_ttfb(self._registry.now() - begun)

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
        told: dict[str, Any] = {"type": error.type, "message": error.message, "retryable": error.retryable}
        if error.field is not None:
            told["field"] = error.field
        if error.retry_after_s is not None:
            told["retry_after_s"] = error.retry_after_s
        self.port.send(self._framed(frame | {"error": told}))

    def _framed(self, frame: dict[str, Any]) -> bytes:
        return self._encoder.note(orjson.dumps(frame))


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
