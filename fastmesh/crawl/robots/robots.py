"""robots.txt by RFC 9309: fetched once for each scheme, host and port, and kept for a while.

It is fetched like a page: the guard judges it, redirects are followed, what may help is tried again, and it
takes a slot of the total.  All pages that need one at the same time wait for one fetch.
"""

from __future__ import annotations

from typing import Final

from fastmesh.config import FetchSettings
from fastmesh.crawl.fairness.line import Owner
from fastmesh.crawl.fairness.steps import Steps
from fastmesh.crawl.fetch.page_source import Fetched, PageRequest, PageSource
from fastmesh.crawl.fetch.retries import with_retries
from fastmesh.crawl.net.url import ParsedUrl
from fastmesh.crawl.options import CrawlOptions
from fastmesh.crawl.robots.known import Known, KnownOrigins
from fastmesh.crawl.robots.rules import ALLOW_ALL, DISALLOW_ALL, read
from fastmesh.crawl.schedule.permit import SERVICE_UNAVAILABLE, TOO_MANY_REQUESTS, Permit
from fastmesh.crawl.schedule.slots import Slots
from fastmesh.crawl.single_flight import SingleFlight
from fastmesh.errors import ConnectFailed, HttpStatus, Reach, UrlError

MAX_BODY_BYTES: Final = 512_000  # what is beyond does not count (2.5)
MAX_REDIRECTS: Final = 5
RULES_KEPT_S: Final = 86_400.0  # 2.4
NO_RULES_KEPT_S: Final = 3_600.0  # one that is published is read within the hour
REFUSED_KEPT_S: Final = 60.0
UNREACHED_KEPT_S: Final = 5.0


class Robots:
    """The robots.txt of all origins, asked for by the *settings*, whatever a request says."""

    def __init__(self, pages: PageSource, slots: Slots, settings: FetchSettings) -> None:
        self._pages = pages
        self._slots = slots
        self._options = CrawlOptions(
            timeout_ms=settings.timeout_ms,
            max_body_bytes=MAX_BODY_BYTES,
            user_agent=settings.user_agent,
            max_frame_bytes=0,
            retries=settings.retries,
            cut_body=True,
            max_redirects=MAX_REDIRECTS,
            cookies="none",  # all clients share what comes
        )
        self.origins = KnownOrigins(slots.now)
        self._asked: SingleFlight[Known] = SingleFlight()
        self._steps = Steps()

    def known(self, url: ParsedUrl) -> Known | None:
        """What is known of the origin of *url*; None when it must be asked (``learn``)."""
        return self.origins.find(url.origin)

    async def learn(self, url: ParsedUrl, owner: Owner) -> Known:
        """Ask the origin of *url*, with a slot of *owner*'s, or wait until another page has asked it."""
        origin = url.origin
        flight = self._asked.get(origin) or self._asked.start(origin, lambda: self._fetch(url, owner))
        await flight.wait()
        if flight.task.cancelled():
            raise ConnectFailed("robots.txt was not read to its end: fastmesh is closing")
        return flight.task.result()

    async def close(self) -> None:
        """End the fetches that run."""
        await self._asked.close()

    async def _fetch(self, url: ParsedUrl, owner: Owner) -> Known:
        return self.origins.keep(url.origin, await self._ask(url, owner))

    async def _ask(self, url: ParsedUrl, owner: Owner) -> Known:
        page = PageRequest(
            f"{url.scheme}://{url.authority}/robots.txt", self._options, RobotsAdmission(self._slots, owner)
        )
        fetched = Fetched()
        try:
            await with_retries(lambda: self._pages.fetch(page, fetched), page)
        except UrlError as error:
            return self._without(error, page, fetched)
        text = fetched.body.decode("utf-8", "surrogateescape")
        fetched.let_go()
        rules = await self._steps.run(read(text))
        return Known(rules, self._slots.now() + RULES_KEPT_S, steps=self._steps)

    def _without(self, error: UrlError, page: PageRequest, fetched: Fetched) -> Known:
        """What holds for an origin whose robots.txt failed with *error*."""
        now = self._slots.now()
        if error.reach is Reach.ABSENT:
            return Known(ALLOW_ALL, now + NO_RULES_KEPT_S)
        if error.reach is Reach.UNREACHED:
            why = f"robots.txt cannot be read: {error.message}"
            return Known(DISALLOW_ALL, now + UNREACHED_KEPT_S, why, type(error), page.tries)
        is_status = isinstance(error, HttpStatus)
        why = f"answers with status {fetched.status}" if is_status else f"is broken: {error.message}"
        return Known(DISALLOW_ALL, now + REFUSED_KEPT_S, f"robots.txt {why}, which is taken as a no")


class RobotsAdmission:
    """Gives a robots.txt leave to be asked for: a slot of the total.  The page that needs it holds one at the host."""

    def __init__(self, slots: Slots, owner: Owner) -> None:
        self._slots = slots
        self._owner = owner

    async def admit(self, url: ParsedUrl) -> Permit:
        """Wait for a slot of the total."""
        total = await self._slots.total(self._owner)
        return Permit(self._slots, url.host_key, self._slots.now(), None, total, slows=_slows)

    def release(self) -> None:
        """It holds nothing between two requests."""


def _slows(status: int, _: float | None) -> bool:
    """A host that cannot even serve this asks for less, though it does not say for how long."""
    return status in (TOO_MANY_REQUESTS, SERVICE_UNAVAILABLE)
