"""What each route takes and answers: the table behind ``/openapi.json``.  A route without its row here stops the start,
so none can be forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from fastmesh.api.openapi import answers
from fastmesh.api.openapi.frames import Frame
from fastmesh.api.requests.bodies import CrawlRequest, DeepSearchRequest, WholeCrawlRequest
from fastmesh.api.requests.model import Strict
from fastmesh.api.requests.queries import (
    EVENT_ID_PATTERN,
    KEY_PATTERN,
    CrawlQuery,
    EventsQuery,
    FirehoseQuery,
    KeyQuery,
    Query,
)
from fastmesh.errors import (
    ApiError,
    Conflict,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    RateLimited,
    SearchUnavailable,
    ShuttingDown,
    UnsupportedMediaType,
    ValidationError,
)

NDJSON, SSE, JSON = "application/x-ndjson", "text/event-stream", "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: what it is, and its types of content with their shape; of a stream, the shape of one frame."""

    description: str
    content: Mapping[str, Any] = field(default_factory=dict)
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """What one method of a path takes and answers; what refuses every request is not repeated."""

    summary: str
    answers: Mapping[int, Answer]
    body: type[Strict] | None = None
    query: type[Query] | None = None
    headers: tuple[Mapping[str, Any], ...] = ()  # its parameters that are header fields
    refusals: tuple[type[ApiError], ...] = ()


KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "the same request with the same key joins the stream that the first one opened",
    "schema": {"type": "string", "pattern": KEY_PATTERN},
    "example": "page-1",
}
LAST_EVENT_ID: Final = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "the id of the last event that was received: the stream that it names goes on behind it",
    "schema": {"pattern": EVENT_ID_PATTERN},
    "example": f"00000-{'0' * 32}:17",
}
OVER: Final = Answer("the stream is over, and its last frame was received before")
ADMITTED: Final = (RateLimited, Overloaded, ShuttingDown)  # what keeps a new stream out
ASKED: Final = (ValidationError, NotFound, Conflict, *ADMITTED)
POSTED: Final = (ValidationError, UnsupportedMediaType, PayloadTooLarge, Conflict, *ADMITTED)


def _stream(media_type: str) -> dict[int, Answer]:
    return {200: Answer("the stream's frames", {media_type: Frame}, ("X-Stream-ID",)), 204: OVER}


def _opening(summary: str, media_type: str, body: type[Strict], *refusals: type[ApiError]) -> Operation:
    return Operation(
        summary,
        _stream(media_type),
        body=body,
        query=KeyQuery,
        headers=(KEY, LAST_EVENT_ID),
        refusals=(*POSTED, NotFound, *refusals),
    )


def _firehose(summary: str, media_type: str) -> Operation:
    return Operation(summary, _stream(media_type), None, FirehoseQuery, (KEY, LAST_EVENT_ID), ASKED)


OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    ("POST", "/crawl"): Operation(
        "A crawl as one document, in the order of its URLs, sent as it grows",
        {200: Answer("all results and the summary", {JSON: answers.WholeCrawl}, ("X-Stream-ID",))},
        body=WholeCrawlRequest,
        query=KeyQuery,
        headers=(KEY,),
        refusals=POSTED,
    ),
    ("POST", "/crawl/stream"): _opening("A crawl as NDJSON, one frame a line", NDJSON, CrawlRequest),
    ("POST", "/crawl/sse"): _opening("A crawl as server-sent events", SSE, CrawlRequest),
    ("GET", "/crawl/sse"): Operation(
        "A crawl as server-sent events, for a browser's EventSource",
        _stream(SSE),
        query=CrawlQuery,
        headers=(KEY, LAST_EVENT_ID),
        refusals=ASKED,
    ),
    ("GET", "/crawl/ws"): Operation("A WebSocket: several streams, asked for by commands", {}),
    ("POST", "/deepsearch/stream"): _opening(
        "A search and the crawl of what it finds, as NDJSON", NDJSON, DeepSearchRequest, SearchUnavailable
    ),
    ("POST", "/streams"): Operation(
        "Opens a stream that is read later",
        {
            200: Answer("the stream that this key opened before", {JSON: answers.OpenedStream}, ("Location",)),
            201: Answer("the stream that was opened", {JSON: answers.OpenedStream}, ("Location",)),
        },
        body=CrawlRequest,
        query=KeyQuery,
        headers=(KEY,),
        refusals=POSTED,
    ),
    ("GET", "/streams"): Operation(
        "The caller's streams", {200: Answer("as they are now", {JSON: answers.StreamList})}
    ),
    ("GET", "/streams/{id}"): Operation(
        "A stream: its state, its counters and its readers",
        {200: Answer("as it is now", {JSON: answers.StreamStatus})},
        refusals=(NotFound,),
    ),
    ("DELETE", "/streams/{id}"): Operation(
        "Cancels a stream",
        {200: Answer("it ends, and its readers get the summary", {JSON: answers.CancelledStream})},
        refusals=(NotFound, Conflict),
    ),
    ("GET", "/streams/{id}/events"): Operation(
        "Reads a stream, also a second time or after a break",
        {
            200: Answer(
                "its frames; as server-sent events when Accept prefers them",
                {NDJSON: Frame, SSE: Frame},
                ("X-Stream-ID",),
            ),
            204: OVER,
        },
        query=EventsQuery,
        headers=(LAST_EVENT_ID,),
        refusals=(ValidationError, NotFound),
    ),
    ("GET", "/firehose/stream"): _firehose("Made-up results as NDJSON, to measure a deployment", NDJSON),
    ("GET", "/firehose/sse"): _firehose("Made-up results as server-sent events", SSE),
    ("GET", "/firehose/ws"): Operation("A WebSocket on which a firehose runs from the start", {}, query=FirehoseQuery),
    ("POST", "/tickets"): Operation(
        "A ticket for a browser's EventSource or WebSocket",
        {201: Answer("the ticket", {JSON: answers.Ticket})},
        refusals=(ValidationError, UnsupportedMediaType, NotFound, RateLimited, PayloadTooLarge),
    ),
    ("GET", "/healthz"): Operation(
        "How the daemon is, with figures",
        {
            200: Answer("healthy or degraded", {JSON: answers.HealthReport}),
            503: Answer("unhealthy", {JSON: answers.HealthReport}),
        },
    ),
    ("GET", "/livez"): Operation("Whether the event loop runs", {200: Answer("it does", {JSON: answers.Alive})}),
    ("GET", "/readyz"): Operation(
        "Whether new streams are taken",
        {200: Answer("they are", {JSON: answers.Ready})},
        refusals=(Overloaded, ShuttingDown),
    ),
    ("GET", "/metrics"): Operation(
        "Figures for Prometheus",
        {
            200: Answer(
                "as text; OpenMetrics when Accept asks for it", {"text/plain": str, "application/openmetrics-text": str}
            )
        },
    ),
    ("GET", "/openapi.json"): Operation("This document", {200: Answer("OpenAPI 3.1", {JSON: dict[str, Any]})}),
}
