"""The frames of a stream, and what a WebSocket tells one connection beside them, as types.

No frame is built by them: events.py does so, once and fast, and the tests hold every one against its type.
``/openapi.json`` and docs/frames.schema.json are made of them.  The client's own (client/frames.py) say less on
purpose: it takes what a later daemon may add.
"""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict  # typing's own cannot be read by pydantic before Python 3.12

from fastmesh.crawl.extract.document import Document
from fastmesh.errors import ApiError, UrlError, types_of
from fastmesh.streaming.lifecycle import State

StreamId = Annotated[str, Field(pattern=r"^[0-9a-f]{5}-[0-9a-f]{32}$")]
Seq = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Milliseconds = Annotated[float, Field(ge=0)]
Timestamp = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
StreamType = Literal["crawl", "deepsearch", "firehose"]
Status = Literal["completed", "cancelled", "deadline", "failed", "shutdown"]
ApiErrorType = Annotated[str, Field(json_schema_extra={"enum": [*types_of(ApiError)]})]
UrlErrorType = Annotated[str, Field(json_schema_extra={"enum": [*types_of(UrlError)]})]


class MetadataFrame(TypedDict):
    """The first frame of every stream."""

    type: Literal["metadata"]
    stream_id: StreamId
    seq: Literal[1]
    request_id: str
    timestamp: Timestamp
    stream_type: StreamType
    total_urls: Annotated[Count | None, Field(description="null while it is not known")]


class SearchHit(TypedDict):
    """One hit of a search."""

    rank: Seq
    url: str
    title: str
    snippet: str


class SearchFrame(TypedDict):
    """What a deep search found, before any of it is fetched."""

    type: Literal["search"]
    stream_id: StreamId
    seq: Seq
    query: str
    urls_found: Count
    search_time_ms: Milliseconds
    results: list[SearchHit]


class PageError(TypedDict):
    """Why a URL failed."""

    type: UrlErrorType
    message: str
    retryable: bool
    retry_after_s: NotRequired[Annotated[float, Field(ge=0)]]


class Page(TypedDict):
    """What became of one URL: a document, or an error."""

    url: Annotated[str, Field(description="the input string exactly")]
    final_url: str | None
    status: Annotated[int, Field(ge=0, le=999, description="of the last answer; 0: there was none")]
    content_type: str | None
    from_cache: bool
    fetched_at: Timestamp | None
    gate_decision: Literal["raw", "probes_first", "headless", "cached", "failed"] | None
    quality_score: Share | None
    processing_time_ms: Milliseconds
    attempts: Count
    bytes: Annotated[Count, Field(description="of the body, after decompression")]
    cache_key: str | None
    document: Annotated[Document | None, Field(description="null on failure")]
    error: Annotated[PageError | None, Field(description="null on success")]
    id: NotRequired[Annotated[str, Field(description="the client's own name for the URL")]]
    duplicate_of: NotRequired[
        Annotated[Count, Field(description="the index of the same URL, which was fetched for it")]
    ]


class Completion(TypedDict):
    """How far the stream is, this result included."""

    completed: Seq
    total: Count
    success_rate: Share


class ResultFrame(TypedDict):
    """One URL is done."""

    type: Literal["result"]
    stream_id: StreamId
    seq: Seq
    index: Annotated[Count, Field(description="its place in urls")]
    result: Page
    progress: Completion


class Failure(TypedDict):
    """Why a stream as a whole failed."""

    type: ApiErrorType
    message: str
    retryable: bool


class ErrorFrame(TypedDict):
    """The stream as a whole failed; a summary follows."""

    type: Literal["error"]
    stream_id: StreamId
    seq: Seq
    error: Failure


class SummaryFrame(TypedDict):
    """The last frame of every stream: successful + failed + cancelled = total_urls."""

    type: Literal["summary"]
    stream_id: StreamId
    seq: Seq
    status: Status
    total_urls: Count
    successful: Count
    failed: Count
    cancelled: Count
    unfinished: Annotated[
        list[Annotated[list[Count], Field(min_length=2, max_length=2)]],
        Field(description="indexes without a result, as ranges [from, to], both included"),
    ]
    from_cache: Count
    total_processing_time_ms: Milliseconds
    cache_hit_rate: Share
    throughput_per_second: Annotated[float, Field(ge=0)]


class GapFrame(TypedDict):
    """Told to one reader: these durable frames, both ends included, were not sent here."""

    type: Literal["gap"]
    stream_id: StreamId
    from_seq: Seq
    to_seq: Seq
    reason: Literal["slow_client", "expired"]


class ProgressFrame(TypedDict):
    """Told to a reader that has all there is, of a stream that asked for it."""

    type: Literal["progress"]
    stream_id: StreamId
    operation_id: Annotated[StreamId, Field(description="the stream's")]
    operation_type: StreamType
    started_at: Timestamp
    current_phase: Annotated[State | Literal["waiting"], Field(description="the stream's state")]
    progress_percentage: Annotated[float, Field(ge=0, le=100)]
    items_completed: Seq
    items_total: Seq
    estimated_completion: Annotated[Timestamp, Field(description="by the pace so far")]
    current_item: Annotated[str, Field(description="the URL that was completed last")]


class HeartbeatFrame(TypedDict):
    """Told to one reader of NDJSON that heard nothing for a while."""

    type: Literal["heartbeat"]
    stream_id: StreamId
    timestamp: Timestamp


Frame = Annotated[
    MetadataFrame | SearchFrame | ResultFrame | ErrorFrame | SummaryFrame | GapFrame | ProgressFrame | HeartbeatFrame,
    Field(discriminator="type"),
]


class Welcome(TypedDict):
    """The first message."""

    type: Literal["welcome"]
    protocol_version: Literal["fastmesh.v1"]
    session_id: str
    operations: list[str]


class Ack(TypedDict):
    """A command was carried out."""

    type: Literal["ack"]
    id: str
    stream_id: StreamId
    complete: NotRequired[Annotated[bool, Field(description="true: the stream is over, and all of it was read")]]
    cut_off: NotRequired[
        Annotated[Literal["slow_client"], Field(description="why a WebSocket that read the stream before was cut off")]
    ]


class Pong(TypedDict):
    """The answer to ping."""

    type: Literal["pong"]
    id: str


class SubscriptionStatus(TypedDict):
    """How far one subscription of the connection is."""

    stream_id: StreamId
    state: State
    last_seq: Count
    sent_seq: Count
    capacity: Count
    unread: Count
    held: bool


class StatusMessage(TypedDict):
    """The answer to status."""

    type: Literal["status"]
    id: str
    streams: list[SubscriptionStatus]


class CommandFailure(TypedDict):
    """Why a command failed."""

    type: Annotated[str, Field(json_schema_extra={"enum": [*types_of(ApiError), "slow_client"]})]
    message: str
    retryable: bool
    field: NotRequired[str]
    retry_after_s: NotRequired[Count]


class CommandError(TypedDict):
    """A command failed, or a subscription ended because its reader was too slow."""

    type: Literal["error"]
    id: NotRequired[str]
    stream_id: NotRequired[StreamId]
    error: CommandFailure


Message = Welcome | Ack | Pong | StatusMessage | CommandError
