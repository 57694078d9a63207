"""Search in a file: a table of queries and what each of them finds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Self

import orjson

from fastmesh.crawl.search.provider import SearchHit
from fastmesh.errors import ConfigError

FILE_SETTING: Final = "SEARCH__STATIC_FILE"
ITEM_FIELDS: Final = frozenset({"url", "title", "snippet"})


class StaticSearch:
    """Answers from a table; a query is matched whatever its case and its whitespace."""

    def __init__(self, hits: dict[str, list[SearchHit]]) -> None:
        self._hits = {_matched(query): found for query, found in hits.items()}

    @classmethod
    def read(cls, path: Path) -> Self:
        """From a JSON file: an object of query to a list of URLs, or of objects with url, title and snippet.  Raises
        ConfigError, which names the place."""
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
