"""What an origin answered to one request, and the documents that were made of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastmesh.crawl.cache.freshness import Fields, Lifetime
from fastmesh.crawl.extract.extracted import Extracted
from fastmesh.crawl.extract.spec import ExtractSpec


@dataclass(slots=True, eq=False)
class Answer:
    """One answer, of a request that was sent at *asked_at_s*; it *came_at_s*, both in seconds since the epoch.

    Times, *fields* and *lifetime* are those of the last answer that confirmed it.  Its age counts from *kept_at_s* by
    this process's clock; without a *lifetime* it may not be kept.  *chosen_by* are the request's headers that Vary
    names, with their values.  *set_cookies*, which a redirect has, are for the request alone that it answers.
    """

    status: int
    location: str | None
    content_type: str | None
    fields: Fields
    body: bytes
    received_bytes: int
    came_at_s: float
    kept_at_s: float = 0.0
    lifetime: Lifetime | None = None
    asked_at_s: float = 0.0
    retry_after_s: float | None = None
    set_cookies: tuple[str, ...] = ()
    chosen_by: tuple[tuple[str, str | None], ...] = ()
    documents: dict[ExtractSpec, Extracted] = field(default_factory=dict)
