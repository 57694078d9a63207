"""The frames that a stream is made of (docs/protocol.md, *Frames*), as plain dicts.

A builder leaves ``seq`` at 0: the journal gives the number when it appends.  This is the only place where frames are
built; the firehose uses the same ``result_event`` as a crawl.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

from orjson import Fragment

from fastmesh.errors import UrlError

Event = dict[str, Any]

FRAME_TYPES: Final = ("metadata", "search", "result", "error", "summary", "gap", "progress", "heartbeat")


@dataclass(slots=True)
class PageResult:
    """What became of one URL.  ``document`` is JSON that an extraction worker encoded; None on failure.  The frame of a
    failed URL has the gate decision ``failed``, whatever ``gate_decision`` is."""

    url: str
    final_url: str | None = None
    status: int = 0
    content_type: str | None = None
    fetched_at: str | None = None
    processing_time_ms: float = 0.0
    attempts: int = 0
    body_bytes: int = 0
    from_cache: bool = False
    cache_key: str | None = None
    document: bytes | None = None
    gate_decision: str | None = None
    quality_score: float | None = None
    error: UrlError | None = None
    id: str | None = None  # the client's own name for it
    duplicate_of: int | None = None  # the index at which the same URL was fetched


def rfc3339(at: float | None = None) -> str:
    """Seconds since the epoch (now, by default) as RFC 3339 in UTC, to the millisecond."""
    at = time.time() if at is None else at
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(at))}.{int(at % 1 * 1000):03d}Z"


def metadata_event(stream_id: str, request_id: str, stream_type: str, total_urls: int | None) -> Event:
    """The first frame of every stream."""
    return {
        "type": "metadata",
        "stream_id": stream_id,
        "seq": 0,
        "request_id": request_id,
        "timestamp": rfc3339(),
        "stream_type": stream_type,
        "total_urls": total_urls,
    }


def search_event(stream_id: str, query: str, results: list[dict[str, Any]], took_ms: float) -> Event:
    """What a search found, before any of it is fetched."""
    return {
        "type": "search",
        "stream_id": stream_id,
        "seq": 0,
        "query": query,
        "urls_found": len(results),
        "search_time_ms": round(took_ms, 2),
        "results": results,
    }


def result_event(stream_id: str, index: int, page: PageResult, completed: int, total: int, successful: int) -> Event:
    """One URL's result; *completed* counts it already."""
    document = page.document
    error = page.error
    event: Event = {
        "type": "result",
        "stream_id": stream_id,
        "seq": 0,
        "index": index,
        "result": {
            "url": page.url,
            "final_url": page.final_url,
            "status": page.status,
            "content_type": page.content_type,
            "from_cache": page.from_cache,
            "fetched_at": page.fetched_at,
            "gate_decision": page.gate_decision if error is None else "failed",
            "quality_score": page.quality_score if error is None else None,
            "processing_time_ms": page.processing_time_ms,
            "attempts": page.attempts,
            "bytes": page.body_bytes,
            "cache_key": page.cache_key,
            "document": None if document is None else Fragment(document),
            "error": None if error is None else error.as_json(),
        },
        "progress": {"completed": completed, "total": total, "success_rate": round(successful / completed, 4)},
    }
    if page.id is not None:
        event["result"]["id"] = page.id
    if page.duplicate_of is not None:
        event["result"]["duplicate_of"] = page.duplicate_of
    return event


def error_event(stream_id: str, type_: str, message: str, retryable: bool) -> Event:
    """The stream as a whole failed; a summary follows."""
    error = {"type": type_, "message": message, "retryable": retryable}
    return {"type": "error", "stream_id": stream_id, "seq": 0, "error": error}


def summary_event(
    stream_id: str,
    status: str,
    total_urls: int,
    successful: int,
    failed: int,
    unfinished: list[list[int]],
    from_cache: int,
    took_ms: float,
) -> Event:
    """The last frame of every stream: successful + failed + cancelled = total_urls."""
    done = successful + failed
    return {
        "type": "summary",
        "stream_id": stream_id,
        "seq": 0,
        "status": status,
        "total_urls": total_urls,
        "successful": successful,
        "failed": failed,
        "cancelled": total_urls - done,
        "unfinished": unfinished,
        "from_cache": from_cache,
        "total_processing_time_ms": round(took_ms, 1),
        "cache_hit_rate": round(from_cache / done, 4) if done else 0.0,
        "throughput_per_second": round(done / took_ms * 1000, 3) if took_ms > 0 else 0.0,
    }


def heartbeat_event(stream_id: str) -> Event:
    """For one reader that was sent nothing for a while; it has no seq and is never kept."""
    return {"type": "heartbeat", "stream_id": stream_id, "timestamp": rfc3339()}


def gap_event(stream_id: str, from_seq: int, to_seq: int, reason: str) -> Event:
    """For one reader: these durable frames were not sent here, both ends included."""
    return {"type": "gap", "stream_id": stream_id, "from_seq": from_seq, "to_seq": to_seq, "reason": reason}


def progress_event(
    stream_id: str, stream_type: str, started_at: float, phase: str, completed: int, total: int, item: str
) -> Event:
    """For each reader of a stream that was asked for progress; *item* is the URL that was completed last.  *started_at*
    is in seconds since the epoch; the end is estimated by the pace so far."""
    estimated = started_at + (time.time() - started_at) * total / completed
    return {
        "type": "progress",
        "stream_id": stream_id,
        "operation_id": stream_id,
        "operation_type": stream_type,
        "started_at": rfc3339(started_at),
        "current_phase": phase,
        "progress_percentage": round(100 * completed / total, 1),
        "items_completed": completed,
        "items_total": total,
        "estimated_completion": rfc3339(estimated),
        "current_item": item,
    }
