"""BodyBudget: how many bytes of bodies are in memory at once, over all fetches.

Over the total, reading waits, and so does the origin behind it (TCP).  The body
that has been read longest may always go on: it becomes whole, is extracted and
let go, so that bodies that all wait for each other's room do not exist.  A fetch
that waits too long meets its own deadline.
"""

from __future__ import annotations

import asyncio


class BodyBudget:
    """Counts bodies; at most *total_bytes*, but for one body and a piece of each that is being read."""

    def __init__(self, total_bytes: int) -> None:
        self.used_bytes = 0
        self._total_bytes = total_bytes
        self._reading: dict[BodyShare, None] = {}  # the one that began first is first
        self._waiting: dict[BodyShare, asyncio.Future[None]] = {}

    @property
    def waiting(self) -> int:
        """Bodies whose reading waits."""
        return len(self._waiting)

    def open(self) -> BodyShare:
        """A body is about to be read."""
        share = BodyShare(self)
        self._reading[share] = None
        return share

    def add(self, size: int) -> None:
        """There are *size* bytes more; below zero, fewer."""
        self.used_bytes += size
        if size < 0:
            self._wake()

    def stop_reading(self, share: BodyShare) -> None:
        """*share* will not grow any more."""
        if share in self._reading:
            del self._reading[share]
            self._wake()

    async def room(self, share: BodyShare) -> None:
        """Return when *share* may grow; the loop has had its turn by then."""
        await asyncio.sleep(0)
        while not self._may_grow(share):
            waiter = self._waiting[share] = asyncio.get_running_loop().create_future()
            try:
                await waiter
            finally:
                del self._waiting[share]

    def _may_grow(self, share: BodyShare) -> bool:
        return self.used_bytes < self._total_bytes or share is next(iter(self._reading))

    def _wake(self) -> None:
        for share, waiter in self._waiting.items():
            if not waiter.done() and self._may_grow(share):
                waiter.set_result(None)


class BodyShare:
    """What one body takes of the budget, as long as anybody holds it; whoever opened it does."""

    __slots__ = ("_budget", "_bytes", "_holders")

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._bytes = 0
        self._holders = 1

    def add(self, size: int) -> None:
        """The body has *size* bytes more."""
        self._bytes += size
        self._budget.add(size)

    async def room(self) -> None:
        """Return when the body may grow."""
        await self._budget.room(self)

    def whole(self) -> None:
        """The body is read; it stays until it is given back."""
        self._budget.stop_reading(self)

    def hold(self) -> None:
        """One more needs the body."""
        if not self._holders:
            self._budget.add(self._bytes)
        self._holders += 1

    def give_back(self) -> None:
        """One needs it no more."""
        self._holders -= 1
        if not self._holders:
            self._budget.stop_reading(self)
            self._budget.add(-self._bytes)
