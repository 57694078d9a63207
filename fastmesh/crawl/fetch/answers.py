"""Where the answer to one request comes from: the cache, a fetch that is under way, or the origin.

A page may be several requests, since redirects are followed; each is looked up, asked for and kept by itself, as
RFC 9111 has it.  One that need not be asked for takes no slot of the total, and one held at its host is given back
unused.  Requests are equal when their URL and all headers that a client may choose are: so nobody is given what
another's credentials opened.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from fastmesh.crawl.cache import policy
from fastmesh.crawl.cache.freshness import conditions
from fastmesh.crawl.cache.keys import request_key
from fastmesh.crawl.cache.store import Answer, AnswerStore
from fastmesh.crawl.fetch.body_budget import BodyShare
from fastmesh.crawl.fetch.deadline import Deadline
from fastmesh.crawl.fetch.page_source import PageRequest
from fastmesh.crawl.net.url import ParsedUrl
from fastmesh.crawl.schedule.permit import Permit
from fastmesh.crawl.single_flight import Flight, SingleFlight
from fastmesh.errors import CacheMiss, FetchTimeout

Headers = Mapping[str, str]
Shared = tuple[Answer, BodyShare | None]
Ask = Callable[[Headers], Awaitable[Shared]]


class Answers:
    """The answers that all streams share, kept in *cache*.  *outcomes* counts where they came from.  One that says
    nothing about how long it is fresh is fresh for *ttl_s*."""

    def __init__(self, cache: AnswerStore, ttl_s: float) -> None:
        self.cache = cache
        self.outcomes: Counter[str] = Counter(dict.fromkeys(("hit", "revalidated", "shared", "miss"), 0))
        self._ttl_s = ttl_s
        self._flights: SingleFlight[Shared] = SingleFlight()

    async def answer(
        self, url: ParsedUrl, headers: Headers, page: PageRequest, ask: Ask
    ) -> tuple[Answer, BodyShare | None, str]:
        """The answer to a request of *page* for *url* with *headers*, its share of the body budget, and the
        outcome (``hit``, ``shared``, …).

        *ask* asks the origin.  The page's time runs as well while another's asking is waited for.  Raises CacheMiss
        where only the cache may be asked, and what the page's admission and *ask* raise.
        """
        options = page.options
        key, alone = request_key(url, headers, options), options.cache_mode == "refresh"
        permit: Permit | None = None
        try:
            while True:
                known = None if options.cache_mode == "refresh" else self.cache.find(key, headers)
                if known is not None and policy.may_serve(known, time.monotonic(), options.max_age_s):
                    self.cache.used(known)
                    return self._counted(known, None, "hit")
                if options.cache_mode == "cache_only":
                    raise CacheMiss(f"{url.host}: the cache has no fresh answer, and only the cache may be asked")
                flight = None if alone else self._flights.get((key, options.max_body_bytes))
                if flight is not None:
                    # Others may ask the host meanwhile.
                    if permit is not None:
                        permit.unused()
                        permit = None
                    page.admission.release()
                    page.begin()
                    found = await _joined(flight, page.deadline)
                    if found is not None:
                        return self._counted(*found, "shared")
                    alone = True
                elif permit is None:
                    permit = await page.admission.admit(url)  # and what it waited for may be there by now
                else:
                    break
            page.begin()
            asked = self._asked(key, headers, known, ask, permit)
            if alone:
                answer, share = await asked
            else:
                flight = self._flights.start((key, options.max_body_bytes), lambda: asked)
                await flight.wait()
                answer, share = flight.task.result()
        finally:
            if permit is not None:
                permit.unused()  # nothing when it was spent; else the host was not asked
        if answer is known:
            return self._counted(answer, None, "revalidated")
        if share is not None:
            share.hold()
        return self._counted(answer, share, "miss")

    async def close(self) -> None:
        """End what is under way."""
        await self._flights.close()

    async def _asked(self, key: bytes, headers: Headers, known: Answer | None, ask: Ask, permit: Permit) -> Shared:
        """Ask the origin, whether what is *known* still holds if that can be asked, and keep what it says."""
        share = None
        try:
            conditional = {} if known is None else conditions(known.fields)
            answer, share = await permit.spend(partial(ask, conditional))
            now_s = time.monotonic()
            if known is not None and policy.confirm(known, answer, now_s, self._ttl_s):
                if known.lifetime is None:
                    self.cache.forget(known)
                else:
                    self.cache.used(known)
                return known, None
            if policy.may_replace(answer):
                if policy.may_keep(answer, headers, now_s, self._ttl_s):
                    self.cache.keep(key, headers, answer)
                elif (replaced := self.cache.find(key, headers)) is not None:
                    self.cache.forget(replaced)
            return answer, share
        finally:
            if share is not None:
                share.give_back()  # of this flight; each page that takes the body holds it itself

    def _counted(self, answer: Answer, share: BodyShare | None, outcome: str) -> tuple[Answer, BodyShare | None, str]:
        self.outcomes[outcome] += 1
        return answer, share, outcome


async def _joined(flight: Flight[Shared], deadline: Deadline) -> Shared | None:
    """What *flight* brings within *deadline*; None when it is not for others than who began it.  Raises FetchTimeout
    when no time is left to ask alone."""
    done = await deadline.wait(flight)
    found = _shared(flight.task) if done else None
    if found is None and (not done or deadline.left_s <= 0):
        raise FetchTimeout("the page was not whole in its time, which another's fetch of it took")
    return found


def _shared(task: asyncio.Task[Shared]) -> Shared | None:
    """The result of *task*, for one more; None when it is none for others."""
    if task.cancelled():
        return None
    try:
        answer, share = task.result()
    except FetchTimeout:
        return None  # who began it may have had less time
    if not policy.is_for_others(answer):
        return None
    if share is not None:
        share.hold()
    return answer, share
