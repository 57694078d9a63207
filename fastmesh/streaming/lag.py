"""How late the loop runs its timers, and how much of that was its own doing.

A timer is late because a turn of the loop took long, or because the thread was ready and had no core (other
processes, steal).  The kernel counts the time of both for each thread; a timer's lateness is divided in the
proportion that they have since it was set.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from fastmesh.telemetry.metrics import Metrics
from fastmesh.telemetry.rates import RecentShare

PROBE_S: Final = 0.05
A_SECOND: Final = 20  # probes
NANOSECONDS: Final = 1e-9

Cores = Callable[[], tuple[float, float]]


class ThreadCores:
    """The calling thread's seconds on a core, and ready without one, as Linux counts them (proc/<pid>/schedstat)."""

    def __init__(self) -> None:
        self._fd = -1
        with suppress(OSError):  # not Linux, or it does not count
            self._fd = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY | os.O_CLOEXEC)

    def __call__(self) -> tuple[float, float]:
        """Both since the thread began; (0.0, 0.0) where the system does not count."""
        try:
            ran, waited, _ = os.pread(self._fd, 100, 0).split()
        except (OSError, ValueError):
            return 0.0, 0.0
        return int(ran) * NANOSECONDS, int(waited) * NANOSECONDS

    def close(self) -> None:
        """Its file is read no more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class LoopLag:
    """Measures, while run() runs.  *clock* is the streams'."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._clock = clock
        self._cores: Cores = lambda: (0.0, 0.0)
        self._recent: deque[tuple[float, float]] = deque(maxlen=A_SECOND)  # lag, and the part of it without a core
        self._late = RecentShare()  # milliseconds
        self._starved = RecentShare()
        metrics.register("loop_busy_seconds", "The loop's thread, on a core", lambda: self._cores()[0], counted=True)
        metrics.register("loop_starved_seconds", "It was ready and had no core", lambda: self._cores()[1], counted=True)

    @property
    def worst_s(self) -> tuple[float, float]:
        """The worst lag of the last second, and the part of it in which the thread had no core."""
        return max(self._recent, default=(0.0, 0.0))

    def late_ms(self, now: float) -> tuple[int, int]:
        """The lags of the last minute together, and the part of them in which the thread had no core."""
        return self._late.bad(now), self._starved.bad(now)

    async def run(self) -> None:
        """Set a timer again and again, and see how late it comes.  To be run in the loop's own thread."""
        cores = self._cores = ThreadCores()
        try:
            while True:
                begun, due = cores(), self._clock() + PROBE_S
                await asyncio.sleep(PROBE_S)
                now = self._clock()
                self.seen(max(0.0, now - due), begun, cores(), now)
        finally:
            cores.close()

    def seen(self, lag: float, begun: tuple[float, float], ended: tuple[float, float], now: float) -> None:
        """Count a timer *lag* seconds late at *now*; ThreadCores said *begun* when it was set, *ended* when it came."""
        starved = _starved(lag, ended[0] - begun[0], ended[1] - begun[1])
        metrics = self._metrics
        metrics.loop_lag.observe(lag)
        metrics.loop_own_lag.observe(lag - starved)
        metrics.loop_starved_lag.observe(starved)
        self._late.count(now, int(lag * 1000))
        self._starved.count(now, int(starved * 1000))
        self._recent.append((lag, starved))


def _starved(lag: float, busy_s: float, starved_s: float) -> float:
    """The part of *lag* in which the thread was ready without a core: by its share of the time, at most all of that."""
    return min(starved_s, lag * starved_s / (busy_s + starved_s)) if starved_s > 0 else 0.0
