"""Search by a SearXNG instance's JSON API."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import orjson
from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

from fastmesh.crawl.fairness.steps import Aside
from fastmesh.crawl.fetch.body import read_body
from fastmesh.crawl.fetch.body_budget import BodyBudget
from fastmesh.crawl.fetch.decode import ACCEPT_ENCODING
from fastmesh.crawl.fetch.retries import retry_after_s
from fastmesh.crawl.net.url import MAX_URL_CHARS
from fastmesh.crawl.search.provider import SearchHit
from fastmesh.errors import SearchUnavailable, UrlError
from fastmesh.telemetry import log
from fastmesh.version import __version__

SEARCH_TIMEOUT_S: Final = 10.0  # a whole search, all its pages
MAX_ANSWER_BYTES: Final = 1_048_576  # one page of results, decompressed
MAX_PAGES: Final = 10
MAX_CONNECTIONS: Final = 16
MAX_TITLE_CHARS: Final = 500
MAX_SNIPPET_CHARS: Final = 2000
MAX_RETRY_AFTER_S: Final = 3600


class SearxngSearch:
    """The JSON API of a SearXNG instance at *url*; it must be made while the loop runs, and closed."""

    def __init__(self, url: str, *, timeout_s: float = SEARCH_TIMEOUT_S) -> None:
        self._url = url.rstrip("/") + "/search"
        self._timeout_s = timeout_s
        self._aside = Aside("search")
        self._session = ClientSession(
            connector=TCPConnector(limit=MAX_CONNECTIONS),
            cookie_jar=DummyCookieJar(),
            trust_env=False,  # a proxy there would be told every query
            auto_decompress=False,
            timeout=ClientTimeout(total=None),  # the deadline is ours, over all pages
            headers={
                "Accept": "application/json",
                "Accept-Encoding": ACCEPT_ENCODING,
                "User-Agent": f"fastmesh/{__version__}",
            },
        )

    async def search(self, query: str, limit: int) -> list[SearchHit]:
        """See SearchProvider.  When a later page fails, the hits of the pages before it are the answer."""
        hits: dict[str, SearchHit] = {}
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._collect(query, limit, hits)
        except TimeoutError:
            refusal = SearchUnavailable(f"the search provider did not answer within {self._timeout_s:g} s")
        except SearchUnavailable as error:
            refusal = error
        else:
            return list(hits.values())
        if not hits:
            raise refusal
        log.get_logger().warning("search.page_failed", reason=refusal.message, hits=len(hits), limit=limit)
        return list(hits.values())

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()
        await self._aside.close()

    async def _collect(self, query: str, limit: int, hits: dict[str, SearchHit]) -> None:
        """Fill *hits* up to *limit*, page by page, until one brings nothing new."""
        for page in range(1, MAX_PAGES + 1):
            before = len(hits)
            for url, title, snippet in _found(await self._page(query, page)):
                if url not in hits:
                    hits[url] = SearchHit(len(hits) + 1, url, title, snippet)
                if len(hits) >= limit:
                    return
            if len(hits) == before:
                return

    async def _page(self, query: str, page: int) -> list[Any]:
        """The results of one page, as they came."""
        asked = {"q": query, "format": "json", "pageno": str(page)}
        try:
            async with self._session.get(self._url, params=asked, allow_redirects=False) as response:
                if response.status != 200:
                    raise _refusal(response.status, response.headers.get("Retry-After"))
                share = BodyBudget(MAX_ANSWER_BYTES, MAX_ANSWER_BYTES).open()
                body, _ = await read_body(response, MAX_ANSWER_BYTES, share, self._aside)
        except UrlError as error:  # too large, or broken in its coding
            raise SearchUnavailable(f"the search provider's answer cannot be read: {error.message}") from None
        except (ClientError, OSError, ValueError) as error:
            # aiohttp lets ValueError through for some heads; the text of either names the endpoint, which
            # is the operator's business and not the client's.
            log.get_logger().warning("search.failed", reason=str(error) or type(error).__name__)
            raise SearchUnavailable("the search provider cannot be reached") from None
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise SearchUnavailable("the search provider's answer is not JSON") from None
        results = answer.get("results") if isinstance(answer, dict) else None
        if not isinstance(results, list):
            raise SearchUnavailable("the search provider's answer has no list of results")
        return results


def _refusal(status: int, retry_after: str | None) -> SearchUnavailable:
    wait_s = retry_after_s(retry_after) or 10
    reason = f"the search provider answered with status {status}"
    if 300 <= status <= 399:
        reason += ", a redirect, which is not followed: SEARCH__URL must be the instance's own"
    if status == 403:
        reason += ": SearXNG does so while json is not among its search.formats"
    return SearchUnavailable(reason, retry_after_s=max(1, min(round(wait_s), MAX_RETRY_AFTER_S)))


def _found(results: list[Any]) -> Iterator[tuple[str, str, str]]:
    """(URL, title, snippet) of every result that has a URL."""
    for result in results:
        url = result.get("url") if isinstance(result, dict) else None
        if not isinstance(url, str) or len(url) > MAX_URL_CHARS:
            continue
        url = url.strip()
        if url.lower().startswith(("http://", "https://")):  # others are magnet links and the like
            yield url, _line(result.get("title"), MAX_TITLE_CHARS), _line(result.get("content"), MAX_SNIPPET_CHARS)


def _line(value: object, most: int) -> str:
    """*value* as one line of at most *most* characters; what is no text is empty."""
    return " ".join(value[: 4 * most].split())[:most] if isinstance(value, str) else ""
