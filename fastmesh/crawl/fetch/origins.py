"""Asking origins: one request and its answer, over one aiohttp session that all streams share.

The session keeps no cookies (redirects.py does, for one page), follows no redirects and reads no environment (a proxy
there would dial what nobody judged, a netrc would add passwords that nobody gave).
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Final

import aiodns
from aiohttp import ClientResponse, ClientSession, ClientTimeout, DummyCookieJar
from multidict import CIMultiDict
from yarl import URL

from fastmesh.config import FetchSettings
from fastmesh.crawl.cache.freshness import kept_fields
from fastmesh.crawl.cache.store import Answer
from fastmesh.crawl.fairness.steps import Aside
from fastmesh.crawl.fetch.body import read_body
from fastmesh.crawl.fetch.body_budget import READ_BYTES, BodyBudget, BodyShare
from fastmesh.crawl.fetch.connector import GuardedConnector
from fastmesh.crawl.fetch.faults import as_url_error
from fastmesh.crawl.fetch.head import MAX_FIELDS, MAX_HEAD_BYTES
from fastmesh.crawl.fetch.page_source import PageRequest
from fastmesh.crawl.fetch.redirects import Request
from fastmesh.crawl.fetch.retries import retry_after_s
from fastmesh.crawl.net.guard import AddressGuard
from fastmesh.crawl.net.resolver import LOOKUP, GuardedResolver, Lookup
from fastmesh.crawl.net.url import MAX_URL_CHARS, ParsedUrl
from fastmesh.errors import BadResponse, DnsFailed, FetchTimeout, UrlError
from fastmesh.telemetry.spans import Attribute, Spans
from fastmesh.telemetry.trace import HEADER

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
NO_CONTENT: Final = frozenset({204, 205})
MAX_CONTENT_TYPE_CHARS: Final = 256

_UNDECODED: Final = re.compile(r"[\udc80-\udcff]")  # bytes of a head that were no UTF-8


class _Exchange:
    """One request on its way, and what is known of its answer when that breaks: its URL, status and content type."""

    __slots__ = ("answered", "lookup", "share")

    def __init__(self, lookup: Lookup, share: BodyShare) -> None:
        self.lookup = lookup
        self.share = share
        self.answered: tuple[str, int, str | None] | None = None


class Origins:
    """Asks origins.  It must be made while the loop runs, and closed.  *dns* is the DNS client to ask, by default one
    of the system's settings."""

    def __init__(
        self, settings: FetchSettings, guard: AddressGuard, dns: aiodns.DNSResolver | None, spans: Spans | None
    ) -> None:
        self.budget = BodyBudget(settings.total_bytes, settings.max_body_bytes)
        self._spans = spans
        self._aside = Aside("decoding")
        resolver = GuardedResolver(guard, dns)
        self.names = resolver.names
        self._session = ClientSession(
            connector=GuardedConnector(guard, resolver),
            cookie_jar=DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            # The page's deadline is ours; aiohttp would round what is longer than its threshold up to whole seconds.
            timeout=ClientTimeout(total=None, connect=settings.connect_timeout_ms / 1000, ceil_threshold=math.inf),
            read_bufsize=READ_BYTES,
            # The whole head is bounded before it is parsed.
            max_line_size=MAX_HEAD_BYTES,
            max_field_size=MAX_HEAD_BYTES,
            max_headers=MAX_FIELDS,
        )

    async def ask(
        self, request: Request, page: PageRequest, conditions: Mapping[str, str]
    ) -> tuple[Answer, BodyShare | None]:
        """The answer to *request* with the cache's *conditions*, in what *page* has left of its time.

        Raises the UrlError that says what went wrong, and what the origin had answered by then.  A lookup that takes
        too long is DnsFailed; a connection that takes longer than the connect timeout (lookup and TLS included), or
        a page that takes longer than its deadline, is FetchTimeout.
        """
        lookup = Lookup(again=page.tries > 1)
        LOOKUP.set(lookup)
        started_s = time.monotonic()
        share = self.budget.open(page.deadline)
        exchange = _Exchange(lookup, share)
        try:
            async with page.deadline:
                answer = await self._exchange(exchange, request, page, conditions)
        except BaseException as error:
            share.give_back()
            if isinstance(error, TimeoutError):
                raise _too_late(exchange, page.deadline.limit_s) from None
            if isinstance(error, UrlError):
                error.answered = exchange.answered
            raise
        finally:
            page.dns_s += lookup.took_s
            page.fetch_s += time.monotonic() - started_s
        return answer, share

    async def close(self) -> None:
        """Close all connections; requests that still run fail."""
        await self._session.close()
        await self.names.close()
        await self._aside.close()

    async def _exchange(
        self, exchange: _Exchange, request: Request, page: PageRequest, conditions: Mapping[str, str]
    ) -> Answer:
        asked_at_s = time.time()
        url, options, share = request.url, page.options, exchange.share
        span: AbstractContextManager[dict[str, Attribute]] = nullcontext({})
        sent = CIMultiDict(request.sent, **conditions) if conditions else request.sent
        if page.trace is not None and HEADER not in sent:
            # Only here: what the cache knows a request by has no span.
            trace = page.trace.child()
            sent = CIMultiDict(sent, **{HEADER: trace.header})
            if self._spans is not None:
                span = self._spans.request(url.href, trace)
        with span as told:
            try:
                response = await self._session.get(_as_yarl(url), headers=sent, allow_redirects=False)
                came_at_s = time.time()
                told["http.response.status_code"] = response.status
                content_type = _content_type(response)
                exchange.answered = url.href, response.status, content_type
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
            except UrlError:
                raise
            except Exception as error:
                raise as_url_error(error, url.host, exchange.lookup) from error
        share.whole()
        return Answer(
            status=response.status,
            location=location,
            content_type=content_type,
            fields=kept_fields(response.headers),
            body=body,
            received_bytes=received,
            came_at_s=came_at_s,
            asked_at_s=asked_at_s,
            set_cookies=() if location is None else tuple(response.headers.getall("Set-Cookie", ())),
            retry_after_s=retry_after_s(response.headers.get("Retry-After")),
        )


def _too_late(exchange: _Exchange, limit_s: float) -> UrlError:
    """Why a request did not end within *limit_s*, its page's time."""
    error: UrlError
    if exchange.lookup.pending:
        error = DnsFailed(f"the host was not resolved within {limit_s:g} s")
    elif exchange.share.given_up:
        error = FetchTimeout("the origin sent nothing more while memory was short (FETCH__TOTAL_BYTES)")
    else:
        error = FetchTimeout(f"the page was not whole within {limit_s:g} s")
    error.answered = exchange.answered
    return error


def _as_yarl(url: ParsedUrl) -> URL:
    """For aiohttp: built of the parts that were judged, and encoded already; the fragment stays here."""
    # Path and query in one piece: an empty query would be lost.
    return URL.build(scheme=url.scheme, authority=url.authority, path=url.target, encoded=True)


def _location(response: ClientResponse) -> str | None:
    """Where *response* leads; an empty Location leads nowhere, to browsers too.  Raises BadResponse."""
    said = {location for line in response.headers.getall("Location", ()) if (location := line.strip())}
    if len(said) > 1:
        raise BadResponse("the origin redirects to two places at once")
    return _escaped(said.pop()) if said else None


def _escaped(location: str) -> str:
    """A ``Location`` whose bytes were not UTF-8 has them escaped, as browsers do; a too long one is refused by that."""
    if len(location) > MAX_URL_CHARS:
        return location
    return _UNDECODED.sub(lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", location)


def _content_type(response: ClientResponse) -> str | None:
    value = response.headers.get("Content-Type")
    return None if value is None else _UNDECODED.sub("\ufffd", value[:MAX_CONTENT_TYPE_CHARS])
