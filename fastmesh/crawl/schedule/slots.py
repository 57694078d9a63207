"""Slots at hosts and slots of the total, handed out on the loop: Politeness with a clock and a timer.

A URL has a slot of its host first and waits for one of the total only then, so a slow host never holds
slots of the total that others could use.  Streams take turns at both; and since a turn that comes when a
thousand silent hosts time out comes late, some slots of the total always stay free for a stream that has few.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from fastmesh.crawl.fairness.line import Line, Owner
from fastmesh.crawl.schedule.politeness import Politeness, Waiter
from fastmesh.telemetry.bugs import Bugs

# A stream gets a slot only while it holds fewer than so many times those that are free: one alone has up to 4/5 of a
# large total and all of one of 4.
MOST_OF_FREE: Final = 4
# What a URL does first takes some tenths of a millisecond, and the answers to requests that were sent together come
# together: a stream of 256 URLs would hold the loop for 50 to 100 ms, again and again.
STARTS_A_TURN: Final = 8

Wake = Callable[[], None]


class Starts:
    """How many URLs begin in one turn of the loop, of all streams together; the others stand in a line.  Ask ``may``
    and then ``count``, both in one go; after a no, *wake* is called when it is that stream's turn."""

    __slots__ = ("_a_turn", "_bugs", "_left", "_line")

    def __init__(self, bugs: Bugs, a_turn: int = STARTS_A_TURN) -> None:
        self._bugs = bugs
        self._a_turn = self._left = a_turn
        self._line: dict[Wake, None] = {}

    def may(self, wake: Wake) -> bool:
        """Whether one more URL may begin in this turn."""
        if self._left:
            return True
        self._line[wake] = None
        return False

    def count(self) -> None:
        """One begins."""
        if self._left == self._a_turn:
            asyncio.get_running_loop().call_soon(self._turn_over)
        self._left -= 1

    def _turn_over(self) -> None:
        """The streams that waited go on, the longest waiting first, until as many URLs as may have begun."""
        self._left = self._a_turn
        while self._left and self._line:
            wake = next(iter(self._line))
            del self._line[wake]
            self._bugs.survive("starts", wake)


class HostSlot:
    """One fetch's place at its host, until it is given back."""

    __slots__ = ("_slots", "_until", "key")

    def __init__(self, slots: Slots, key: str, until: float) -> None:
        self._slots: Slots | None = slots
        self._until = until
        self.key = key

    def give_back(self, *, asked: bool) -> None:
        """Let the next fetch ask the host; after one that did not ask it need not wait.  A second time is nothing."""
        slots, self._slots = self._slots, None
        if slots is not None:
            slots._ended(self.key, None if asked else self._until)


class TotalSlot:
    """One fetch's place among all, until it is given back."""

    __slots__ = ("_owner", "_slots")

    def __init__(self, slots: Slots, owner: Owner) -> None:
        self._slots: Slots | None = slots
        self._owner = owner

    def give_back(self) -> None:
        """Let another fetch begin.  A second time is nothing."""
        slots, self._slots = self._slots, None
        if slots is not None:
            slots._freed(self._owner)


class Slots:
    """The slots that all streams share.  *in_flight* counts those of the total that are held.

    Ask ``ready`` and then ``take``, both in one go; or ``wait``, and be called when it
    is your turn: then ``ready`` says yes to you, until you return.
    """

    def __init__(
        self,
        total: int,
        per_host: int,
        starts_per_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        bugs: Bugs | None = None,
        starts_a_turn: int = STARTS_A_TURN,
    ) -> None:
        self.now = clock
        self._bugs = bugs or Bugs()
        self.starts = Starts(self._bugs, starts_a_turn)
        self.in_flight = 0
        self._total = total
        self._held: Counter[Owner] = Counter()  # of the total
        self._line: Line[tuple[Owner, asyncio.Future[TotalSlot]]] = Line()
        self._politeness = Politeness(per_host, starts_per_s)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    @property
    def waiting(self) -> int:
        """How many wait for a slot, at a host or of the total; a stream's URLs of one host wait as one."""
        return self._line.waiting + self._politeness.waiting

    @property
    def hosts(self) -> int:
        """Hosts with a URL under way or waiting."""
        return self._politeness.hosts

    # ── at a host ────────────────────────────────────────────────────────────────────────

    def ready(self, key: str, waiter: Waiter | None = None) -> bool:
        """Whether *waiter* may take a slot at the host right now."""
        return self._politeness.may_start(key, self.now(), waiter)

    def take(self, key: str) -> HostSlot:
        """Take the slot that ``ready`` promised."""
        return HostSlot(self, key, self._politeness.start(key, self.now()))

    def wait(self, key: str, owner: Owner, waiter: Waiter) -> None:
        """Have *waiter* called, once, when it is its turn; it may take it or leave it to the next."""
        self._politeness.wait(key, owner, waiter, self.now())
        self._arm()

    def withdraw(self, key: str, owner: Owner, waiter: Waiter) -> None:
        """*waiter* is not to be called."""
        self._politeness.withdraw(key, owner, waiter, self.now())

    async def host(self, key: str, owner: Owner) -> HostSlot:
        """Wait for a slot at the host."""
        if self.ready(key):
            return self.take(key)
        given: asyncio.Future[HostSlot] = asyncio.get_running_loop().create_future()

        def take() -> None:
            if not given.done():
                given.set_result(self.take(key))

        self.wait(key, owner, take)
        try:
            return await given
        except asyncio.CancelledError:
            self.withdraw(key, owner, take)
            if given.done() and not given.cancelled():
                given.result().give_back(asked=False)
            raise

    def meet(self, key: str, crawl_delay_s: float | None) -> None:
        """The host's robots.txt is known, with its delay; None: nobody asks for it."""
        self._politeness.meet(key, crawl_delay_s, self.now())
        self._serve(key)

    def refused(self, key: str, asked_at: float, retry_after_s: float | None) -> None:
        """The host said that this is too much."""
        self._politeness.refused(key, asked_at, retry_after_s, self.now())

    def slowed_since(self, key: str, at: float) -> bool:
        """Whether the host said so, of what it was asked after *at*."""
        return self._politeness.slowed_since(key, at)

    def served(self, key: str) -> None:
        """The host answered otherwise."""
        self._politeness.served(key)

    # ── of the total ─────────────────────────────────────────────────────────────────────

    async def total(self, owner: Owner) -> TotalSlot:
        """Wait for a slot of the total."""
        if self._may_hold_more(owner):
            return self._take_slot(owner)
        given: asyncio.Future[TotalSlot] = asyncio.get_running_loop().create_future()
        self._line.join(owner, (owner, given))
        try:
            return await given
        except asyncio.CancelledError:
            if not self._line.leave(owner, (owner, given)) and not given.cancelled():
                given.result().give_back()
            raise

    def close(self) -> None:
        """No timer is left behind."""
        if self._timer is not None:
            self._timer.cancel()

    # ── handing out ──────────────────────────────────────────────────────────────────────

    def _ended(self, key: str, unused_until: float | None) -> None:
        self._politeness.end(key, self.now(), unused_until)
        self._serve(key)

    def _may_hold_more(self, owner: Owner) -> bool:
        return self._held[owner] < MOST_OF_FREE * (self._total - self.in_flight)

    def _take_slot(self, owner: Owner) -> TotalSlot:
        self.in_flight += 1
        self._held[owner] += 1
        return TotalSlot(self, owner)

    def _freed(self, owner: Owner) -> None:
        self.in_flight -= 1
        self._held[owner] -= 1
        if not self._held[owner]:
            del self._held[owner]
        while (waiter := self._line.next(self._may_hold_more)) is not None:
            next_owner, given = waiter
            if not given.done():  # cancelled, and it has not left yet
                given.set_result(self._take_slot(next_owner))

    def _serve(self, key: str) -> None:
        while (waiter := self._politeness.next(key, self.now())) is not None:
            self._bugs.survive("turns", waiter, host=key)
        self._arm()

    def _arm(self) -> None:
        at = self._politeness.alarm_at
        if at is None or (self._timer is not None and self._timer_at <= at):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = asyncio.get_running_loop().call_later(max(0.0, at - self.now()), self._rung)

    def _rung(self) -> None:
        self._timer = None
        for key in list(self._politeness.due(self.now())):
            self._serve(key)
        self._arm()
