"""What one URL holds and waits for while it is fetched: a turn at its host, its robots.txt, a slot of the total.

Every place that it asks, its own and where redirects lead, is entered first.
What waits holds no slot, and the wait is not part of the URL's time.
"""

from __future__ import annotations

from collections.abc import Callable

from fastmesh.crawl.politeness import Owner
from fastmesh.crawl.robots import Robots
from fastmesh.crawl.turns import Slot, Turn, Turns
from fastmesh.crawl.url import ParsedUrl


class Errand:
    """One URL's.

    *turn* is what it was started with, *waited_s* all the time that it waited so far.  Without
    *robots* nobody's robots.txt is asked for.
    """

    def __init__(self, turns: Turns, owner: Owner, turn: Turn | None, robots: Robots | None, user_agent: str) -> None:
        self.waited_s = 0.0
        self.robots_tries = 0  # how often its robots.txt was asked for, when that never was there
        self._asked_at = 0.0
        self._turns = turns
        self._owner = owner
        self._turn = turn
        self._robots = robots
        self._user_agent = user_agent
        self._slot: Slot | None = None
        self._handed_over = False

    async def enter(self, url: ParsedUrl) -> None:
        """Wait until *url* may be asked for.  Raises RobotsDisallowed, or why its robots.txt cannot be had."""
        turns = self._turns
        begun = turns.now()
        try:
            if self._turn is None or self._turn.asked or self._turn.key != url.host_key:  # one turn, one request
                self.leave()
                self._turn = await turns.turn(url.host_key, self._owner)
            turns.meet(url.host_key, None if self._robots is None else await self._permit(url, self._robots))
            if self._slot is None:
                self._slot = await turns.slot(self._owner)
            self._turn.asked = True
        finally:
            self._asked_at = turns.now()
            self.waited_s += self._asked_at - begun

    async def _permit(self, url: ParsedUrl, robots: Robots) -> float | None:
        """The host's delay, when its rules allow *url*."""
        known = robots.known(url)
        if known is None:
            self._release_slot()
            known = await robots.learn(url, self._owner)
        self.robots_tries = known.tries
        return await known.permit(url, self._user_agent)

    def told(self, *, too_much: bool, retry_after_s: float | None = None) -> None:
        """What was asked last answered."""
        if self._turn is None:
            return
        if too_much:
            self._turns.refused(self._turn.key, self._asked_at, retry_after_s)
        else:
            self._turns.served(self._turn.key)

    def skip(self) -> None:
        """What was entered for need not be asked for."""
        if self._turn is not None:
            self._turn.asked = False
        self.leave()

    def hand_over(self) -> Callable[[], None]:
        """Let go of turn and slot, which are held until the function that this returns is called."""
        turn, slot, self._slot, self._handed_over = self._turn, self._slot, None, True

        def release() -> None:
            if slot is not None:
                slot.release()
            if turn is not None:
                turn.release()

        return release

    def leave(self) -> None:
        """Hold nothing."""
        self._release_slot()
        if self._turn is not None and not self._handed_over:
            self._turn.release()
        self._turn, self._handed_over = None, False

    def _release_slot(self) -> None:
        if self._slot is not None:
            self._slot.release()
            self._slot = None
