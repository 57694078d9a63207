"""Search providers: from a query to URLs, for deepsearch.

A provider answers with what it found or raises SearchUnavailable, whatever the
other side does: its answer is bounded in bytes, in time and in number, and only
what has the right type gets out.  The operator chose the endpoint, so it may be
on loopback; the URLs that it answers with are strangers' and are judged where
they are fetched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol, Self

import orjson
from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

from fastmesh.config import Settings
from fastmesh.crawl.fairness.aside import Aside
from fastmesh.crawl.fetch.body import read_body
from fastmesh.crawl.fetch.body_budget import BodyBudget
from fastmesh.crawl.fetch.decode import ACCEPT_ENCODING
from fastmesh.crawl.fetch.retry_after import retry_after_s
from fastmesh.errors import ConfigError, SearchUnavailable, UrlError
from fastmesh.telemetry import log
from fastmesh.version import __version__

SEARCH_TIMEOUT_S: Final = 10.0  # a whole search, all its pages
MAX_ANSWER_BYTES: Final = 1_048_576  # one page of results, decompressed
MAX_PAGES: Final = 10
MAX_CONNECTIONS: Final = 16
MAX_URL_CHARS: Final = 8192
MAX_TITLE_CHARS: Final = 500
MAX_SNIPPET_CHARS: Final = 2000
MAX_RETRY_AFTER_S: Final = 3600


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One URL that was found; *rank* counts from 1."""

    rank: int
    url: str
    title: str = ""
    snippet: str = ""


class SearchProvider(Protocol):
    """What deepsearch asks."""

    async def search(self, query: str, limit: int) -> list[SearchHit]:
        """At most *limit* hits, the best first, no URL twice; none is an answer.  Raises SearchUnavailable."""
        ...

    async def close(self) -> None:
        """Close what is open."""
        ...


def make_search(settings: Settings) -> SearchProvider | None:
    """The provider that the settings name.  It must be made while the loop runs.  Raises ConfigError."""
    search = settings.search
    match search.provider:
        case "searxng":
            assert search.url is not None
            return SearxngSearch(search.url)
        case "static":
            assert search.static_file is not None
            return StaticSearch.read(Path(search.static_file))
        case "none":
            return None


# ── SearXNG ──────────────────────────────────────────────────────────────────────────────


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
    wait_s = retry_after_s(retry_after, datetime.now(UTC)) or 10
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


# ── a file ───────────────────────────────────────────────────────────────────────────────

FILE_SETTING: Final = "SEARCH__STATIC_FILE"
ITEM_FIELDS: Final = frozenset({"url", "title", "snippet"})


class StaticSearch:
    """Answers from a table; a query is matched whatever its case and its whitespace."""

    def __init__(self, hits: dict[str, list[SearchHit]]) -> None:
        self._hits = {_matched(query): found for query, found in hits.items()}

    @classmethod
    def read(cls, path: Path) -> Self:
        """From a JSON file: an object of query to a list of URLs, or of objects with url, title and snippet.

        Raises ConfigError, which names the place.
        """
        try:
            table = orjson.loads(path.read_bytes())
        except OSError as error:
            raise ConfigError(f"{FILE_SETTING}={str(path)!r} cannot be read: {error.strerror}") from None
        except orjson.JSONDecodeError as error:
            raise ConfigError(f"{FILE_SETTING}={str(path)!r} is not JSON: {error}") from None
        try:
            return cls(_checked(table))
        except _WrongFile as error:
            raise ConfigError(f"{FILE_SETTING}={str(path)!r}: {error}") from None

    async def search(self, query: str, limit: int) -> list[SearchHit]:
        """See SearchProvider."""
        return self._hits.get(_matched(query), [])[:limit]

    async def close(self) -> None:
        """Nothing is open."""


class _WrongFile(Exception):
    """What the file holds is not such a table."""


def _matched(query: str) -> str:
    return " ".join(query.split()).casefold()


def _checked(table: Any) -> dict[str, list[SearchHit]]:
    if not isinstance(table, dict):
        raise _WrongFile(f"want an object of query to a list of URLs, got {_shown(table)}")
    hits: dict[str, list[SearchHit]] = {}
    seen: dict[str, str] = {}
    for query, items in table.items():
        first = seen.setdefault(_matched(query), query)
        if first is not query:
            raise _WrongFile(f"the queries {first!r} and {query!r} are the same but for case and whitespace")
        if not isinstance(items, list):
            raise _WrongFile(f"{query!r}: want a list, got {_shown(items)}")
        hits[query] = list(_ranked(_hit(item, f"{query!r}[{at}]") for at, item in enumerate(items)))
    return hits


def _hit(item: Any, place: str) -> SearchHit:
    if isinstance(item, str):
        item = {"url": item}
    if not isinstance(item, dict):
        raise _WrongFile(f"{place}: want a URL or an object with url, title and snippet, got {_shown(item)}")
    if unknown := item.keys() - ITEM_FIELDS:
        raise _WrongFile(f"{place}.{min(unknown)}: there is no such field; there are url, title and snippet")
    for name in sorted(ITEM_FIELDS):
        if not isinstance(item.get(name, ""), str):
            raise _WrongFile(f"{place}.{name}: want a string, got {_shown(item[name])}")
    if not item.get("url"):
        raise _WrongFile(f"{place}.url: want a URL, there is none")
    return SearchHit(0, item["url"], item.get("title", ""), item.get("snippet", ""))


def _ranked(hits: Iterable[SearchHit]) -> Iterator[SearchHit]:
    """Number *hits*; one whose URL came before is left out."""
    by_url: dict[str, SearchHit] = {}
    for hit in hits:
        by_url.setdefault(hit.url, hit)
    for rank, hit in enumerate(by_url.values(), 1):
        yield SearchHit(rank, hit.url, hit.title, hit.snippet)


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = orjson.dumps(value).decode()
    return text if len(text) <= 60 else text[:60] + "…"
