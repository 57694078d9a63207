"""The store that is memory: journals, and nothing behind them."""

from __future__ import annotations

from collections.abc import Callable

from fastmesh._core import Journal, MemoryTotal


class MemoryStore:
    """Shows a frame as soon as it is appended, and has let go of whatever its journal has let go of."""

    def __init__(self, total: MemoryTotal, clock: Callable[[], float]) -> None:
        self._total = total
        self._clock = clock

    def open(self, stream_id: str) -> Journal:
        return Journal(self._total, self._clock, stream_id.encode())

    def read(self, journal: Journal, seq: int) -> None:
        """There is nothing behind *journal*."""

    def forget(self, journal: Journal) -> None:
        journal.close()
