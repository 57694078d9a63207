"""The streams that one WebSocket is subscribed to, served in turn, so many bytes each.  They know no socket: frames go
out through a port, which says when it has enough."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import orjson

from fastmesh.streaming.pipeline import StreamingPipeline
from fastmesh.streaming.registry import StreamRegistry
from fastmesh.streaming.subscriber import Subscriber
from fastmesh.wire.encoders import Encoder

QUANTUM_BYTES = 16_384
TRY_AGAIN_LATER = 1013
# The close frame of a slow client stands behind all that it has not read.  Its streams can be resumed, so nothing
# is lost when it is not waited for, and a reader that resumes one is told the reason again.
SLOW_CLOSE_S = 5.0


class Port(Protocol):
    """The connection under a session."""

    paused: bool

    def send(self, data: bytes) -> None:
        """Write *data*, framed already."""

    def ready(self) -> None:
        """The session has something to serve."""

    def close(self, code: int, reason: str, within_s: float | None = None) -> None:
        """Say goodbye and close, *within_s* at most even if the client takes its time."""


class Subscription:
    """One stream on a connection: the sink of its subscriber."""

    __slots__ = ("_owner", "held", "queued", "subscriber")

    def __init__(self, owner: Subscriptions) -> None:
        self._owner = owner
        self.subscriber: Subscriber | None = None
        self.held = False
        self.queued = False

    @property
    def paused(self) -> bool:
        """Whether the client asked to hold it, or the connection has enough."""
        return self.held or self._owner.port.paused

    def write(self, data: bytes) -> None:
        self._owner.port.send(data)

    beat = write

    def ready(self) -> None:
        self._owner.add(self)

    def end(self) -> None:
        self._owner.drop(self)

    def give_up(self) -> None:
        self._owner.give_up(self)


class Subscriptions:
    """All subscriptions of one connection."""

    __slots__ = ("_encoder", "_observe_ttfb", "_ready", "_registry", "_subscriptions", "port")

    def __init__(
        self, registry: StreamRegistry, port: Port, encoder: Encoder, observe_ttfb: Callable[[float], None]
    ) -> None:
        self.port = port
        self._registry = registry
        self._encoder = encoder
        self._observe_ttfb = observe_ttfb
        self._subscriptions: dict[str, Subscription] = {}
        self._ready: deque[Subscription] = deque()

    @property
    def streams(self) -> int:
        """How many streams it is subscribed to."""
        return len(self._subscriptions)

    def read(self, pipeline: StreamingPipeline, begun: float, after: int | None = None, head: bytes = b"") -> None:
        """Subscribe to *pipeline*, asked for at *begun* seconds; *head* and what is there leave in one write."""
        subscription = Subscription(self)
        self._subscriptions[pipeline.id] = subscription
        subscriber = self._registry.attach(pipeline, self._encoder, subscription, after)
        subscription.subscriber = subscriber
        subscriber.serve(self._registry.first_bytes.share(), head)
        self._observe_ttfb(self._registry.now() - begun)

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
        """The client takes nothing and is not waited for: the next reader of these streams is told why."""
        for subscription in self._subscriptions.values():
            if subscription.subscriber is not None:
                subscription.subscriber.pipeline.cut_off = "slow_client"

    def drop(self, subscription: Subscription) -> None:
        """*subscription* is over."""
        subscriber, subscription.subscriber = subscription.subscriber, None
        if subscriber is not None:
            del self._subscriptions[subscriber.pipeline.id]
            subscriber.pipeline.detach(subscriber)

    def _framed(self, frame: dict[str, Any]) -> bytes:
        return self._encoder.note(orjson.dumps(frame))
