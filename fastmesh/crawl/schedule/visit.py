"""One request at its host: the turn and the slot that it holds, what the host is told to have answered, and their end.

Whoever asks owns the visit, not the URL that it was begun for: the fetch may go on for others when that one has left.
So an answer that says "too many" slows the host down before its turn is given to the next, however it was asked for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeVar

from fastmesh.crawl.net.url import ParsedUrl
from fastmesh.crawl.schedule.slots import HostSlot, Slots, TotalSlot

TOO_MANY_REQUESTS: Final = 429
SERVICE_UNAVAILABLE: Final = 503


class Said(Protocol):
    """What a host answered, as far as politeness cares."""

    status: int
    retry_after_s: float | None


class Entry(Protocol):
    """Who may ask a host for something; see Errand."""

    async def enter(self, url: ParsedUrl) -> None:
        """Wait until *url* may be asked for."""

    def skip(self) -> None:
        """Nothing needs to be asked for."""

    def hand_over(self) -> Visit:
        """The place at the host that was entered, which is no longer this one's to give back."""


A = TypeVar("A", bound=Said)
S = TypeVar("S")


class Visit:
    """A place at the host with *key*, asked at *asked_at* by the clock of *slots*, until it is ended.

    *slows* says of a status and a Retry-After whether the host asks for less.
    """

    __slots__ = ("_asked_at", "_key", "_slot", "_slots", "_slows", "_turn")

    def __init__(
        self,
        slots: Slots,
        key: str,
        asked_at: float,
        turn: HostSlot | None,
        slot: TotalSlot | None,
        slows: Callable[[int, float | None], bool] | None = None,
    ) -> None:
        self._slots = slots
        self._key = key
        self._asked_at = asked_at
        self._turn = turn
        self._slot = slot
        self._slows = slows or is_too_much

    def told(self, answer: Said) -> None:
        """The host answered."""
        if self._slows(answer.status, answer.retry_after_s):
            self._slots.refused(self._key, self._asked_at, answer.retry_after_s)
        else:
            self._slots.served(self._key)

    def end(self) -> None:
        """Hold nothing; again is nothing."""
        if self._slot is not None:
            self._slot.release()
        if self._turn is not None:
            self._turn.release()


async def visited(entry: Entry | None, ask: Callable[[], Awaitable[tuple[A, S]]]) -> tuple[A, S]:
    """What *ask* brings from the place that *entry* has entered; None asks from nowhere, and tells nobody."""
    if entry is None:
        return await ask()
    visit = entry.hand_over()
    try:
        answer, share = await ask()
        visit.told(answer)
    finally:
        visit.end()
    return answer, share


def is_too_much(status: int, retry_after_s: float | None) -> bool:
    """Whether an answer asks for less: 429, or 503 with a time."""
    return status == TOO_MANY_REQUESTS or (status == SERVICE_UNAVAILABLE and retry_after_s is not None)
