"""When a client is slow.

BackpressureHandler is a policy: it is told what the transport took and what
still waits, always with the time, and says whether there is backpressure.  It
owns no queue, starts no task and never asks the time.
"""

from __future__ import annotations

from fastmesh._core import RingBuffer, SendWindow

FORGET_S = 1.0  # entries older than this leave: a client that reads again is not held to its past
FEWEST = 25  # fewer sends than this say nothing


class BackpressureHandler:
    """Judges one subscriber by its last 50 sends (contract section 6)."""

    __slots__ = ("_entered", "_slow_s", "window")

    def __init__(self, slow_ms: float) -> None:
        self.window = SendWindow()
        self._slow_s = slow_ms / 1000
        self._entered = 1  # frames before this one are in the window already

    def took(self, ring: RingBuffer, seq: int, end: int, now: float) -> float:
        """The transport took the frames *seq* to *end* (excluded); return the longest wait in seconds."""
        entered = self._entered
        if seq >= entered:  # the ordinary case: none of them was overdue
            self._entered = end
            return self.window.took(ring, seq, end, now, self._slow_s)
        if entered < end:
            self.window.took(ring, entered, end, now, self._slow_s)
            self._entered = end
        return now - ring.entered(seq)

    def waits(self, ring: RingBuffer, seq: int, now: float) -> None:
        """The frames from *seq* on wait still: those whose time is over are slow now, not first when they are sent."""
        self._entered = self.window.overdue(ring, max(seq, self._entered), now, self._slow_s)

    def under_backpressure(self, now: float) -> bool:
        """Whether more than half of at least 25 recent sends were slow."""
        self.window.expire(now - FORGET_S)
        entries = len(self.window)
        return entries >= FEWEST and self.window.slow * 2 > entries
