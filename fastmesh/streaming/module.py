"""StreamingModule: all streams of a daemon.

Created first at startup: validate() and start_maintenance_tasks() either
succeed or stop the start.  It admits streams within the limits, knows which
are open, looks after them while they live, and ends them at shutdown.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from math import ceil
from secrets import token_hex

from fastmesh._core import BackpressureHandler, give_back, overdue, silent
from fastmesh.config import BufferSettings, Settings
from fastmesh.errors import ConfigError, Conflict, Overloaded, RateLimited, ShuttingDown
from fastmesh.streaming.allowances import Allowances
from fastmesh.streaming.dropping import DropPolicy
from fastmesh.streaming.ebb import Ebb
from fastmesh.streaming.first_bytes import FirstBytes
from fastmesh.streaming.lag import LoopLag
from fastmesh.streaming.memory import BufferManager
from fastmesh.streaming.pipeline import JournalBounds, Opening, Processor, StreamingPipeline
from fastmesh.streaming.reclaim import level_off
from fastmesh.streaming.subscriber import Sink, Subscriber
from fastmesh.telemetry.log import get_logger
from fastmesh.telemetry.metrics import Metrics
from fastmesh.telemetry.rates import RecentShare
from fastmesh.wire.encoders import Encoder

log = get_logger()

TICK_S = 0.1  # how often slow readers are looked for
TICKS_A_SAMPLE = 10  # utilization is sampled once a second

DEGRADED_ERROR_RATE, UNHEALTHY_ERROR_RATE = 0.05, 0.10
DEGRADED_DROP_RATIO, UNHEALTHY_DROP_RATIO = 0.10, 0.20
WORST_LAST = ("healthy", "degraded", "unhealthy")
LATE_SPAN_MS = 60_000

MakeProcessor = Callable[[StreamingPipeline], Processor]


@dataclass(frozen=True, slots=True)
class StreamingFigures:
    """What /healthz says of streaming."""

    status: str
    active_connections: int
    active_streams: int
    error_rate: float
    drop_ratio: float
    memory_bytes: int
    loop_lag_ms: float
    slow_clients: int


class StreamingModule:
    """Opens, keeps and ends streams."""

    def __init__(self, settings: Settings, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._metrics = metrics
        self._clock = clock  # not the loop's, which stands still within a turn and counts milliseconds
        self._loop = asyncio.get_running_loop()
        self._bounds = _bounds(settings)  # one for all streams that are opened with it
        self._buffers = BufferManager(settings.buffer, self._loop.call_soon)
        self._pipelines: dict[str, StreamingPipeline] = {}
        self._closed: dict[str, StreamingPipeline] = {}  # what can still be read, the longest closed first
        self._keys: dict[
            tuple[str | None, str], tuple[str, bytes]
        ] = {}  # (client, key) → stream id, digest of the request
        self._key_of: dict[str, tuple[str | None, str]] = {}
        self._deadlines: dict[str, asyncio.TimerHandle] = {}
        self._clients: Counter[str] = Counter()
        self._allowances = Allowances()
        self._tasks: list[asyncio.Task[None]] = []
        self._failures = RecentShare()
        self._drops = RecentShare()
        self._counted = (0, 0)  # results dropped and sent, at the last tick
        self._lag = LoopLag(metrics, clock)
        self._bugs = metrics.bugs
        self._first = FirstBytes(self._loop.call_soon)
        self._draining = False
        self._ebb = Ebb()
        self.held_beside: Callable[[], int] = lambda: 0  # bytes of others, which come and go as the journals' do
        self.on_closed: Callable[[StreamingPipeline], object] = lambda pipeline: None  # told of each stream's end
        self.starting = False  # streams are refused until it is over
        self._empty = asyncio.Event()
        self._empty.set()
        # Node and worker, so that later anyone can tell whose stream an id is.
        self._node = f"{token_hex(2)}0"
        self._buffers.reclaim = self._let_go
        metrics.active_streams = lambda: len(self._pipelines)
        metrics.memory_bytes = lambda: self._buffers.held_bytes
        metrics.register(
            "streaming_streams_limit", "STREAM__MAX_CONCURRENT", lambda: self._settings.stream.max_concurrent
        )
        metrics.register("streaming_memory_limit_bytes", "BUFFER__TOTAL_BYTES", lambda: self._buffers.total_bytes)
        metrics.register("streaming_kept_streams", "Closed streams that can still be read", lambda: len(self._closed))

    # ── its life ─────────────────────────────────────────────────────────────────────────

    def validate(self) -> None:
        """Refuse settings that fit each their type but not each other.  Raises ConfigError."""
        _refuse_misfits(self._settings.buffer, self._settings.stream.max_frame_bytes)

    def reload(self, settings: Settings) -> None:
        """From now on streams are held to the limits of *settings*; the buffers stay as they were made."""
        self._settings = settings
        self._bounds = _bounds(settings)

    def start_maintenance_tasks(self) -> None:
        """Look after readers and the loop from now on."""
        self._tasks = [self._loop.create_task(self._maintain()), self._loop.create_task(self._lag.run())]

    def stop_admitting(self) -> None:
        """From now on new streams are refused with 503; the open ones go on, except those that wait for somebody.

        They could not come to their end without a reader; what they have can still be read.
        """
        self._draining = True
        left = [p for p in self._pipelines.values() if not p.subscribers and not p.opening.detached]
        self._bugs.each("stopping", left, lambda pipeline: pipeline.stop("shutdown"), _names)

    def stop_all(self, status: str) -> None:
        """End every stream: what runs is cancelled, readers get a summary with *status*."""
        running = list(self._pipelines.values())
        self._bugs.each("stopping", running, lambda pipeline: pipeline.stop(status), _names)

    async def wait_closed(self, timeout_s: float) -> bool:
        """Wait until every stream is read to its end; False when *timeout_s* passed first."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    @property
    def empty(self) -> bool:
        """Whether every stream is closed."""
        return not self._pipelines

    async def close(self) -> None:
        """End what is left, read or not, and the maintenance."""
        left = list(self._pipelines.values())
        self._bugs.each("stopping", left, _end, _names)
        joined = await asyncio.gather(*(pipeline.join() for pipeline in left), return_exceptions=True)
        for pipeline, error in zip(left, joined, strict=True):
            if error is not None:
                self._bugs.met("stopping", error, **pipeline.named)
        self._bugs.each("forgetting", list(self._closed.values()), self._forget, _names)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def now(self) -> float:
        """The clock of all streams, in seconds."""
        return self._clock()

    # ── streams ──────────────────────────────────────────────────────────────────────────

    def open(self, opening: Opening, make_processor: MakeProcessor) -> StreamingPipeline:
        """Open a stream; it waits for its first reader unless it is detached.

        Raises ShuttingDown, Overloaded or RateLimited.
        """
        self._admit(opening.client)
        stream_id = f"{self._node}-{token_hex(16)}"
        pipeline = StreamingPipeline(
            stream_id, opening, self._bounds, self._buffers, self._metrics, self._clock, self._on_closed
        )
        processor = make_processor(pipeline)  # what cannot be made was never opened
        self._pipelines[stream_id] = pipeline
        self._empty.clear()
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

    def first_bytes(self) -> int:
        """How much a reader that comes now is written at once; the rest comes in its turn."""
        return self._first.bytes()

    def attach(self, pipeline: StreamingPipeline, encoder: Encoder, sink: Sink, after: int | None = None) -> Subscriber:
        """Let *sink* read *pipeline* from its first frame, or behind the frame *after*, which it has from before."""
        settings = self._settings.buffer
        buffer = self._buffers.lend(encoder.protocol)
        backpressure = BackpressureHandler(settings.slow_ms)
        counts = self._metrics.protocols[encoder.protocol]
        waits = pipeline.opening.on_slow == "block"
        dropping = None if waits else DropPolicy(settings.drop_threshold, settings.max_bytes)
        subscriber = Subscriber(pipeline, encoder, buffer, backpressure, sink, counts, dropping, after)
        pipeline.attach(subscriber)
        return subscriber

    def find(self, stream_id: str, client: str | None) -> StreamingPipeline | None:
        """The stream of that id, as long as it can be read; for *client*, whose it must be."""
        pipeline = self._pipelines.get(stream_id) or self._closed.get(stream_id)
        return pipeline if pipeline is not None and pipeline.opening.client == client else None

    def of(self, client: str | None) -> list[StreamingPipeline]:
        """Every stream of *client* that can be read, the closed ones first."""
        return [pipeline for pipeline in self.all() if pipeline.opening.client == client]

    def all(self) -> list[StreamingPipeline]:
        """Every stream that can be read, the closed ones first."""
        return [*self._closed.values(), *self._pipelines.values()]

    def joined(self, client: str | None, key: str, digest: bytes) -> StreamingPipeline | None:
        """The stream that *client* opened under *key*, if it can still be read.

        Raises Conflict when it was opened by another request.
        """
        known = self._keys.get((client, key))
        if known is None:
            return None
        stream_id, first = known
        if first != digest:
            raise Conflict("this key came with another request", field="Idempotency-Key")
        return self.find(stream_id, client)

    def remember(self, client: str | None, key: str, digest: bytes, pipeline: StreamingPipeline) -> None:
        """From now on *key* of *client* means *pipeline*."""
        self._keys[client, key] = pipeline.id, digest
        self._key_of[pipeline.id] = client, key

    def _admit(self, client: str | None) -> None:
        limits = self._settings.stream
        if self._draining:
            raise ShuttingDown("the daemon is shutting down", retry_after_s=5)
        if why := self.overload():
            raise Overloaded(why, retry_after_s=1)
        if client is not None and self._clients[client] >= limits.max_per_client:
            raise RateLimited(
                f"this client has {limits.max_per_client} streams open, no more are allowed", retry_after_s=1
            )
        # Last, so that only a stream that is opened takes of it.
        wait_s = self._allowances.take(client, self._clock(), limits.rate_limit_rps, limits.rate_limit_burst)
        if wait_s:
            raise RateLimited(
                f"this client opens more than {limits.rate_limit_rps:g} streams a second (STREAM__RATE_LIMIT_RPS)",
                retry_after_s=ceil(wait_s),
            )

    def overload(self) -> str | None:
        """Why nobody would be given a new stream now; None when that is no reason."""
        if self.starting:
            return "the daemon is starting"
        most = self._settings.stream.max_concurrent
        if len(self._pipelines) >= most:
            return f"{most} streams are open, no more are allowed"
        if not self._buffers.make_room():
            return f"the streams hold {self._buffers.held_bytes} bytes, all that they may"
        return None

    def _on_closed(self, pipeline: StreamingPipeline) -> None:
        opening, now = pipeline.opening, self._clock()
        del self._pipelines[pipeline.id]
        self._closed[pipeline.id] = pipeline
        self._deadlines.pop(pipeline.id).cancel()
        if opening.client is not None:
            self._clients[opening.client] -= 1
            self._clients += Counter()  # forgets clients that have none
        if not self._pipelines:
            self._empty.set()
        self._failures.count(now, bad=pipeline.faulty)
        self._metrics.duration.labels(pipeline.protocol, pipeline.status).observe(now - pipeline.opened_at)
        successful, failed = pipeline.results
        log.info(
            "stream.closed",
            **pipeline.named,
            type=opening.stream_type,
            status=pipeline.status,
            fault=pipeline.fault,
            protocol=pipeline.protocol,
            urls=opening.total_urls,
            successful=successful,
            failed=failed,
            frames=pipeline.journal.last_seq,
            subscribers=pipeline.readers,
            sent_frames=pipeline.sent_frames,
            sent_bytes=pipeline.sent_bytes,
            missed_frames=pipeline.missed_frames,
            kept_bytes=pipeline.journal.ring.allocated,
            took_ms=round((now - pipeline.opened_at) * 1000, 1),
        )
        self.on_closed(pipeline)
        if not opening.kept:
            self._forget(pipeline)

    def _forget(self, pipeline: StreamingPipeline) -> None:
        """A closed stream can be read no more."""
        if self._closed.pop(pipeline.id, None) is None:
            return
        if key := self._key_of.pop(pipeline.id, None):
            del self._keys[key]
        pipeline.forget()

    def _let_go(self, wanted: int) -> None:
        """Give back *wanted* bytes of what nobody waits for (contract section 4, *Total*).

        Closed streams go first, the longest closed before the others, and then what is kept behind
        readers.  A closed stream that somebody reads gives what he has still to read only
        when there would be no room at all without it, and never the last that one window holds.
        """
        buffers = self._buffers
        target = buffers.held_bytes - wanted
        for pipeline in list(self._closed.values()):
            if buffers.held_bytes <= target:
                return
            if not pipeline.subscribers:
                self._forget(pipeline)
        level = level_off(
            self.all(),
            lambda: buffers.held_bytes - target,
            lambda pipeline: pipeline.behind_bytes,
            StreamingPipeline.let_go_behind,
        )
        if level is not None:
            buffers.keep_behind(level)
        level_off(
            list(self._closed.values()),
            lambda: 0 if buffers.has_room else buffers.held_bytes - buffers.total_bytes + 1,
            lambda pipeline: pipeline.beyond_window_bytes,
            StreamingPipeline.let_go_beyond_window,
        )

    # ── health ───────────────────────────────────────────────────────────────────────────

    def metrics(self) -> StreamingFigures:
        """Streaming's figures as of now."""
        now = self._clock()
        error_rate, drop_ratio = self._failures.share(now), self._drops.share(now)
        readers = self._readers()
        return StreamingFigures(
            status=self.status(),
            active_connections=len(readers),
            active_streams=len(self._pipelines),
            error_rate=round(error_rate, 4),
            drop_ratio=round(drop_ratio, 4),
            memory_bytes=self._buffers.held_bytes,
            loop_lag_ms=round(self._lag.worst_s * 1000, 3),
            slow_clients=sum(reader.backpressure.under_backpressure(now) for reader in readers),
        )

    def journals(self) -> dict[str, object]:
        """What all journals hold; full, they take no new stream and running ones wait for their readers."""
        return {
            "status": "healthy" if self._buffers.has_room else "degraded",
            "bytes": self._buffers.held_bytes,
            "max_bytes": self._buffers.total_bytes,
            "unsent_bytes": self._buffers.unsent_bytes,
            "kept_streams": len(self._closed),
        }

    def loop(self) -> dict[str, object]:
        """How late the loop ran its timers: the worst of the last second, and all of the last 60 s.

        What of it was waiting for a core is said too, and judged no better: clients wait as long.
        """
        now = self._clock()
        late_ms = self._lag.late_ms(now)
        return {
            "status": judged(late_ms / LATE_SPAN_MS, DEGRADED_ERROR_RATE, UNHEALTHY_ERROR_RATE),
            "lag_ms": round(self._lag.worst_s * 1000, 3),
            "starved_ms": round(self._lag.worst_starved_s * 1000, 3),
            "late_ms": late_ms,
            "late_starved_ms": self._lag.starved_ms(now),
        }

    def maintenance(self) -> dict[str, object]:
        """What looks after streams, connections and the rest: whether it runs, and what it met that it should not."""
        recent = self._bugs.recent
        ended = any(task.done() for task in self._tasks)
        return {
            "status": "unhealthy" if ended else "degraded" if recent else "healthy",
            "recent_bugs": recent,
            "bugs": self._bugs.counts.total(),
        }

    def is_healthy(self) -> bool:
        """Whether few enough streams failed lately and the maintenance runs."""
        return self.status() != "unhealthy"

    def status(self) -> str:
        """How well it is, without a look at each reader."""
        if any(task.done() for task in self._tasks):
            return "unhealthy"
        now = self._clock()
        return max(
            judged(self._failures.share(now), DEGRADED_ERROR_RATE, UNHEALTHY_ERROR_RATE),
            judged(self._drops.share(now), DEGRADED_DROP_RATIO, UNHEALTHY_DROP_RATIO),
            key=WORST_LAST.index,
        )

    def _readers(self) -> list[Subscriber]:
        return [reader for pipeline in self.all() for reader in pipeline.subscribers]

    # ── maintenance ──────────────────────────────────────────────────────────────────────

    async def _maintain(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(TICK_S)
            ticks += 1
            sample = ticks % TICKS_A_SAMPLE == 0
            self._bugs.survive("tick", lambda sample=sample: self.tick(self._clock(), sample=sample))  # type: ignore[misc]

    def tick(self, now: float, *, sample: bool) -> None:
        """Look after readers, places that were left and closed streams; once a second *sample* the windows too.

        A step that raises costs the others nothing, nor does a stream that does.
        """
        sampled = [self._sample] if sample else []
        steps = (self._make_room, self._look_at_readers, *sampled, self._count_drops, self._look_at_streams)
        self._bugs.each("tick", steps, lambda step: step(now), lambda step: {"step": step.__name__})

    def _make_room(self, _now: float) -> None:
        """Streams were closed and read since it was asked for the last time."""
        self._buffers.make_room()

    def _look_at_readers(self, now: float) -> None:
        readers = self._readers()
        overdue(readers, now)
        unheard = [
            reader for reader in silent(readers, now - self._settings.stream.heartbeat_s) if not reader.sink.paused
        ]
        self._bugs.each("heartbeats", unheard, Subscriber.heartbeat, _named)

    def _sample(self, now: float) -> None:
        def sampled(reader: Subscriber) -> None:
            self._metrics.utilization.observe(reader.unread_frames / reader.buffer.capacity_frames)
            self._metrics.capacity.observe(reader.buffer.capacity_frames)
            if reader.backpressure.under_backpressure(now):
                reader.shrink()

        self._bugs.each("samples", self._readers(), sampled, _named)
        self._buffers.relax()
        if self._ebb.told(self._buffers.held_bytes + self.held_beside()):
            give_back()

    def _look_at_streams(self, now: float) -> None:
        window_s = self._settings.stream.resume_window_s
        left = [p for p in self._pipelines.values() if p.pacer.vacant and now - p.pacer.since >= window_s]
        self._bugs.each("windows", left, lambda pipeline: pipeline.window_over(), _names)
        self._bugs.each("lags", list(self._pipelines.values()), lambda pipeline: pipeline.look_at_lag(), _names)
        # The longest closed come first, so the others are not looked at: there may be 20,000.
        due = takewhile(lambda p: now >= p.closed_at + window_s, self._closed.values())
        over = [p for p in due if not p.subscribers and now >= self._kept_until(p)]
        self._bugs.each("forgetting", over, self._forget, _names)

    def _count_drops(self, now: float) -> None:
        protocols = self._metrics.protocols.values()
        dropped = sum(counts.dropped["slow_client"] for counts in protocols)
        sent = sum(counts.results for counts in protocols)
        before_dropped, before_sent = self._counted
        if (dropped, sent) != self._counted:
            bad = dropped - before_dropped
            self._drops.count(now, bad, bad + max(0, sent - before_sent))
            self._counted = dropped, sent

    def _kept_until(self, pipeline: StreamingPipeline) -> float:
        until = pipeline.closed_at + self._settings.stream.resume_window_s
        if pipeline.opening.detached and not pipeline.read_to_end:
            until = max(until, pipeline.opened_at + self._settings.stream.deadline_s)
        return until


def _names(pipeline: StreamingPipeline) -> dict[str, str]:
    return pipeline.named


def _named(reader: Subscriber) -> dict[str, str]:
    return reader.pipeline.named


def _end(pipeline: StreamingPipeline) -> None:
    """Nobody reads it any more, and nothing is added."""
    for reader in list(pipeline.subscribers):
        pipeline.detach(reader)
    pipeline.stop("shutdown")


def judged(share: float, degraded: float, unhealthy: float) -> str:
    """The status of something of which *share* went wrong lately."""
    return "unhealthy" if share > unhealthy else "degraded" if share > degraded else "healthy"


def _bounds(settings: Settings) -> JournalBounds:
    return JournalBounds(settings.stream.journal_bytes, settings.stream.detached_bytes, settings.buffer.max_bytes)


def _refuse_misfits(buffer: BufferSettings, max_frame_bytes: int) -> None:
    floor = max(buffer.initial_bytes, max_frame_bytes)
    if buffer.total_bytes < floor:
        raise ConfigError(
            f"BUFFER__TOTAL_BYTES={buffer.total_bytes} must hold one window (BUFFER__INITIAL_BYTES) and one frame"
            f" (STREAM__MAX_FRAME_BYTES) at least: want {floor} or more"
        )
