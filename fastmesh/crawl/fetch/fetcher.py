"""Fetching one page: from a URL to its bytes, redirects included.  Redirects are followed by hand, so that every one of
them is parsed, judged and dialled like the first URL."""

from __future__ import annotations

from functools import partial

import aiodns

from fastmesh.config import FetchSettings
from fastmesh.crawl.cache.freshness import CONDITIONS
from fastmesh.crawl.cache.store import Answer
from fastmesh.crawl.fetch.answers import Answers
from fastmesh.crawl.fetch.origins import Origins
from fastmesh.crawl.fetch.page_source import Fetched, PageRequest
from fastmesh.crawl.fetch.redirects import Redirects, Request
from fastmesh.crawl.net.guard import AddressGuard
from fastmesh.crawl.net.url import ParsedUrl
from fastmesh.errors import HttpStatus, TooLarge, UrlError
from fastmesh.telemetry.spans import Spans


class Fetcher:
    """Fetches pages from their origins: the PageSource that there is.  It must be made while the loop runs, and closed.
    *answers* has the cache; *dns* is the DNS client to ask, by default one of the system's settings."""

    def __init__(
        self,
        settings: FetchSettings,
        guard: AddressGuard,
        answers: Answers,
        *,
        dns: aiodns.DNSResolver | None = None,
        spans: Spans | None = None,
    ) -> None:
        self.origins = Origins(settings, guard, dns, spans)
        self._answers = answers
        self._guard = guard
        self._max_redirects = settings.max_redirects

    async def fetch(self, page: PageRequest, fetched: Fetched) -> None:
        """Fetch *page* and fill *fetched*.  Leave is asked for each request, redirects included.  Raises the UrlError
        that says what went wrong."""
        fetched.begin()
        options = page.options
        limit = self._max_redirects if options.max_redirects is None else options.max_redirects
        way = Redirects(self._guard.parse(page.url), options, limit)
        page.begun = False
        while True:
            request = way.request
            try:
                answer = await self._answer(request, page, fetched)
            except UrlError as error:
                if error.answered is not None:  # it may have been another's request
                    fetched.final_url, fetched.status, fetched.content_type = error.answered
                raise
            page.asked_at = answer.asked_at_s
            found = self._take(answer, request.url, fetched, options.max_body_bytes)
            if found is None:
                return
            fetched.let_go()
            way.lead(found, answer.set_cookies)

    async def close(self) -> None:
        """Close all connections; fetches that still run fail."""
        await self._answers.close()
        await self.origins.close()

    async def _answer(self, request: Request, page: PageRequest, fetched: Fetched) -> Answer:
        """The answer to *request*, from wherever it may come."""
        ask = partial(self.origins.ask, request, page)
        mode, headers = page.options.cache_mode, request.headers()
        # What a client asks conditionally, or for a part, is answered for that client alone.
        alone = mode == "bypass" or (not CONDITIONS.isdisjoint(headers) and mode != "cache_only")
        if alone or request.has_cookies:
            permit = await page.admission.admit(request.url)
            page.begin()
            answer, fetched.share = await permit.spend(partial(ask, {}))
            fetched.from_cache = False
        else:
            answer, fetched.share, outcome = await self._answers.answer(request.url, headers, page, ask)
            fetched.answer, fetched.from_cache = answer, outcome in ("hit", "revalidated")
        return answer

    def _take(self, answer: Answer, url: ParsedUrl, fetched: Fetched, max_body_bytes: int) -> ParsedUrl | None:
        """Fill *fetched*; return where it redirects to, or None when *fetched* has its body.  Raises HttpStatus, and
        TooLarge where the cache has what another was allowed."""
        fetched.final_url, fetched.status, fetched.content_type = url.href, answer.status, answer.content_type
        if answer.location is not None:
            return self._guard.follow(url, answer.location)
        if not 200 <= answer.status <= 299:
            raise HttpStatus(answer.status, retry_after_s=answer.retry_after_s)
        if len(answer.body) > max_body_bytes:
            raise TooLarge(f"the body has {len(answer.body)} bytes, over the limit of {max_body_bytes}")
        fetched.body, fetched.received_bytes = answer.body, answer.received_bytes
        return None
