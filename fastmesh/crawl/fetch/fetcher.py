"""Fetching one page: from a URL to its bytes, redirects included.

One aiohttp session serves all streams.  It keeps no cookies (redirects.py does, for one URL) and reads no
environment (a proxy there would dial what nobody judged, a netrc would add
passwords that nobody gave).  Redirects are followed by hand, so that every hop is
parsed, judged and dialled like the first.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import Final

import aiodns
from aiohttp import ClientResponse, ClientSession, ClientTimeout, DummyCookieJar
from multidict import CIMultiDict
from yarl import URL

from fastmesh.config import FetchSettings
from fastmesh.crawl.cache.answer import Answer
from fastmesh.crawl.cache.freshness import CONDITIONS, kept_fields
from fastmesh.crawl.fairness.aside import Aside
from fastmesh.crawl.fetch.answers import Answers
from fastmesh.crawl.fetch.body import READ_BYTES, read_body
from fastmesh.crawl.fetch.body_budget import BodyBudget, BodyShare
from fastmesh.crawl.fetch.connector import GuardedConnector
from fastmesh.crawl.fetch.faults import typed_faults
from fastmesh.crawl.fetch.fetched import Fetched
from fastmesh.crawl.fetch.head import MAX_FIELDS, MAX_HEAD_BYTES
from fastmesh.crawl.fetch.redirects import Redirects
from fastmesh.crawl.fetch.retry_after import retry_after_s
from fastmesh.crawl.net.guard import AddressGuard
from fastmesh.crawl.net.names import Names
from fastmesh.crawl.net.resolver import LOOKUP, GuardedResolver, Lookup
from fastmesh.crawl.net.url import MAX_URL_CHARS, ParsedUrl
from fastmesh.crawl.options import CrawlOptions
from fastmesh.crawl.schedule.visit import Entry, visited
from fastmesh.errors import BadResponse, DnsFailed, FetchTimeout, HttpStatus, TooLarge, UrlError
from fastmesh.telemetry.spans import Attribute, Spans
from fastmesh.telemetry.trace import HEADER

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
NO_CONTENT: Final = frozenset({204, 205})
MAX_CONTENT_TYPE_CHARS: Final = 256

_UNDECODED: Final = re.compile(r"[\udc80-\udcff]")


class Fetcher:
    """Fetches pages.  It must be made while the loop runs, and closed.

    *answers* has the cache; without it every request is asked for.  *dns* is the DNS client to ask, by
    default one of the system's settings.
    """

    def __init__(
        self,
        settings: FetchSettings,
        guard: AddressGuard,
        *,
        answers: Answers | None = None,
        dns: aiodns.DNSResolver | None = None,
        spans: Spans | None = None,
    ) -> None:
        self._max_redirects = settings.max_redirects
        self.answers = answers
        self._spans = spans
        self.budget = BodyBudget(settings.total_bytes, settings.max_body_bytes)
        self._guard = guard
        self._aside = Aside("decoding")
        self._resolver = GuardedResolver(guard, dns)
        self._session = ClientSession(
            connector=GuardedConnector(guard, self._resolver),
            cookie_jar=DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            # The URL's deadline is ours; aiohttp would round what is longer than its threshold up to whole seconds.
            timeout=ClientTimeout(total=None, connect=settings.connect_timeout_ms / 1000, ceil_threshold=math.inf),
            read_bufsize=READ_BYTES,
            # The whole head is bounded before it is parsed.
            max_line_size=MAX_HEAD_BYTES,
            max_field_size=MAX_HEAD_BYTES,
            max_headers=MAX_FIELDS,
        )

    @property
    def names(self) -> Names:
        """What it knows of names."""
        return self._resolver.names

    async def fetch(self, page: Fetched, options: CrawlOptions, entry: Entry | None = None) -> None:
        """Fetch ``page.url`` and fill *page*.

        *entry* is entered before anything is asked for, redirects included; it may raise UrlError.
        Raises the UrlError that says what went wrong.  A lookup that takes too
        long is DnsFailed; a connection that takes longer than the connect timeout
        (lookup and TLS included), or a page longer than ``options.timeout_ms``
        (redirects and earlier tries included), is FetchTimeout.
        """
        page.let_go()
        page.final_url, page.status, page.content_type = None, 0, None
        url = self._guard.parse(page.url)
        way = Redirects(url, options, self._max_redirects if options.max_redirects is None else options.max_redirects)
        page.asked = False
        while True:
            answer, outcome = await self._answer(way, page, options, entry)
            page.from_cache = outcome in ("hit", "revalidated")
            page.began_at = answer.asked_at_s
            found = self._take(answer, way.url, page, options.max_body_bytes)
            if found is None:
                return
            page.let_go()
            way.lead(found, answer.set_cookies)

    async def close(self) -> None:
        """Close all connections; fetches that still run fail."""
        if self.answers is not None:
            await self.answers.close()
        await self._session.close()
        await self._resolver.close()
        await self._aside.close()

    async def _answer(
        self, way: Redirects, page: Fetched, options: CrawlOptions, entry: Entry | None
    ) -> tuple[Answer, str]:
        """The answer to one request, and where it came from."""
        url, sent = way.url, way.sent

        async def ask(conditions: Mapping[str, str]) -> tuple[Answer, BodyShare | None]:
            return await self._ask_in_time(url, CIMultiDict(sent, **conditions), page, options)

        chosen = {name.lower(): value for name, value in sent.items()}
        # What a client asks conditionally, or for a part, is answered for that client alone.
        alone = options.cache_mode == "bypass" or (
            not CONDITIONS.isdisjoint(chosen) and options.cache_mode != "cache_only"
        )
        if self.answers is None or alone or way.has_cookies:
            if entry is not None:
                await entry.enter(url)
            page.begun()
            answer, page.share = await visited(entry, lambda: ask({}))
            return answer, "miss"
        try:
            answer, page.share, outcome = await self.answers.answer(url, chosen, options, entry, ask, page)
        except UrlError as error:
            if error.answered is not None:  # it may have been another's request
                page.final_url, page.status, page.content_type = error.answered
            raise
        page.answer = answer
        return answer, outcome

    async def _ask_in_time(
        self, url: ParsedUrl, sent: CIMultiDict[str], page: Fetched, options: CrawlOptions
    ) -> tuple[Answer, BodyShare | None]:
        """Ask for *url* in what *page* has left of its time."""
        lookup = Lookup(again=page.tries > 1)
        LOOKUP.set(lookup)
        limit_s = options.timeout_ms / 1000
        started_s = time.monotonic()
        limit = asyncio.timeout(limit_s - page.spent_s)
        share = self.budget.open(limit)
        try:
            async with limit:
                answer = await self._ask(url, sent, page, share, options, lookup)
        except BaseException as error:
            share.give_back()
            if not isinstance(error, TimeoutError):
                raise
            if lookup.pending:
                raise DnsFailed(f"the host was not resolved within {limit_s:g} s") from None
            if share.given_up:
                raise FetchTimeout("the origin sent nothing more while memory was short (FETCH__TOTAL_BYTES)") from None
            raise FetchTimeout(f"the page was not whole within {limit_s:g} s") from None
        finally:
            del limit  # it knows the task, and one that was cancelled knows this frame
            took_s = time.monotonic() - started_s
            page.dns_s += lookup.took_s
            page.fetch_s += took_s
            page.spent_s += took_s - share.waited_s
        return answer, share

    async def _ask(
        self,
        url: ParsedUrl,
        sent: CIMultiDict[str],
        page: Fetched,
        share: BodyShare,
        options: CrawlOptions,
        lookup: Lookup,
    ) -> Answer:
        asked_at_s = time.time()
        span: AbstractContextManager[dict[str, Attribute]] = nullcontext({})
        if page.trace is not None and HEADER not in sent:
            # Only here: what the cache knows a request by has no span.
            trace = page.trace.child()
            sent = CIMultiDict(sent, **{HEADER: trace.header})
            if self._spans is not None:
                span = self._spans.request(url.href, trace)
        answered = None
        try:
            with span as told, typed_faults(url.host, lookup):
                response = await self._session.get(_as_yarl(url), headers=sent, allow_redirects=False)
                came_at_s = time.time()
                told["http.response.status_code"] = response.status
                # Said of a page whose body fails, too.
                answered = url.href, response.status, _content_type(response)
                page.final_url, page.status, page.content_type = answered
                try:
                    body, received = b"", 0
                    location = _location(response) if response.status in REDIRECTS else None
                    if 200 <= response.status <= 299 and response.status not in NO_CONTENT:
                        body, received = await read_body(
                            response, options.max_body_bytes, share, self._aside, page.client, cut=options.cut_body
                        )
                finally:
                    # Keeps the connection when the body was read to its end, else closes it: the body of
                    # a redirect or an error is never read.
                    response.release()
        except UrlError as error:
            error.answered = answered
            raise
        share.whole()
        return Answer(
            status=response.status,
            location=location,
            content_type=page.content_type,
            fields=kept_fields(response.headers),
            body=body,
            received_bytes=received,
            came_at_s=came_at_s,
            asked_at_s=asked_at_s,
            set_cookies=() if location is None else tuple(response.headers.getall("Set-Cookie", ())),
            retry_after_s=retry_after_s(response.headers.get("Retry-After"), datetime.now(UTC)),
        )

    def _take(self, answer: Answer, url: ParsedUrl, page: Fetched, max_body_bytes: int) -> ParsedUrl | None:
        """Fill *page*; return where it redirects to, or None when *page* has its body.

        Raises HttpStatus, and TooLarge where the cache has what another was allowed.
        """
        page.final_url, page.status, page.content_type = url.href, answer.status, answer.content_type
        if answer.location is not None:
            return self._guard.follow(url, _escaped(answer.location))
        if not 200 <= answer.status <= 299:
            raise HttpStatus(answer.status, retry_after_s=answer.retry_after_s)
        if len(answer.body) > max_body_bytes:
            raise TooLarge(f"the body has {len(answer.body)} bytes, over the limit of {max_body_bytes}")
        page.body, page.received_bytes = answer.body, answer.received_bytes
        return None


def _as_yarl(url: ParsedUrl) -> URL:
    """For aiohttp: built of the parts that were judged, and encoded already; the fragment stays here."""
    # Path and query in one piece: an empty query would be lost.
    return URL.build(scheme=url.scheme, authority=url.authority, path=url.target, encoded=True)


def _location(response: ClientResponse) -> str | None:
    """Where *response* leads; an empty Location leads nowhere, to browsers too.  Raises BadResponse."""
    said = {location for line in response.headers.getall("Location", ()) if (location := line.strip())}
    if len(said) > 1:
        raise BadResponse("the origin redirects to two places at once")
    return said.pop() if said else None


def _content_type(response: ClientResponse) -> str | None:
    value = response.headers.get("Content-Type")
    return None if value is None else _UNDECODED.sub("\ufffd", value[:MAX_CONTENT_TYPE_CHARS])


def _escaped(location: str) -> str:
    """A ``Location`` whose bytes were not UTF-8 has them escaped, as browsers do; a too long one is refused by that."""
    if len(location) > MAX_URL_CHARS:
        return location
    return _UNDECODED.sub(lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", location)
