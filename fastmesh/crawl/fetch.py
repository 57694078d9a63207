"""Fetching one page: from a URL to its bytes, redirects included.

One aiohttp session serves all streams.  It keeps no cookies and reads no
environment (a proxy there would dial what nobody judged, a netrc would add
passwords that nobody gave).  Redirects are followed by hand, so that every hop is
parsed, judged and dialled like the first.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Final

import aiodns
from aiohttp import (
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TraceConfig,
)
from multidict import CIMultiDict
from yarl import URL

from fastmesh.config import FetchSettings
from fastmesh.crawl.body import READ_BYTES, read_body
from fastmesh.crawl.body_budget import BodyBudget, BodyShare
from fastmesh.crawl.connection import GuardedConnector
from fastmesh.crawl.decode import ACCEPT_ENCODING
from fastmesh.crawl.faults import typed_faults
from fastmesh.crawl.guard import AddressGuard
from fastmesh.crawl.options import CrawlOptions
from fastmesh.crawl.request_headers import checked
from fastmesh.crawl.resolve import GuardedResolver, Lookup
from fastmesh.crawl.retry_after import retry_after_s
from fastmesh.crawl.url import ParsedUrl
from fastmesh.errors import DnsFailed, FetchTimeout, HttpStatus, TooManyRedirects

ACCEPT: Final = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
NO_CONTENT: Final = frozenset({204, 205})
MAX_HEADER_FIELD_BYTES: Final = 16_384  # policies in headers of large sites pass 8 KiB
MAX_CONTENT_TYPE_CHARS: Final = 256

Enter = Callable[[ParsedUrl], Awaitable[None]]

_UNDECODED: Final = re.compile(r"[\udc80-\udcff]")


@dataclass(slots=True)
class Fetched:
    """One page, filled in as far as its fetch got; also when fetch() raises, and then it may be fetched again.

    *final_url*, *status* and *content_type* are those of the last answer,
    whatever it was.  *body* is decoded and there only on success;
    *received_bytes* is its length on the wire.  *tries* is how often its fetch was
    begun, *began_at* when it last was, in seconds since the epoch.  *fetch_s* is the time of all
    tries without that of *enter*, *dns_s* what of it was spent waiting for names, and *spent_s*
    what is used of its time: the tries and the waits between them.  *share* counts the body among all that
    are in memory, until it is let go.
    """

    url: str
    final_url: str | None = None
    status: int = 0
    content_type: str | None = None
    body: bytes = b""
    received_bytes: int = 0
    dns_s: float = 0.0
    fetch_s: float = 0.0
    tries: int = 0
    began_at: float = 0.0
    spent_s: float = 0.0
    share: BodyShare | None = None

    def let_go(self) -> None:
        """The body is needed no more."""
        self.body = b""
        if self.share is not None:
            self.share.give_back()
            self.share = None


class Fetcher:
    """Fetches pages.  It must be made while the loop runs, and closed.

    *dns* is the DNS client to ask, by default one of the system's settings.
    """

    def __init__(self, settings: FetchSettings, guard: AddressGuard, *, dns: aiodns.DNSResolver | None = None) -> None:
        self._max_redirects = settings.max_redirects
        self.budget = BodyBudget(settings.total_bytes)
        self._guard = guard
        self._resolver = GuardedResolver(guard, dns)
        self._session = ClientSession(
            connector=GuardedConnector(guard, self._resolver),
            cookie_jar=DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            # The URL's deadline is ours; aiohttp would round what is longer than its threshold up to whole seconds.
            timeout=ClientTimeout(total=None, connect=settings.connect_timeout_ms / 1000, ceil_threshold=math.inf),
            read_bufsize=READ_BYTES,
            max_field_size=MAX_HEADER_FIELD_BYTES,
            trace_configs=[_lookup_trace()],
        )

    async def fetch(self, page: Fetched, options: CrawlOptions, enter: Enter | None = None) -> None:
        """Fetch ``page.url`` and fill *page*.

        *enter* is awaited before anything is asked for, redirects included; it may raise UrlError.
        Raises the UrlError that says what went wrong.  A lookup that takes too
        long is DnsFailed; a connection that takes longer than the connect timeout
        (lookup and TLS included), or a page longer than ``options.timeout_ms``
        (redirects and earlier tries included), is FetchTimeout.
        """
        page.let_go()
        page.final_url, page.status, page.content_type = None, 0, None
        url = self._guard.parse(page.url)
        first, headers = url.origin, checked(options.headers)
        max_redirects = self._max_redirects if options.max_redirects is None else options.max_redirects
        seen = {url.resource}
        hops = 0
        while True:
            if enter is not None:
                await enter(url)
            if not hops:
                page.tries += 1
                page.began_at = time.time()
            hops += 1
            found = await self._ask_in_time(url, headers, page, options)
            if found is None:
                return
            if found.resource in seen:
                raise TooManyRedirects(f"the redirects of {url.host} lead in a circle")
            if hops > max_redirects:
                raise TooManyRedirects(f"there are more than {max_redirects} redirects")
            seen.add(found.resource)
            if found.origin != first:
                # For good: a foreign origin that leads back may have chosen what is asked there.
                headers = {}
            url = found

    async def close(self) -> None:
        """Close all connections; fetches that still run fail."""
        await self._session.close()
        await self._resolver.close()

    async def _ask_in_time(
        self, url: ParsedUrl, headers: dict[str, str], page: Fetched, options: CrawlOptions
    ) -> ParsedUrl | None:
        """Ask for *url* in what *page* has left of its time."""
        lookup = Lookup()
        limit_s = options.timeout_ms / 1000
        started_s = time.monotonic()
        try:
            async with asyncio.timeout(limit_s - page.spent_s):
                return await self._ask(url, headers, page, options, lookup)
        except TimeoutError:
            if lookup.pending:
                raise DnsFailed(f"the host was not resolved within {limit_s:g} s") from None
            raise FetchTimeout(f"the page was not whole within {limit_s:g} s") from None
        except BaseException:
            page.let_go()
            raise
        finally:
            took_s = time.monotonic() - started_s
            page.dns_s += lookup.took_s
            page.fetch_s += took_s
            page.spent_s += took_s

    async def _ask(
        self, url: ParsedUrl, headers: dict[str, str], page: Fetched, options: CrawlOptions, lookup: Lookup
    ) -> ParsedUrl | None:
        """Ask for *url*; return where it redirects to, or None when *page* has its body."""
        sent = CIMultiDict({"User-Agent": options.user_agent, "Accept": ACCEPT})
        sent.update(headers)
        sent["Accept-Encoding"] = ACCEPT_ENCODING
        with typed_faults(url.host, lookup):
            response = await self._session.get(
                _as_yarl(url), headers=sent, allow_redirects=False, trace_request_ctx=lookup
            )
            try:
                return await self._take(response, url, page, options)
            finally:
                # Keeps the connection when the body was read to its end, else closes it: the body of
                # a redirect or an error is never read.
                response.release()

    async def _take(
        self, response: ClientResponse, url: ParsedUrl, page: Fetched, options: CrawlOptions
    ) -> ParsedUrl | None:
        page.final_url, page.status = url.href, response.status
        page.content_type = _content_type(response)
        location = response.headers.get("Location")
        if response.status in REDIRECTS and location is not None:
            return self._guard.follow(url, _escaped(location))
        if not 200 <= response.status <= 299:
            wait_s = retry_after_s(response.headers.get("Retry-After"), datetime.now(UTC))
            raise HttpStatus(response.status, retry_after_s=wait_s)
        if response.status not in NO_CONTENT:
            page.share = self.budget.open()
            page.body, page.received_bytes = await read_body(
                response, options.max_body_bytes, page.share, cut=options.cut_body
            )
        return None


def _as_yarl(url: ParsedUrl) -> URL:
    """For aiohttp: built of the parts that were judged, and encoded already; the fragment stays here."""
    path, _, query = url.target.partition("?")
    return URL.build(scheme=url.scheme, authority=url.authority, path=path, query_string=query, encoded=True)


def _content_type(response: ClientResponse) -> str | None:
    value = response.headers.get("Content-Type")
    return None if value is None else _UNDECODED.sub("\ufffd", value)[:MAX_CONTENT_TYPE_CHARS]


def _escaped(location: str) -> str:
    """A ``Location`` whose bytes were not UTF-8 has them escaped, as browsers do."""
    return _UNDECODED.sub(lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", location)


def _lookup_trace() -> TraceConfig:
    """Tells each request's Lookup when its name is asked for and answered."""

    async def start(_session: ClientSession, context: SimpleNamespace, _params: object) -> None:
        context.trace_request_ctx.start()

    async def end(_session: ClientSession, context: SimpleNamespace, _params: object) -> None:
        context.trace_request_ctx.end()

    trace = TraceConfig()
    trace.on_dns_resolvehost_start.append(start)
    trace.on_dns_resolvehost_end.append(end)
    return trace
