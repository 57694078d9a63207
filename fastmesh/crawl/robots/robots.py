"""robots.txt by RFC 9309: fetched once for each scheme, host and port, and kept for a while.

It is fetched like a page: the guard judges it, redirects are followed, what may help is tried again, and it
takes a slot of the total.  Everybody who needs one at the same time waits for one fetch.
"""

from __future__ import annotations

import asyncio
from typing import Final

from fastmesh.config import FetchSettings
from fastmesh.crawl.fairness.line import Owner
from fastmesh.crawl.fairness.steps import Steps
from fastmesh.crawl.fetch.fetched import Fetched
from fastmesh.crawl.fetch.fetcher import Fetcher
from fastmesh.crawl.fetch.retries import with_retries
from fastmesh.crawl.net.url import ParsedUrl
from fastmesh.crawl.options import CrawlOptions
from fastmesh.crawl.robots.known import Known, KnownOrigins, Origin
from fastmesh.crawl.robots.rules import ALLOW_ALL, DISALLOW_ALL, read
from fastmesh.crawl.schedule.slots import Slots, TotalSlot
from fastmesh.crawl.schedule.visit import SERVICE_UNAVAILABLE, TOO_MANY_REQUESTS, Visit
from fastmesh.errors import ConnectFailed, HttpStatus, Reach, UrlError

MAX_BODY_BYTES: Final = 512_000  # what is beyond does not count (2.5)
MAX_REDIRECTS: Final = 5
RULES_KEPT_S: Final = 86_400.0  # 2.4
NO_RULES_KEPT_S: Final = 3_600.0  # whoever publishes one is heard within the hour
REFUSED_KEPT_S: Final = 60.0
UNREACHED_KEPT_S: Final = 5.0


class Flight:
    """One fetch, and how many wait for it: when nobody does any more it is ended."""

    __slots__ = ("task", "waiting")

    def __init__(self, task: asyncio.Task[Known]) -> None:
        self.task = task
        self.waiting = 0


class Robots:
    """The robots.txt of all origins, asked for by the *settings*, whatever a request says."""

    def __init__(self, fetcher: Fetcher, slots: Slots, settings: FetchSettings) -> None:
        self._fetcher = fetcher
        self._slots = slots
        self._options = CrawlOptions(
            timeout_ms=settings.timeout_ms,
            max_body_bytes=MAX_BODY_BYTES,
            user_agent=settings.user_agent,
            max_frame_bytes=0,
            retries=settings.retries,
            cut_body=True,
            max_redirects=MAX_REDIRECTS,
            cookies="none",  # what it says is shared
        )
        self.origins = KnownOrigins(slots.now)
        self._flights: dict[Origin, Flight] = {}
        self._tasks: set[asyncio.Task[Known]] = set()
        self._steps = Steps()

    def known(self, url: ParsedUrl) -> Known | None:
        """What is known of the origin of *url*; None when it must be asked (``learn``)."""
        return self.origins.find(url.origin)

    async def learn(self, url: ParsedUrl, owner: Owner) -> Known:
        """Ask the origin of *url*, with a slot of *owner*'s, or wait for who asks it already."""
        flight = self._flights.get(url.origin)
        if flight is None:
            flight = self._flights[url.origin] = Flight(asyncio.get_running_loop().create_task(self._fetch(url, owner)))
            self._tasks.add(flight.task)
            flight.task.add_done_callback(self._tasks.discard)
        flight.waiting += 1
        try:
            # Not awaited itself: who is cancelled here must not take it from the others.
            await asyncio.wait([flight.task])
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                flight.task.cancel()
                if self._flights.get(url.origin) is flight:
                    del self._flights[url.origin]
        if flight.task.cancelled():
            raise ConnectFailed("robots.txt was not read to its end: fastmesh is closing")
        return flight.task.result()

    async def close(self) -> None:
        """End the fetches that run."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fetch(self, url: ParsedUrl, owner: Owner) -> Known:
        return self.origins.keep(url.origin, await self._ask(url, owner))

    async def _ask(self, url: ParsedUrl, owner: Owner) -> Known:
        page = Fetched(f"{url.scheme}://{url.authority}/robots.txt")
        try:
            await with_retries(lambda: self._get(page, owner), page, self._options)
        except UrlError as error:
            return self._without(error, page)
        text = page.body.decode("utf-8", "surrogateescape")
        page.let_go()
        rules = await self._steps.run(read(text))
        return Known(rules, self._slots.now() + RULES_KEPT_S, steps=self._steps)

    async def _get(self, page: Fetched, owner: Owner) -> None:
        place = _Place(self._slots, owner)
        try:
            await self._fetcher.fetch(page, self._options, place)
        finally:
            place.leave()

    def _without(self, error: UrlError, page: Fetched) -> Known:
        """What holds for an origin whose robots.txt failed with *error*."""
        now = self._slots.now()
        if error.reach is Reach.ABSENT:
            return Known(ALLOW_ALL, now + NO_RULES_KEPT_S)
        if error.reach is Reach.UNREACHED:
            why = f"robots.txt cannot be read: {error.message}"
            return Known(DISALLOW_ALL, now + UNREACHED_KEPT_S, why, type(error), page.tries)
        why = f"answers with status {page.status}" if isinstance(error, HttpStatus) else f"is broken: {error.message}"
        return Known(DISALLOW_ALL, now + REFUSED_KEPT_S, f"robots.txt {why}, which is taken as a no")


class _Place:
    """What robots.txt is asked from: a slot of the total.  The host's turn is held by the URL that needs it."""

    def __init__(self, slots: Slots, owner: Owner) -> None:
        self._slots = slots
        self._owner = owner
        self._key = ""
        self._slot: TotalSlot | None = None

    async def enter(self, url: ParsedUrl) -> None:
        self._key = url.host_key
        self._slot = await self._slots.total(self._owner)

    def skip(self) -> None:
        self.leave()

    def hand_over(self) -> Visit:
        slot, self._slot = self._slot, None
        return Visit(self._slots, self._key, self._slots.now(), None, slot, slows=_slows)

    def leave(self) -> None:
        if self._slot is not None:
            self._slot.release()
            self._slot = None


def _slows(status: int, _: float | None) -> bool:
    """A host that cannot even serve this asks for less, though it does not say for how long."""
    return status in (TOO_MANY_REQUESTS, SERVICE_UNAVAILABLE)
