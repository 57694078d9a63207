"""What answers a query with URLs, for deepsearch.

A provider answers with what it found or raises SearchUnavailable, whatever the other side does: its answer is bounded
in bytes, in time and in number, and only what has the right type gets out.  The operator chose the endpoint, so it may
be on loopback; the URLs that it answers with are strangers' and are judged where they are fetched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


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

    async def close(self) -> None:
        """Close what is open."""
