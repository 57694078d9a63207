"""How well streaming is: its figures, and what they are judged to mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fastmesh.streaming.memory import BufferManager
from fastmesh.streaming.registry import StreamRegistry
from fastmesh.streaming.upkeep import Upkeep
from fastmesh.telemetry.bugs import Bugs

DEGRADED_ERROR_RATE, UNHEALTHY_ERROR_RATE = 0.05, 0.10
DEGRADED_DROP_RATIO, UNHEALTHY_DROP_RATIO = 0.10, 0.20
WORST_LAST: Final = ("healthy", "degraded", "unhealthy")
LATE_SPAN_MS: Final = 60_000


def judged(share: float, degraded: float, unhealthy: float) -> str:
    """The status of something of which *share* went wrong lately."""
    return "unhealthy" if share > unhealthy else "degraded" if share > degraded else "healthy"


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


class StreamingHealth:
    """Reads the counts of registry, upkeep and buffers; it keeps none itself."""

    def __init__(self, registry: StreamRegistry, buffers: BufferManager, upkeep: Upkeep, bugs: Bugs) -> None:
        self._registry = registry
        self._buffers = buffers
        self._upkeep = upkeep
        self._bugs = bugs

    def figures(self) -> StreamingFigures:
        """Streaming's figures as of now."""
        now, readers = self._registry.now(), self._registry.readers()
        return StreamingFigures(
            status=self.status(),
            active_connections=len(readers),
            active_streams=len(self._registry.active),
            error_rate=round(self._registry.failures.share(now), 4),
            drop_ratio=round(self._upkeep.drops.share(now), 4),
            memory_bytes=self._buffers.held_bytes,
            loop_lag_ms=round(self._upkeep.lag.worst_s[0] * 1000, 3),
            slow_clients=sum(reader.backpressure.under_backpressure(now) for reader in readers),
        )

    def status(self) -> str:
        """How well it is, without a look at each reader."""
        if self._upkeep.ended:
            return "unhealthy"
        now = self._registry.now()
        return max(
            judged(self._registry.failures.share(now), DEGRADED_ERROR_RATE, UNHEALTHY_ERROR_RATE),
            judged(self._upkeep.drops.share(now), DEGRADED_DROP_RATIO, UNHEALTHY_DROP_RATIO),
            key=WORST_LAST.index,
        )

    def journals(self) -> dict[str, object]:
        """How many bytes all journals hold; full, they take no new stream and running ones wait for their readers."""
        buffers = self._buffers
        return {
            "status": "healthy" if buffers.has_room else "degraded",
            "bytes": buffers.held_bytes,
            "max_bytes": buffers.total_bytes,
            "unsent_bytes": buffers.unsent_bytes,
            "kept_streams": len(self._registry.closed),
        }

    def loop(self) -> dict[str, object]:
        """How late the loop ran timers, in the last second and in 60 s; waiting for a core counts: clients wait too."""
        lag_s, starved_s = self._upkeep.lag.worst_s
        late_ms, late_starved_ms = self._upkeep.lag.late_ms(self._registry.now())
        return {
            "status": judged(late_ms / LATE_SPAN_MS, DEGRADED_ERROR_RATE, UNHEALTHY_ERROR_RATE),
            "lag_ms": round(lag_s * 1000, 3),
            "starved_ms": round(starved_s * 1000, 3),
            "late_ms": late_ms,
            "late_starved_ms": late_starved_ms,
        }

    def maintenance(self) -> dict[str, object]:
        """Whether the upkeep runs, and the bugs that were survived in it and wherever one thing is done for many."""
        recent = self._bugs.recent
        return {
            "status": "unhealthy" if self._upkeep.ended else "degraded" if recent else "healthy",
            "recent_bugs": recent,
            "bugs": self._bugs.counts.total(),
        }
