"""What a page waits for before a host is asked for it: a slot at the host, its robots.txt, a slot of the total.

Every host is waited for anew, the page's own and those where redirects lead.  A page that waits holds no slot of the
total, and the wait takes none of its time.
"""

from __future__ import annotations

from fastmesh.crawl.fairness.line import Owner
from fastmesh.crawl.net.url import ParsedUrl
from fastmesh.crawl.robots.robots import Robots
from fastmesh.crawl.schedule.permit import Permit
from fastmesh.crawl.schedule.slots import HostSlot, Slots


class PageAdmission:
    """Gives one page of *owner* leave to ask hosts.  *host* is the slot that the page was started with, *waited_s* all
    the time that it waited so far.  Without *robots* nobody's robots.txt is asked for."""

    def __init__(
        self, slots: Slots, owner: Owner, host: HostSlot | None, robots: Robots | None, user_agent: str
    ) -> None:
        self.waited_s = 0.0
        self.robots_tries = 0  # how often its robots.txt was asked for, when that never was there
        self._slots = slots
        self._owner = owner
        self._host = host  # until it moves into a permit
        self._robots = robots
        self._user_agent = user_agent

    async def admit(self, url: ParsedUrl) -> Permit:
        """Wait until *url* may be asked for.  Raises RobotsDisallowed, or why its robots.txt cannot be had."""
        slots, key = self._slots, url.host_key
        begun = slots.now()
        try:
            if self._host is None or self._host.key != key:
                await self._wait_for_host(key)
            slots.meet(key, None if self._robots is None else await self._allowed(url, self._robots))
            total = await slots.total(self._owner)
        finally:
            now = slots.now()
            self.waited_s += now - begun
        host, self._host = self._host, None
        return Permit(slots, key, now, host, total)

    def release(self) -> None:
        """Hold nothing."""
        host, self._host = self._host, None
        if host is not None:
            host.give_back(asked=False)

    async def _allowed(self, url: ParsedUrl, robots: Robots) -> float | None:
        """The host's delay, when its rules allow *url*."""
        known, begun = robots.known(url), self._slots.now()
        learnt = known is None
        if known is None:
            known = await robots.learn(url, self._owner)
        self.robots_tries = known.tries
        delay_s = await known.check(url, self._user_agent)
        if learnt and self._slots.slowed_since(url.host_key, begun):
            await self._wait_for_host(url.host_key)
        return delay_s

    async def _wait_for_host(self, key: str) -> None:
        self.release()
        self._host = await self._slots.host(key, self._owner)
