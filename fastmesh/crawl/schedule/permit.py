"""Leave to ask a host, as a value: it moves to the task that asks, and is given back once.

A permit holds a slot at its host and one of the total.  It is spent on a request or given back unused.  What is
spent is given back together with the host's answer, so one that says "too many" slows the host down before its slot
is the next one's.  The request owns the permit, not the page that it was given for: when that page is cancelled the
request may go on for others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeVar

from fastmesh.crawl.net.url import ParsedUrl
from fastmesh.crawl.schedule.slots import HostSlot, Slots, TotalSlot

TOO_MANY_REQUESTS: Final = 429
SERVICE_UNAVAILABLE: Final = 503
# How many retries a stream has at one host: at least so many, and one for so many URLs.
BUDGET_AT_LEAST, BUDGET_SHARE = 10, 5


class HostAnswer(Protocol):
    """What a host answered, as far as politeness cares."""

    status: int
    retry_after_s: float | None


A = TypeVar("A", bound=HostAnswer)
S = TypeVar("S")


class Admission(Protocol):
    """Gives one page leave to ask hosts."""

    async def admit(self, url: ParsedUrl) -> Permit:
        """Wait until *url* may be asked for.  Raises the UrlError that says why it may not."""

    def release(self) -> None:
        """The page asks no host for now: hold nothing for it."""


class Permit:
    """Leave to ask the host with *key* for one thing, given at *asked_at* by the clock of *slots*.

    Without *host* the page that needs the answer holds a slot there.  *slows* says of a status and a Retry-After
    whether the host asks for less.
    """

    __slots__ = ("_asked_at", "_host", "_key", "_slots", "_slows", "_total")

    def __init__(
        self,
        slots: Slots,
        key: str,
        asked_at: float,
        host: HostSlot | None,
        total: TotalSlot,
        slows: Callable[[int, float | None], bool] | None = None,
    ) -> None:
        self._slots = slots
        self._key = key
        self._asked_at = asked_at
        self._host = host
        self._total: TotalSlot | None = total
        self._slows = slows or is_too_much

    async def spend(self, ask: Callable[[], Awaitable[tuple[A, S]]]) -> tuple[A, S]:
        """What *ask* brings from the host.  However that ends, both slots are given back."""
        total, self._total = self._total, None
        assert total is not None, "a permit is spent once"
        try:
            answer, share = await ask()
            if self._slows(answer.status, answer.retry_after_s):
                self._slots.refused(self._key, self._asked_at, answer.retry_after_s)
            else:
                self._slots.served(self._key)
        finally:
            self._give_back(total, asked=True)
        return answer, share

    def unused(self) -> None:
        """The host was not asked, so nobody has to wait for that.  After it was spent, and again, this is nothing."""
        total, self._total = self._total, None
        if total is not None:
            self._give_back(total, asked=False)

    def _give_back(self, total: TotalSlot, *, asked: bool) -> None:
        total.give_back()
        if self._host is not None:
            self._host.give_back(asked=asked)


def is_too_much(status: int, retry_after_s: float | None) -> bool:
    """Whether an answer asks for less: 429, or 503 with a time."""
    return status == TOO_MANY_REQUESTS or (status == SERVICE_UNAVAILABLE and retry_after_s is not None)


class RetryBudget:
    """How many retries a stream has left at one host: where all fails, trying again is no help to anybody."""

    __slots__ = ("urls", "used")

    def __init__(self, urls: int = 0) -> None:
        self.urls = urls  # of the stream, at this host
        self.used = 0

    def take(self) -> bool:
        """Use one; False when there is none."""
        if self.used >= max(BUDGET_AT_LEAST, self.urls // BUDGET_SHARE):
            return False
        self.used += 1
        return True
