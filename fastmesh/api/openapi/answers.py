"""The documents that requests are answered with, as types.  The tests hold every answer against its own."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from fastmesh.api.openapi.frames import (
    ApiErrorType,
    Count,
    Failure,
    Page,
    Status,
    StreamId,
    StreamType,
    SummaryFrame,
    Timestamp,
)
from fastmesh.streaming.lifecycle import State
from fastmesh.streaming.pacer import Place


class Refusal(TypedDict):
    """Why a request was refused."""

    type: ApiErrorType
    message: str
    retryable: bool
    status: Annotated[int, Field(ge=400, le=599)]
    request_id: str
    field: NotRequired[str]
    stream_id: NotRequired[StreamId]


class RefusalEnvelope(TypedDict):
    """The body of every answer that is an error."""

    error: Refusal


class IndexedPage(Page):
    """A page with its place in urls."""

    index: Count


class WholeCrawl(TypedDict):
    """A crawl as one document."""

    results: list[IndexedPage]
    error: NotRequired[Failure]
    summary: SummaryFrame


class OpenedStream(TypedDict):
    """A stream that was opened and can be read."""

    stream_id: StreamId
    stream_type: StreamType
    total_urls: Count | None
    detached: bool


class SubscriberStatus(TypedDict):
    """One reader of a stream."""

    protocol: Literal["ndjson", "sse", "websocket"]
    pacer: bool
    paused: bool
    capacity_frames: Count
    capacity_bytes: Count
    sent_seq: Count
    unread_frames: Count
    unread_bytes: Count
    sent_frames: Count
    sent_bytes: Count
    missed_frames: Count


class StreamStatus(TypedDict):
    """A stream as it is now."""

    stream_id: StreamId
    stream_type: StreamType
    request_id: str
    state: State | Literal["waiting"]
    status: Status | None
    opened_at: Timestamp
    detached: bool
    total_urls: Count | None
    successful: Count
    failed: Count
    first_seq: Count
    last_seq: Count
    kept_bytes: Count
    pacer: Place
    subscribers: list[SubscriberStatus]


class StreamList(TypedDict):
    """The caller's streams."""

    streams: list[StreamStatus]


class CancelledStream(TypedDict):
    """A stream that ends."""

    stream_id: StreamId
    status: Literal["cancelled"]


class Ticket(TypedDict):
    """Lets a browser's EventSource or WebSocket in once."""

    ticket: str
    expires_in_s: Count


class HealthReport(TypedDict):
    """How the daemon is; each dependency has its status and figures of its own."""

    status: Literal["healthy", "degraded", "unhealthy"]
    version: str
    uptime_s: Annotated[float, Field(ge=0)]
    dependencies: dict[str, dict[str, Any]]


class Alive(TypedDict):
    """The loop runs."""

    status: Literal["alive"]


class Ready(TypedDict):
    """New streams are taken."""

    status: Literal["ready"]
