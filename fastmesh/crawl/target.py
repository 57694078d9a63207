"""One URL of a batch, as it was asked for."""

from __future__ import annotations

from dataclasses import dataclass

from fastmesh.crawl.options import CrawlOptions


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, how it is fetched, and the name that its client has for it.

    Targets that are fetched in the same way share one *options*.
    """

    url: str
    options: CrawlOptions
    id: str | None = None
