"""The streams of a daemon: opened within the limits, found by their ids, closed, kept for a while and forgotten."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from math import ceil
from secrets import token_hex
from typing import Final

from fastmesh._core import BackpressureHandler
from fastmesh.config import Settings
from fastmesh.errors import Overloaded, RateLimited, ShuttingDown
from fastmesh.streaming.clients import Allowances, IdempotencyKeys
from fastmesh.streaming.dropping import DropPolicy
from fastmesh.streaming.memory import BufferManager
from fastmesh.streaming.pipeline import StreamingPipeline
from fastmesh.streaming.ports import JournalBounds, Opening, Processor, Sink, Store
from fastmesh.streaming.subscriber import Subscriber
from fastmesh.telemetry.log import get_logger
from fastmesh.telemetry.metrics import Metrics
from fastmesh.telemetry.rates import RecentShare
from fastmesh.wire.encoders import Encoder

log = get_logger()

# Of what new readers are written at once.
QUANTUM_BYTES: Final = 16_384
TURN_BYTES: Final = 65_536
ONE_FRAME: Final = 1

MakeProcessor = Callable[[StreamingPipeline], Processor]


class StreamRegistry:
    """Opens streams and knows them until nobody can read them any more.  *now* is the clock of all of them."""

    def __init__(
        self, settings: Settings, buffers: BufferManager, store: Store, metrics: Metrics, clock: Callable[[], float]
    ) -> None:
        self.now = clock
        self.store = store  # of the streams that are opened from now on
        self.starting = False  # streams are refused until it is over
        self.draining = False  # and once it has begun
        self.active: dict[str, StreamingPipeline] = {}  # not closed
        self.closed: dict[str, StreamingPipeline] = {}  # can still be read, the longest closed first
        self.none_active = asyncio.Event()
        self.none_active.set()
        self.keys = IdempotencyKeys()
        self.first_bytes = FirstBytes(asyncio.get_running_loop().call_soon)
        self.failures = RecentShare()  # of the streams that were closed
        self.on_closed: Callable[[StreamingPipeline], object] = lambda pipeline: None  # called at each stream's end
        self._loop = asyncio.get_running_loop()
        self._buffers = buffers
        self._metrics = metrics
        self._deadlines: dict[str, asyncio.TimerHandle] = {}
        self._clients: Counter[str] = Counter()  # how many streams of each are active
        self._allowances = Allowances()
        # Node and worker, so that an id says later whose stream it is.
        self._node = f"{token_hex(2)}0"
        self.reload(settings)

    def reload(self, settings: Settings) -> None:
        """From now on streams are opened within the limits of *settings*."""
        self.settings = settings
        stream = settings.stream
        # One for all streams that are opened with these settings.
        self._bounds = JournalBounds(stream.journal_bytes, stream.detached_bytes, settings.buffer.max_bytes)

    # ── opening and reading ──────────────────────────────────────────────────────────────

    def open(self, opening: Opening, make_processor: MakeProcessor) -> StreamingPipeline:
        """Open a stream, which waits for a reader or is detached.  Raises ShuttingDown, Overloaded or RateLimited."""
        self._admit(opening.client)
        stream_id = f"{self._node}-{token_hex(16)}"
        pipeline = StreamingPipeline(
            stream_id, opening, self._bounds, self._buffers, self.store, self._metrics, self.now, self._on_closed
        )
        processor = make_processor(pipeline)  # when this raises, no stream was opened
        self.active[stream_id] = pipeline
        self.none_active.clear()
        if opening.client is not None:
            self._clients[opening.client] += 1
        self._deadlines[stream_id] = self._loop.call_later(opening.deadline_s, pipeline.stop, "deadline")
        pipeline.start(processor)
        log.info(
            "stream.opened",
            **pipeline.named,
            span_id=opening.trace.span_id,
            type=opening.stream_type,
            urls=opening.total_urls,
        )
        return pipeline

    def attach(self, pipeline: StreamingPipeline, encoder: Encoder, sink: Sink, after: int | None = None) -> Subscriber:
        """Let *sink* read *pipeline* from its first frame, or behind the frame *after*, which it has from before."""
        settings = self.settings.buffer
        buffer = self._buffers.lend(encoder.protocol)
        backpressure = BackpressureHandler(settings.slow_ms)
        counts = self._metrics.protocols[encoder.protocol]
        waits = pipeline.opening.on_slow == "block"
        dropping = None if waits else DropPolicy(settings.drop_threshold, settings.max_bytes)
        subscriber = Subscriber(pipeline, encoder, buffer, backpressure, sink, counts, dropping, after)
        pipeline.attach(subscriber)
        return subscriber

    def find(self, stream_id: str, client: str | None) -> StreamingPipeline | None:
        """The stream of that id, as long as it can be read, if it is *client*'s."""
        pipeline = self.active.get(stream_id) or self.closed.get(stream_id)
        return pipeline if pipeline is not None and pipeline.opening.client == client else None

    def joined(self, client: str | None, key: str, digest: bytes) -> StreamingPipeline | None:
        """The stream that *client* opened under *key*, while it can be read.  Raises Conflict for another request."""
        stream_id = self.keys.find(client, key, digest)
        return None if stream_id is None else self.find(stream_id, client)

    def of(self, client: str | None) -> list[StreamingPipeline]:
        """Every stream of *client* that can be read, the closed ones first."""
        return [pipeline for pipeline in self.all() if pipeline.opening.client == client]

    def all(self) -> list[StreamingPipeline]:
        """Every stream that can be read, the closed ones first."""
        return [*self.closed.values(), *self.active.values()]

    def readers(self) -> list[Subscriber]:
        """Every reader of every stream."""
        return [reader for pipeline in self.all() for reader in pipeline.audience.attached]

    # ── limits ───────────────────────────────────────────────────────────────────────────

    def overload(self) -> str | None:
        """Why a new stream would be refused to every client now; None when it would not."""
        if self.starting:
            return "the daemon is starting"
        most = self.settings.stream.max_concurrent
        if len(self.active) >= most:
            return f"{most} streams are open, no more are allowed"
        if not self._buffers.make_room():
            return f"the streams hold {self._buffers.held_bytes} bytes, all that they may"
        return None

    def _admit(self, client: str | None) -> None:
        limits = self.settings.stream
        if self.draining:
            raise ShuttingDown("the daemon is shutting down", retry_after_s=5)
        if why := self.overload():
            raise Overloaded(why, retry_after_s=1)
        if client is not None and self._clients[client] >= limits.max_per_client:
            raise RateLimited(
                f"this client has {limits.max_per_client} streams open, no more are allowed", retry_after_s=1
            )
        # Last, so that only a stream that is opened takes of the allowance.
        wait_s = self._allowances.take(client, self.now(), limits.rate_limit_rps, limits.rate_limit_burst)
        if wait_s:
            raise RateLimited(
                f"this client opens more than {limits.rate_limit_rps:g} streams a second (STREAM__RATE_LIMIT_RPS)",
                retry_after_s=ceil(wait_s),
            )

    # ── closing and forgetting ───────────────────────────────────────────────────────────

    def _on_closed(self, pipeline: StreamingPipeline) -> None:
        opening, audience, now = pipeline.opening, pipeline.audience, self.now()
        del self.active[pipeline.id]
        self.closed[pipeline.id] = pipeline
        self._deadlines.pop(pipeline.id).cancel()
        if opening.client is not None:
            self._clients[opening.client] -= 1
            if not self._clients[opening.client]:
                del self._clients[opening.client]
        if not self.active:
            self.none_active.set()
        self.failures.count(now, bad=pipeline.faulty)
        self._metrics.duration.labels(audience.protocol, pipeline.status).observe(now - pipeline.opened_at)
        successful, failed = pipeline.results
        log.info(
            "stream.closed",
            **pipeline.named,
            type=opening.stream_type,
            status=pipeline.status,
            fault=pipeline.fault,
            protocol=audience.protocol,
            urls=opening.total_urls,
            successful=successful,
            failed=failed,
            frames=pipeline.journal.last_seq,
            subscribers=audience.readers,
            sent_frames=audience.sent_frames,
            sent_bytes=audience.sent_bytes,
            missed_frames=audience.missed_frames,
            kept_bytes=pipeline.journal.ring.allocated,
            took_ms=round((now - pipeline.opened_at) * 1000, 1),
        )
        self.on_closed(pipeline)
        if not opening.kept:
            self.forget(pipeline)

    def forget(self, pipeline: StreamingPipeline) -> None:
        """From now on *pipeline*, which is closed, can be read no more."""
        if self.closed.pop(pipeline.id, None) is not None:
            self.keys.forget(pipeline.id)
            pipeline.forget()


class FirstBytes:
    """How much new readers are written in the turn of the loop in which they come, all of them together.

    Each has its first frame at once.  When thousands come back in one moment, each to a megabyte that is kept for it,
    the first of them are written a quantum each; the others are written one frame, and the rest when it is their turn.
    *call_soon* calls back in the next turn.
    """

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._call_soon = call_soon
        self._left = TURN_BYTES

    def share(self) -> int:
        """How much the next reader may be written at once."""
        left = self._left
        if left <= 0:
            return ONE_FRAME
        if left == TURN_BYTES:
            self._call_soon(self._turn_over)
        self._left = left - QUANTUM_BYTES
        return QUANTUM_BYTES

    def _turn_over(self) -> None:
        self._left = TURN_BYTES
