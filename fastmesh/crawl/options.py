"""What a request may choose about how its URLs are fetched and extracted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from fastmesh.crawl.extract.spec import ExtractSpec

CacheMode = Literal["read_through", "bypass", "refresh", "cache_only"]
CookieMode = Literal["redirects", "none"]
NO_DOCUMENT: Final = ExtractSpec(max_bytes=0)  # of what is fetched and not extracted: robots.txt


@dataclass(frozen=True, slots=True)
class CrawlOptions:
    """One request's choices, already held within the settings' limits.

    *timeout_ms* and *max_body_bytes* bound each URL, *retries* how often it is tried again;
    *document* says what is extracted.  *cache_mode* is docs/protocol.md's; *max_age_s* is how old what the cache has
    may be.  *cookies* says whether what a redirect sets is given back while it is followed.
    A larger body is an error unless it may be cut; *max_redirects* stands for the setting.
    """

    timeout_ms: float
    max_body_bytes: int
    user_agent: str
    max_frame_bytes: int
    retries: int = 0
    respect_robots: bool = False
    cut_body: bool = False
    max_redirects: int | None = None
    cache_mode: CacheMode = "bypass"
    max_age_s: float | None = None
    cookies: CookieMode = "redirects"
    document: ExtractSpec = NO_DOCUMENT
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def sent_user_agent(self) -> str:
        """What origins read: a header of the request's own wins."""
        return next((value for name, value in self.headers.items() if name.lower() == "user-agent"), self.user_agent)


@dataclass(frozen=True, slots=True)
class InputUrl:
    """A URL, how it is fetched, and the name that its client has for it.  Those that are fetched in the same way share
    one *options*."""

    url: str
    options: CrawlOptions
    id: str | None = None
