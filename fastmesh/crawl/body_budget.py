"""BodyBudget: how many bytes of bodies are in memory at once, over all fetches.

Over the total, reading waits, and so does the origin behind it (TCP).  One body may always go
on: it becomes whole, is extracted and let go, so that bodies that all wait for each
other's room do not exist.  One that may and does not, since its origin drips, lets the next try,
and waits behind the others when it has more.  A fetch that waits too long meets its own deadline.
"""

from __future__ import annotations

import asyncio
from typing import Final

STALL_S: Final = 0.5


class BodyBudget:
    """Counts bodies.

    At most *total_bytes*, but for the body that goes on and what one read brings of each
    other that is being read or was let try.
    """

    def __init__(self, total_bytes: int) -> None:
        self.used_bytes = 0
        self._total_bytes = total_bytes
        self._waiting: dict[BodyShare, asyncio.Future[None]] = {}  # who came first is first
        self._passing: BodyShare | None = None  # the one that may go on over the total
        self._stall: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Bodies whose reading waits."""
        return len(self._waiting)

    def open(self) -> BodyShare:
        """A body is about to be read."""
        return BodyShare(self)

    def add(self, size: int) -> None:
        """There are *size* bytes more; below zero, fewer."""
        self.used_bytes += size
        if size < 0 and self.used_bytes < self._total_bytes:
            for waiter in self._waiting.values():
                _wake(waiter)

    def stop_reading(self, share: BodyShare) -> None:
        """*share* will not grow any more."""
        if share is self._passing:
            self._pass_on()

    async def room(self, share: BodyShare) -> None:
        """Return when *share* may grow."""
        while not self._may_grow(share):
            waiter = self._waiting[share] = asyncio.get_running_loop().create_future()
            try:
                await waiter
            finally:
                del self._waiting[share]

    def _may_grow(self, share: BodyShare) -> bool:
        if self.used_bytes < self._total_bytes:
            return True
        if self._passing in (None, share):
            self._let_pass(share)
        return self._passing is share

    def _let_pass(self, share: BodyShare | None) -> None:
        if self._stall is not None:
            self._stall.cancel()
        self._passing, self._stall = share, None
        if share is not None:
            self._stall = asyncio.get_running_loop().call_later(STALL_S, self._pass_on)

    def _pass_on(self) -> None:
        first = next(iter(self._waiting), None)
        self._let_pass(first)
        if first is not None:
            _wake(self._waiting[first])


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
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
