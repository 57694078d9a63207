"""Work for all streams by the clock: memory, slow and silent readers, places that were left, expiry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import takewhile
from operator import attrgetter
from typing import Final

from fastmesh._core import give_back, overdue, silent
from fastmesh.streaming.lag import LoopLag
from fastmesh.streaming.memory import BufferManager, Ebb
from fastmesh.streaming.pipeline import StreamingPipeline
from fastmesh.streaming.registry import StreamRegistry
from fastmesh.streaming.subscriber import Subscriber
from fastmesh.telemetry.metrics import Metrics
from fastmesh.telemetry.rates import RecentShare

TICK_S: Final = 0.1  # how often slow readers are looked for
TICKS_A_SAMPLE: Final = 10  # utilization is sampled once a second

_named: Final = attrgetter("named")  # a stream, in the log
_stream_named: Final = attrgetter("pipeline.named")  # a reader


class Upkeep:
    """Looks after the streams of *registry* while its tasks run.  A step that raises costs the others nothing, nor does
    a stream or a reader that does."""

    def __init__(self, registry: StreamRegistry, buffers: BufferManager, metrics: Metrics) -> None:
        self.lag = LoopLag(metrics, registry.now)
        self.drops = RecentShare()  # of results that were not sent to a slow reader
        self.held_beside: Callable[[], int] = lambda: 0  # bytes of others, which come and go as the journals' do
        self._registry = registry
        self._buffers = buffers
        self._metrics = metrics
        self._bugs = metrics.bugs
        self._ebb = Ebb()
        self._counted = (0, 0)  # results dropped and sent, at the last tick
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Look after streams and the loop from now on."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._run()), loop.create_task(self.lag.run())]

    @property
    def ended(self) -> bool:
        """Whether one of its tasks has ended, which none should."""
        return any(task.done() for task in self._tasks)

    async def close(self) -> None:
        """End its tasks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(TICK_S)
            ticks += 1
            sample = ticks % TICKS_A_SAMPLE == 0
            now = self._registry.now()
            self._bugs.survive("tick", lambda now=now, sample=sample: self.tick(now, sample=sample))  # type: ignore[misc]

    def tick(self, now: float, *, sample: bool) -> None:
        """Do each step once; with *sample*, which is once a second, look at the windows too."""
        sampled = [self._sample] if sample else []
        steps = (self._make_room, self._look_at_readers, *sampled, self._count_drops, self._look_at_streams)
        self._bugs.each("tick", steps, lambda step: step(now), lambda step: {"step": step.__name__})

    def _make_room(self, _now: float) -> None:
        """There may be text to let go of: streams were closed and read since the last tick."""
        self._buffers.make_room()

    def _look_at_readers(self, now: float) -> None:
        readers = self._registry.readers()
        overdue(readers, now)
        since = now - self._registry.settings.stream.heartbeat_s
        unheard = [reader for reader in silent(readers, since) if not reader.sink.paused]
        self._bugs.each("heartbeats", unheard, Subscriber.heartbeat, _stream_named)

    def _sample(self, now: float) -> None:
        def sampled(reader: Subscriber) -> None:
            self._metrics.utilization.observe(reader.unread_frames / reader.buffer.capacity_frames)
            self._metrics.capacity.observe(reader.buffer.capacity_frames)
            if reader.backpressure.under_backpressure(now):
                reader.shrink()

        self._bugs.each("samples", self._registry.readers(), sampled, _stream_named)
        self._buffers.relax()
        if self._ebb.has_set_in(self._buffers.held_bytes + self.held_beside()):
            give_back()

    def _count_drops(self, now: float) -> None:
        protocols = self._metrics.protocols.values()
        dropped = sum(counts.dropped["slow_client"] for counts in protocols)
        sent = sum(counts.results for counts in protocols)
        before_dropped, before_sent = self._counted
        if (dropped, sent) != self._counted:
            bad = dropped - before_dropped
            self.drops.count(now, bad, bad + max(0, sent - before_sent))
            self._counted = dropped, sent

    def _look_at_streams(self, now: float) -> None:
        active, closed = self._registry.active, self._registry.closed
        window_s = self._registry.settings.stream.resume_window_s
        left = [p for p in active.values() if p.pacer.vacant and now - p.pacer.since >= window_s]
        self._bugs.each("windows", left, StreamingPipeline.window_over, _named)
        self._bugs.each("lags", list(active.values()), StreamingPipeline.look_at_lag, _named)
        # The longest closed come first, so the others are not looked at: there may be 20,000.
        due = takewhile(lambda p: now >= p.closed_at + window_s, closed.values())
        over = [p for p in due if not p.audience.attached and now >= self._kept_until(p)]
        self._bugs.each("forgetting", over, self._registry.forget, _named)

    def _kept_until(self, pipeline: StreamingPipeline) -> float:
        limits = self._registry.settings.stream
        until = pipeline.closed_at + limits.resume_window_s
        if pipeline.opening.detached and pipeline.retention.unread_frames:
            until = max(until, pipeline.opened_at + limits.deadline_s)
        return until
