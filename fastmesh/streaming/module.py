"""StreamingModule: all streams of a daemon, from its start to its end.  Created first at startup: start() either
succeeds or stops the start."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from operator import attrgetter
from typing import Final

from fastmesh.config import Settings
from fastmesh.errors import ConfigError
from fastmesh.store.memory import MemoryStore
from fastmesh.streaming.health import StreamingHealth
from fastmesh.streaming.memory import BufferManager
from fastmesh.streaming.pipeline import StreamingPipeline
from fastmesh.streaming.reclaim import let_go
from fastmesh.streaming.registry import StreamRegistry
from fastmesh.streaming.upkeep import Upkeep
from fastmesh.telemetry.metrics import Metrics

_named: Final = attrgetter("named")


class StreamingModule:
    """Builds the registry of streams, their upkeep and their health, and ends the streams at last."""

    def __init__(self, settings: Settings, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        # *clock* is not the loop's, which stands still within a turn and counts milliseconds.
        self.buffers = buffers = BufferManager(settings.buffer, asyncio.get_running_loop().call_soon)
        self.registry = registry = StreamRegistry(settings, buffers, MemoryStore(buffers.total, clock), metrics, clock)
        self.upkeep = Upkeep(registry, buffers, metrics)
        self.health = StreamingHealth(registry, buffers, self.upkeep, metrics.bugs)
        self._bugs = metrics.bugs
        buffers.reclaim = partial(let_go, registry, buffers)
        metrics.register("streaming_active_streams", "Streams not closed", lambda: len(registry.active))
        metrics.register("streaming_memory_usage_bytes", "Held by all journals", lambda: buffers.held_bytes)
        metrics.register(
            "streaming_streams_limit", "STREAM__MAX_CONCURRENT", lambda: registry.settings.stream.max_concurrent
        )
        metrics.register("streaming_memory_limit_bytes", "BUFFER__TOTAL_BYTES", lambda: buffers.total_bytes)
        metrics.register(
            "streaming_kept_streams", "Closed streams that can still be read", lambda: len(registry.closed)
        )

    def validate(self) -> None:
        """Refuse settings that fit each their type but not each other.  Raises ConfigError."""
        buffer, stream = self.registry.settings.buffer, self.registry.settings.stream
        floor = max(buffer.initial_bytes, stream.max_frame_bytes)
        if buffer.total_bytes < floor:
            raise ConfigError(
                f"BUFFER__TOTAL_BYTES={buffer.total_bytes} must hold one window (BUFFER__INITIAL_BYTES) and one frame"
                f" (STREAM__MAX_FRAME_BYTES) at least: want {floor} or more"
            )

    def start(self) -> None:
        """Look after streams and the loop from now on.  Raises ConfigError."""
        self.validate()
        self.upkeep.start()

    def stop_admitting(self) -> None:
        """Refuse new streams with 503, and end those that wait for a reader: they could not come to their end."""
        self.registry.draining = True
        left = [p for p in self.registry.active.values() if not p.audience.attached and not p.opening.detached]
        self._stop(left, "shutdown")

    def stop_all(self, status: str) -> None:
        """End every stream: its URLs under way are cancelled, its readers get a summary with *status*."""
        self._stop(list(self.registry.active.values()), status)

    async def wait_closed(self, timeout_s: float) -> bool:
        """Wait until every stream is read to its end; False when *timeout_s* passed first."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.registry.none_active.wait(), timeout_s)
        return self.registry.none_active.is_set()

    async def close(self) -> None:
        """End the streams that are left, read or not, and the upkeep."""
        left = list(self.registry.active.values())
        self._bugs.each("stopping", left, _end, _named)
        joined = await asyncio.gather(*(pipeline.join() for pipeline in left), return_exceptions=True)
        for pipeline, error in zip(left, joined, strict=True):
            if error is not None:
                self._bugs.met("stopping", error, **pipeline.named)
        self._bugs.each("forgetting", list(self.registry.closed.values()), self.registry.forget, _named)
        await self.upkeep.close()

    def _stop(self, pipelines: list[StreamingPipeline], status: str) -> None:
        self._bugs.each("stopping", pipelines, lambda pipeline: pipeline.stop(status), _named)


def _end(pipeline: StreamingPipeline) -> None:
    """Let its readers go and cancel its URLs under way."""
    for reader in list(pipeline.audience.attached):
        pipeline.detach(reader)
    pipeline.stop("shutdown")
