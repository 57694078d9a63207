"""BodyBudget: how many bytes of bodies are in memory at once, over all fetches.

Over the total, reading waits, and so does the origin behind it (TCP).  One body may go on past it: it becomes whole, is
extracted and let go, so that bodies that all wait for each other's room do not exist.  One that may and does not, since
its origin drips, lets the next try, and goes on first when it has more.  All that go on past the total share what the
largest body may have; one that holds some of that and sends nothing, while another needs it, is given up.  An eighth of
the total is kept for small bodies, so that pages come while large bodies stand still.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Final

from fastmesh.crawl.fetch.deadline import Deadline

STALL_S: Final = 0.5
# A body that goes on brings so much in that time: one that brings less could not become large within its own.
STALL_BYTES: Final = 65_536
SMALL_BYTES: Final = 65_536
READ_BYTES: Final = 65_536
# What one read brings: aiohttp lets twice READ_BYTES come and what uvloop has read by then, 256 KiB at once.
MAX_READ_BYTES: Final = 2 * READ_BYTES + 262_144


class BodyBudget:
    """Counts bodies, each of *largest_bytes* at most.

    They are *total_bytes* and *largest_bytes* together at most, and what one read brings of each that is being read;
    one more of the largest while all that went on past the total wait for each other.
    """

    def __init__(self, total_bytes: int, largest_bytes: int) -> None:
        self.used_bytes = 0
        self._total_bytes = total_bytes
        self._largest_bytes = largest_bytes
        self._waiting: dict[BodyShare, asyncio.Future[None]] = {}  # in the order they came
        self._passing: BodyShare | None = None  # the one that may go on past the total
        self._past: dict[BodyShare, None] = {}  # those that have gone on, and are not whole
        self._past_bytes = 0  # of them, and of those that are whole
        self._freed = False  # the passing one goes on whatever others hold past the total, for they wait too
        self._had_bytes = 0  # of the passing one, when it was looked at
        self._look: asyncio.TimerHandle | None = None
        self._more: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Bodies whose reading waits."""
        return len(self._waiting)

    def open(self, deadline: Deadline | None = None) -> BodyShare:
        """A body is about to be read; its *deadline* stands still while it waits for room."""
        return BodyShare(self, deadline)

    def add(self, share: BodyShare, size: int) -> None:
        """*share* has *size* bytes more."""
        self.used_bytes += size
        if share is self._passing and self.used_bytes > self._total_bytes:
            share.past_bytes += size
            self._past_bytes += size
            self._past[share] = None

    def take_back(self, share: BodyShare) -> None:
        """No page needs *share* any more."""
        self.used_bytes -= share.bytes + share.next_read
        self._past_bytes -= share.past_bytes
        share.next_read = share.past_bytes = 0
        self.stop_reading(share)
        self._wake_waiting()

    def stop_reading(self, share: BodyShare) -> None:
        """*share* will not grow any more."""
        self._past.pop(share, None)
        if share is self._passing:
            self._pass_on()
        if share.next_read:
            self.used_bytes -= share.next_read
            share.next_read = 0
            self._wake_waiting()

    def may_grow(self, share: BodyShare) -> bool:
        """Whether *share* may grow now."""
        kept = 0 if share.bytes <= SMALL_BYTES else self._total_bytes // 8
        if self.used_bytes < self._total_bytes - kept:
            return True
        if self._passing is None:
            self._let_pass(share)
        return share is self._passing and (self._past_bytes <= self._largest_bytes or self._freed)

    async def room(self, share: BodyShare) -> None:
        """Return when *share* may grow."""
        while not self.may_grow(share):
            waiter = self._waiting[share] = asyncio.get_running_loop().create_future()
            try:
                await waiter
            finally:
                del self._waiting[share]

    def _let_pass(self, share: BodyShare | None) -> None:
        if self._look is not None:
            self._look.cancel()
        self._passing, self._look, self._freed = share, None, False
        if share is not None:
            self._had_bytes = share.bytes
            self._look = asyncio.get_running_loop().call_later(STALL_S, self._look_at_passing)

    def _look_at_passing(self) -> None:
        """It goes on, or the next may try; if it waits for what others hold past the total, one of them is given up.
        Where all who hold of that wait as well, nobody is to blame, and it goes on beside them."""
        share = self._passing
        if share in self._waiting:
            stalled = next((other for other in self._past if other.listens and other is not share), None)
            if stalled is not None:
                stalled.give_up()
            elif self._past_bytes == sum(other.past_bytes for other in self._past if other in self._waiting):
                self._let_pass(share)
                self._freed = True
                self._wake_passing()
                return
        elif share is not None and share.listens and share.bytes - self._had_bytes < STALL_BYTES:
            self._pass_on()
            return
        self._let_pass(share)

    def _pass_on(self) -> None:
        """To a body that has begun to go on and has more now, else to the one that waits the longest."""
        begun = (share for share in self._past if share in self._waiting)
        self._let_pass(next(begun, None) or next(iter(self._waiting), None))
        self._wake_passing()

    def _wake_waiting(self) -> None:
        """There is room: so many go on as it holds reads of, and more of them later if these bring nothing.  All at
        once would bring what one read brings of each, far past the total."""
        room = self._total_bytes - self.used_bytes
        if room <= 0:
            self._wake_passing()
            return
        for waiter in islice(self._waiting.values(), 1 + room // MAX_READ_BYTES):
            _wake(waiter)
        if self._waiting and self._more is None:
            self._more = asyncio.get_running_loop().call_later(STALL_S, self._wake_more)

    def _wake_more(self) -> None:
        self._more = None
        self._wake_waiting()

    def _wake_passing(self) -> None:
        if self._passing is None:
            self._let_pass(next(iter(self._waiting), None))
        if self._passing in self._waiting:
            _wake(self._waiting[self._passing])


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class BodyShare:
    """What one body takes of the budget, as long as a page needs it; the one that opened it does."""

    __slots__ = ("_budget", "_deadline", "_holders", "bytes", "given_up", "listens", "next_read", "past_bytes")

    def __init__(self, budget: BodyBudget, deadline: Deadline | None) -> None:
        self._budget = budget
        self._deadline = deadline
        self._holders = 1
        self.bytes = 0
        self.past_bytes = 0  # of them, those that came when it went on past the total
        self.listens = False  # its origin is to send
        self.next_read = 0  # what it may bring, counted for a body that is not small: while there is no room it is here
        self.given_up = False

    def add(self, size: int) -> None:
        """The body has *size* bytes more."""
        self.bytes += size
        self._budget.add(self, size)
        if not self.next_read and self.bytes > SMALL_BYTES:
            self.next_read = MAX_READ_BYTES
            self._budget.used_bytes += MAX_READ_BYTES

    @property
    def has_room(self) -> bool:
        """Whether the body may grow now."""
        return self._budget.may_grow(self)

    async def room(self) -> None:
        """Return when the body may grow."""
        deadline = self._deadline
        if deadline is not None:
            deadline.freeze()
        try:
            await self._budget.room(self)
        finally:
            if deadline is not None:
                deadline.thaw()

    def give_up(self) -> None:
        """Its time is over: it holds what others need, and its origin sends nothing."""
        if self._deadline is not None and not self.given_up:
            self.given_up = True
            self._deadline.end()

    def whole(self) -> None:
        """The body is read; it stays until it is given back."""
        self._deadline = None
        self._budget.stop_reading(self)

    def hold(self) -> None:
        """One more page needs the body."""
        if not self._holders:
            self._budget.add(self, self.bytes)
        self._holders += 1

    def give_back(self) -> None:
        """A page needs it no more."""
        self._holders -= 1
        if not self._holders:
            self._deadline = None
            self._budget.take_back(self)
