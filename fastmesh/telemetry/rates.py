"""How often something went wrong in the last minute."""

from __future__ import annotations

from collections import deque

SPAN_S = 60


class RecentShare:
    """The share of events of the last 60 s that were of the bad kind, kept by the second.  It is given the time with
    every call."""

    __slots__ = ("_seconds",)

    def __init__(self) -> None:
        self._seconds: deque[list[int]] = deque()  # [second, all, bad]

    def count(self, now: float, bad: int, events: int = 1) -> None:
        """So many *events* more at *now* seconds, *bad* of them of the bad kind."""
        second = int(now)
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append([second, 0, 0])
            self._leave(now)
        self._seconds[-1][1] += events
        self._seconds[-1][2] += bad

    def share(self, now: float) -> float:
        """Bad ones to all, 0.0 when there were none."""
        total = self.events(now)
        return self.bad(now) / total if total else 0.0

    def bad(self, now: float) -> int:
        """How many bad ones there were."""
        self._leave(now)
        return sum(entry[2] for entry in self._seconds)

    def events(self, now: float) -> int:
        """How many there were of all kinds."""
        self._leave(now)
        return sum(entry[1] for entry in self._seconds)

    def _leave(self, now: float) -> None:
        while self._seconds and self._seconds[0][0] <= now - SPAN_S:
            self._seconds.popleft()
