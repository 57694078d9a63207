"""What one URL holds and waits for while it is fetched: a turn at its host, and a slot of the total.

Every place that it asks, its own and where redirects lead, is entered first.
What waits holds no slot, and the wait is not part of the URL's time.
"""

from __future__ import annotations

from fastmesh.crawl.politeness import Owner
from fastmesh.crawl.turns import Slot, Turn, Turns
from fastmesh.crawl.url import ParsedUrl


class Errand:
    """One URL's.  *turn* is what it was started with; *waited_s* is all the time that it waited so far."""

    def __init__(self, turns: Turns, owner: Owner, turn: Turn | None) -> None:
        self.waited_s = 0.0
        self._asked_at = 0.0
        self._turns = turns
        self._owner = owner
        self._turn = turn
        self._slot: Slot | None = None

    async def enter(self, url: ParsedUrl) -> None:
        """Wait until *url* may be asked for."""
        turns = self._turns
        begun = turns.now()
        try:
            if self._turn is None or self._turn.key != url.host_key:
                self.leave()
                self._turn = await turns.turn(url.host_key, self._owner)
            turns.meet(url.host_key, None)
            if self._slot is None:
                self._slot = await turns.slot(self._owner)
        finally:
            self._asked_at = turns.now()
            self.waited_s += self._asked_at - begun

    def told(self, *, too_much: bool, retry_after_s: float | None = None) -> None:
        """What was asked last answered."""
        if self._turn is None:
            return
        if too_much:
            self._turns.refused(self._turn.key, self._asked_at, retry_after_s)
        else:
            self._turns.served(self._turn.key)

    def leave(self) -> None:
        """Hold nothing."""
        for held in (self._slot, self._turn):
            if held is not None:
                held.release()
        self._slot = self._turn = None
