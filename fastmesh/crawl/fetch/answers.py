"""Where the answer to one request comes from: the cache, a fetch that is under way, or the origin.

A page may be several requests, since redirects are followed; each is looked up,
asked for and kept by itself, as RFC 9111 has it.  What need not be asked for takes neither a
turn at its host nor a slot.  Requests are the same when their URL and all headers
that a client may choose are: so nobody is given what another's credentials opened.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from fastmesh.crawl.cache import policy
from fastmesh.crawl.cache.answer import Answer
from fastmesh.crawl.cache.freshness import conditions
from fastmesh.crawl.cache.keys import request_key
from fastmesh.crawl.cache.store import AnswerStore
from fastmesh.crawl.fetch.body_budget import BodyShare
from fastmesh.crawl.net.url import ParsedUrl
from fastmesh.crawl.options import CrawlOptions
from fastmesh.crawl.schedule.visit import Entry, visited
from fastmesh.crawl.single_flight import Flight, SingleFlight
from fastmesh.errors import CacheMiss, FetchTimeout

Headers = Mapping[str, str]
Shared = tuple[Answer, BodyShare | None]
Ask = Callable[[Headers], Awaitable[Shared]]


class Spender(Protocol):
    """Whose time it is; see Fetched."""

    spent_s: float

    def begun(self) -> None:
        """An origin is asked, by this or another."""


class Answers:
    """The answers that all streams share, kept in *cache*.  *outcomes* counts where they came from.

    One that says nothing about how long it is fresh is so for *ttl_s*.
    """

    def __init__(self, cache: AnswerStore, ttl_s: float) -> None:
        self.cache = cache
        self.outcomes: Counter[str] = Counter(dict.fromkeys(("hit", "revalidated", "shared", "miss"), 0))
        self._ttl_s = ttl_s
        self._flights: SingleFlight[Shared] = SingleFlight()

    async def answer(
        self,
        url: ParsedUrl,
        headers: Headers,
        options: CrawlOptions,
        entry: Entry | None,
        ask: Ask,
        page: Spender,
    ) -> tuple[Answer, BodyShare | None, str]:
        """The answer to a request for *url* with *headers*, what it takes of the body budget, and its outcome.

        *ask* asks the origin, in what *page* has left of its time.  That another's asking is waited for is its time as
        well.  Raises CacheMiss where only the cache may be asked, and what *entry* and *ask* raise.
        """
        key, entered, alone = request_key(url, headers, options), False, options.cache_mode == "refresh"
        while True:
            known = None if options.cache_mode == "refresh" else self.cache.find(key, headers)
            if known is not None and policy.may_serve(known, time.monotonic(), options.max_age_s):
                self.cache.used(known)
                if entry is not None and entered:
                    entry.skip()
                return self._counted(known, None, "hit")
            if options.cache_mode == "cache_only":
                raise CacheMiss(f"{url.host}: the cache has no fresh answer, and only the cache may be asked")
            flight = None if alone else self._flights.get((key, options.max_body_bytes))
            if flight is not None:
                if entry is not None:
                    entry.skip()
                entered = False
                page.begun()
                found = await self._joined(flight, page, options.timeout_ms / 1000)
                if found is not None:
                    return self._counted(*found, "shared")
                alone = True
            elif entered or entry is None:
                break
            else:
                await entry.enter(url)
                entered = True  # and what it waited for may be there by now
        page.begun()
        asked = self._asked(key, headers, known, ask, entry)
        if alone:
            answer, share = await asked
        else:
            flight = self._flights.start((key, options.max_body_bytes), lambda: asked)
            answer, share = await _awaited(flight)
        if answer is known:
            return self._counted(answer, None, "revalidated")
        if share is not None:
            share.hold()
        return self._counted(answer, share, "miss")

    async def close(self) -> None:
        """End what is under way."""
        await self._flights.close()

    async def _joined(self, flight: Flight[Shared], page: Spender, limit_s: float) -> Shared | None:
        """What *flight* brings in what *page* has left of *limit_s*; None when it is not for others than who began it.

        Raises FetchTimeout when nothing of that time is left to ask alone.
        """
        joined_s = time.monotonic()
        flight.enter()
        try:
            done = await flight.result(max(0.0, limit_s - page.spent_s))
        finally:
            flight.leave()
            page.spent_s += time.monotonic() - joined_s
        found = _shared(flight.task) if done else None
        if found is None and (not done or page.spent_s >= limit_s):
            raise FetchTimeout("the page was not whole in its time, which another's fetch of it took")
        return found

    async def _asked(self, key: bytes, headers: Headers, known: Answer | None, ask: Ask, entry: Entry | None) -> Shared:
        """Ask the origin, whether what is *known* still holds if that can be asked, and keep what it says."""
        share = None
        try:
            conditional = {} if known is None else conditions(known.fields)
            answer, share = await visited(entry, lambda: ask(conditional))
            now_s = time.monotonic()
            if known is not None and policy.confirm(known, answer, now_s, self._ttl_s):
                if known.shelf is None:
                    self.cache.forget(known)
                else:
                    self.cache.used(known)
                return known, None
            if policy.may_replace(answer):
                if policy.shelve(answer, headers, now_s, self._ttl_s):
                    self.cache.keep(key, headers, answer)
                elif (replaced := self.cache.find(key, headers)) is not None:
                    self.cache.forget(replaced)
            return answer, share
        finally:
            if share is not None:
                share.give_back()  # whoever takes it holds it anew

    def _counted(self, answer: Answer, share: BodyShare | None, outcome: str) -> tuple[Answer, BodyShare | None, str]:
        self.outcomes[outcome] += 1
        return answer, share, outcome


async def _awaited(flight: Flight[Shared]) -> Shared:
    """The result, for who began it and may leave like all others."""
    flight.enter()
    try:
        await flight.result()
    finally:
        flight.leave()
    return flight.task.result()


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
