"""The frames as a client sees them: typed, and as they came.

A frame keeps the very JSON that was received and the dict made of it.  Fields
that are not known stay in ``raw``, and an unknown type is a plain Frame: a client reads
daemons that are newer than itself, so these types are its own and not the daemon's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One hit of a search."""

    rank: int
    url: str
    title: str
    snippet: str


@dataclass(frozen=True, slots=True)
class Link:
    """One link of a page."""

    url: str
    text: str
    rel: str | None = None


@dataclass(frozen=True, slots=True)
class Media:
    """One image, or the like, of a page."""

    type: str
    url: str
    alt: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """What was extracted of a page; parts that were not asked for are None."""

    word_count: int
    reading_time_min: float
    title: str | None = None
    byline: str | None = None
    published: str | None = None
    language: str | None = None
    site_name: str | None = None
    description: str | None = None
    canonical_url: str | None = None
    text: str | None = None
    markdown: str | None = None
    html: str | None = None
    links: tuple[Link, ...] | None = None
    media: tuple[Media, ...] | None = None
    needs_js: bool = False
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class PageError:
    """Why a URL failed."""

    type: str
    message: str
    retryable: bool
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """What became of one URL: a document, or an error."""

    url: str
    status: int
    from_cache: bool
    processing_time_ms: float
    attempts: int
    bytes: int
    final_url: str | None = None
    content_type: str | None = None
    fetched_at: str | None = None
    gate_decision: str | None = None
    quality_score: float | None = None
    cache_key: str | None = None
    document: Document | None = None
    error: PageError | None = None
    id: str | None = None
    duplicate_of: int | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """How far the stream is, this result included."""

    completed: int
    total: int
    success_rate: float


@dataclass(frozen=True, slots=True)
class StreamFailure:
    """Why a stream as a whole failed."""

    type: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Any frame.  *seq* is None for what was told to this reader alone.  *raw* is the whole frame; *json* is its bytes
    as received."""

    type: str
    stream_id: str
    seq: int | None = None
    raw: Mapping[str, Any] = field(repr=False, compare=False)
    json: bytes = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata(Frame):
    """The first frame; *total_urls* is None while it is unknown."""

    request_id: str
    timestamp: str
    stream_type: str
    total_urls: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Search(Frame):
    """What a deepsearch found."""

    query: str
    urls_found: int
    search_time_ms: float
    results: tuple[SearchResult, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(Frame):
    """One URL is done; *index* is its place among the URLs that were asked for."""

    index: int
    result: Page
    progress: Completion


@dataclass(frozen=True, slots=True, kw_only=True)
class Error(Frame):
    """The stream as a whole failed; a summary follows."""

    error: StreamFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary(Frame):
    """The last frame; successful + failed + cancelled = total_urls."""

    status: str
    total_urls: int
    successful: int
    failed: int
    cancelled: int
    unfinished: tuple[tuple[int, ...], ...]
    from_cache: int
    total_processing_time_ms: float
    cache_hit_rate: float
    throughput_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap(Frame):
    """The frames *from_seq* to *to_seq*, both included, were not sent here."""

    from_seq: int
    to_seq: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(Frame):
    """How far the whole operation is; only when it was asked for."""

    operation_id: str | None = None
    operation_type: str | None = None
    started_at: str | None = None
    current_phase: str | None = None
    progress_percentage: float | None = None
    items_completed: int | None = None
    items_total: int | None = None
    current_item: str | None = None
    estimated_completion: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat(Frame):
    """The stream is alive."""

    timestamp: str


KINDS: Final[Mapping[str, type[Frame]]] = {
    kind.__name__.lower(): kind for kind in (Metadata, Search, Result, Error, Summary, Gap, Progress, Heartbeat)
}
