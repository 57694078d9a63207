"""What one URL holds and waits for while it is fetched: a turn at its host, its robots.txt, a slot of the total.

Every place that it asks, its own and where redirects lead, is entered first.
What waits holds no slot, and the wait is not part of the URL's time.
"""

from __future__ import annotations

from fastmesh.crawl.fairness.line import Owner
from fastmesh.crawl.net.url import ParsedUrl
from fastmesh.crawl.robots.robots import Robots
from fastmesh.crawl.schedule.slots import HostSlot, Slots, TotalSlot
from fastmesh.crawl.schedule.visit import Visit


class Errand:
    """One URL's.

    *turn* is what it was started with, *waited_s* all the time that it waited so far.  Without
    *robots* nobody's robots.txt is asked for.
    """

    def __init__(
        self, slots: Slots, owner: Owner, turn: HostSlot | None, robots: Robots | None, user_agent: str
    ) -> None:
        self.waited_s = 0.0
        self.robots_tries = 0  # how often its robots.txt was asked for, when that never was there
        self._asked_at = 0.0
        self._slots = slots
        self._owner = owner
        self._turn = turn
        self._robots = robots
        self._user_agent = user_agent
        self._slot: TotalSlot | None = None

    async def enter(self, url: ParsedUrl) -> None:
        """Wait until *url* may be asked for.  Raises RobotsDisallowed, or why its robots.txt cannot be had."""
        slots = self._slots
        begun = slots.now()
        try:
            if self._turn is None or self._turn.asked or self._turn.key != url.host_key:  # one turn, one request
                self.leave()
                self._turn = await slots.host(url.host_key, self._owner)
            slots.meet(url.host_key, None if self._robots is None else await self._permit(url, self._robots))
            if self._slot is None:
                self._slot = await slots.total(self._owner)
            self._turn.asked = True
        finally:
            self._asked_at = slots.now()
            self.waited_s += self._asked_at - begun

    async def _permit(self, url: ParsedUrl, robots: Robots) -> float | None:
        """The host's delay, when its rules allow *url*."""
        known, begun = robots.known(url), self._slots.now()
        learnt = known is None
        if known is None:
            self._release_slot()
            known = await robots.learn(url, self._owner)
        self.robots_tries = known.tries
        delay_s = await known.check(url, self._user_agent)
        if learnt and self._slots.slowed_since(url.host_key, begun):
            self.leave()
            self._turn = await self._slots.host(url.host_key, self._owner)
        return delay_s

    def skip(self) -> None:
        """What was entered for need not be asked for."""
        if self._turn is not None:
            self._turn.asked = False
        self.leave()

    def hand_over(self) -> Visit:
        """Turn and slot, for who asks; the errand holds nothing."""
        assert self._turn is not None, "enter first"
        visit = Visit(self._slots, self._turn.key, self._asked_at, self._turn, self._slot)
        self._turn = self._slot = None
        return visit

    def leave(self) -> None:
        """Hold nothing."""
        self._release_slot()
        if self._turn is not None:
            self._turn.release()
            self._turn = None

    def _release_slot(self) -> None:
        if self._slot is not None:
            self._slot.release()
            self._slot = None
