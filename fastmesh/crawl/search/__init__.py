"""From a query to URLs, by the search provider that the settings name."""

from __future__ import annotations

from pathlib import Path

from fastmesh.config import Settings
from fastmesh.crawl.search.provider import SearchProvider
from fastmesh.crawl.search.searxng import SearxngSearch
from fastmesh.crawl.search.static import StaticSearch


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
