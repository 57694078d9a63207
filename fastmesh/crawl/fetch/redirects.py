"""The redirects of one page: the request that is sent to each place they lead to, and when they have led too far."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from multidict import CIMultiDict

from fastmesh.crawl.fetch.cookies import Cookies
from fastmesh.crawl.fetch.decode import ACCEPT_ENCODING
from fastmesh.crawl.fetch.request_headers import checked
from fastmesh.crawl.net.url import ParsedUrl
from fastmesh.crawl.options import CrawlOptions
from fastmesh.errors import TooManyRedirects

ACCEPT: Final = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@dataclass(slots=True)
class Request:
    """One request for a page: what is *sent* to *url*, beside the cache's conditions.  With *has_cookies* a cookie of
    this page's redirects is among it: the answer is nobody else's."""

    url: ParsedUrl
    sent: CIMultiDict[str]
    has_cookies: bool

    def headers(self) -> dict[str, str]:
        """What is sent, by names in lower case."""
        return {name.lower(): value for name, value in self.sent.items()}


class Redirects:
    """Follows at most *limit* redirects of one page; *request* is the one to be sent where they have led so far."""

    __slots__ = ("_cookies", "_headers", "_home", "_limit", "_options", "_seen", "request")

    def __init__(self, url: ParsedUrl, options: CrawlOptions, limit: int) -> None:
        self._headers = checked(options.headers)
        self._options = options
        self._limit = limit
        self._home = url.origin
        self._cookies: Cookies | None = None
        self._seen: set[tuple[str, str | None]] = set()
        self._arrive(url)

    def lead(self, url: ParsedUrl, set_cookies: Sequence[str]) -> None:
        """The answer, with these Set-Cookie lines, leads to *url*.  Raises TooManyRedirects."""
        if set_cookies and self._options.cookies == "redirects":
            self._cookies = self._cookies or Cookies()
            self._cookies.take(self.request.url, set_cookies, time.time())
        if url.origin != self._home:
            # For good: a foreign origin that leads back may have chosen what is asked there.
            self._headers = {}
        before, passed = self.request.url, len(self._seen)
        self._arrive(url)
        if len(self._seen) == passed:
            raise TooManyRedirects(f"the redirects of {before.host} lead in a circle")
        if passed > self._limit:
            raise TooManyRedirects(f"there are more than {self._limit} redirects")

    def _arrive(self, url: ParsedUrl) -> None:
        sent = CIMultiDict({"User-Agent": self._options.sent_user_agent, "Accept": ACCEPT})
        sent.update(self._headers)
        sent["Accept-Encoding"] = ACCEPT_ENCODING
        own = None if self._cookies is None or "Cookie" in sent else self._cookies.header(url, time.time())
        if own is not None:
            sent["Cookie"] = own
        self.request = Request(url, sent, has_cookies=own is not None)
        # A page that asks for a cookie leads to itself, once.
        self._seen.add((url.resource, sent.get("Cookie")))
