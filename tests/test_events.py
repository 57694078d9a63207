"""Frames as docs/protocol.md has them: exactly these fields, and sums that hold."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmesh import events
from fastmesh.errors import FetchTimeout, UrlError
from fastmesh.events import PageResult

RESULT_FIELDS = """url final_url status content_type from_cache fetched_at gate_decision quality_score
    processing_time_ms attempts bytes cache_key document error""".split()
SUMMARY_FIELDS = """type stream_id seq status total_urls successful failed cancelled unfinished from_cache
    total_processing_time_ms cache_hit_rate throughput_per_second""".split()


def sent(event: events.Event) -> events.Event:
    """*event* as a client reads it."""
    frame = orjson.loads(orjson.dumps(event))
    assert isinstance(frame, dict)
    return frame


def url_errors(kind: type[UrlError] = UrlError) -> list[type[UrlError]]:
    return [kind, *(deeper for child in kind.__subclasses__() for deeper in url_errors(child))]


@given(st.floats(0, 4_102_444_800))
def test_a_timestamp_is_rfc_3339_to_the_millisecond_below(at: float) -> None:
    text = events.rfc3339(at)
    assert len(text) == len("2026-01-01T00:00:00.000Z")
    read = datetime.fromisoformat(text)
    assert read.tzinfo == UTC
    assert 0 <= at - read.timestamp() < 0.001 + 1e-6


def test_metadata_has_its_fields() -> None:
    frame = sent(events.metadata_event("s", "r", "crawl", None))
    datetime.fromisoformat(frame.pop("timestamp"))
    assert frame == {
        "type": "metadata",
        "stream_id": "s",
        "seq": 0,
        "request_id": "r",
        "stream_type": "crawl",
        "total_urls": None,
    }


def test_a_page_that_was_read_has_a_document_and_no_error() -> None:
    page = PageResult(
        url="http://a/", final_url="http://a/b", status=200, content_type="text/html",
        fetched_at="2026-01-01T00:00:00.000Z", processing_time_ms=1.5, attempts=1, body_bytes=7,
        document=b'{"title":"A \\"page\\"\\n"}', gate_decision="raw", quality_score=0.625,
    )  # fmt: skip
    frame = sent(events.result_event("s", 4, page, 3, 9, 2))
    assert frame == {
        "type": "result",
        "stream_id": "s",
        "seq": 0,
        "index": 4,
        "result": {
            "url": "http://a/",
            "final_url": "http://a/b",
            "status": 200,
            "content_type": "text/html",
            "from_cache": False,
            "fetched_at": "2026-01-01T00:00:00.000Z",
            "gate_decision": "raw",
            "quality_score": 0.625,
            "processing_time_ms": 1.5,
            "attempts": 1,
            "bytes": 7,
            "cache_key": None,
            "document": {"title": 'A "page"\n'},
            "error": None,
        },
        "progress": {"completed": 3, "total": 9, "success_rate": 0.6667},
    }
    assert list(frame["result"]) == RESULT_FIELDS


def test_a_page_that_failed_has_an_error_and_no_document() -> None:
    result = sent(events.result_event("s", 0, PageResult(url="u", error=FetchTimeout("too slow")), 1, 1, 0))["result"]
    assert list(result) == RESULT_FIELDS
    assert (result["document"], result["status"]) == (None, 0)
    assert (result["gate_decision"], result["quality_score"]) == ("failed", None)
    assert result["error"] == {"type": "timeout", "message": "too slow", "retryable": True}


@given(url=st.text(), text=st.text())
def test_a_frame_is_one_line_and_the_url_is_the_input_exactly(url: str, text: str) -> None:
    page = PageResult(url=url, document=orjson.dumps({"text": text}))
    line = orjson.dumps(events.result_event("s", 0, page, 1, 1, 1))
    assert b"\n" not in line
    assert b"\r" not in line
    result = orjson.loads(line)["result"]
    assert (result["url"], result["document"]["text"]) == (url, text)


@given(
    total=st.integers(0, 10**9),
    data=st.data(),
    took_ms=st.one_of(st.just(0.0), st.floats(1e-3, 1e9)),
    status=st.sampled_from(["completed", "cancelled", "deadline", "failed", "shutdown"]),
)
def test_a_summary_adds_up(total: int, data: st.DataObject, took_ms: float, status: str) -> None:
    successful = data.draw(st.integers(0, total))
    failed = data.draw(st.integers(0, total - successful))
    frame = sent(events.summary_event("s", status, total, successful, failed, [[0, 1]], 0, took_ms))
    assert list(frame) == SUMMARY_FIELDS
    assert frame["successful"] + frame["failed"] + frame["cancelled"] == frame["total_urls"] == total
    assert (frame["status"], frame["unfinished"]) == (status, [[0, 1]])
    expected = (successful + failed) / (took_ms / 1000) if took_ms else 0.0
    assert frame["throughput_per_second"] == pytest.approx(expected, rel=1e-12, abs=0.001)


def test_an_error_frame_has_its_fields() -> None:
    assert events.error_event("s", "internal_error", "a fault", False) == {
        "type": "error",
        "stream_id": "s",
        "seq": 0,
        "error": {"type": "internal_error", "message": "a fault", "retryable": False},
    }


def test_a_heartbeat_has_no_seq() -> None:
    frame = sent(events.heartbeat_event("s"))
    assert list(frame) == ["type", "stream_id", "timestamp"]


def test_progress_estimates_the_end_by_the_pace_so_far() -> None:
    begun = time.time() - 10
    frame = sent(events.progress_event("s", "crawl", begun, "active", 5, 20, "u"))
    assert (frame["progress_percentage"], frame["items_completed"], frame["items_total"]) == (25.0, 5, 20)
    assert frame["started_at"] == events.rfc3339(begun)
    left = datetime.fromisoformat(frame["estimated_completion"]).timestamp() - begun
    assert left == pytest.approx(40, abs=1)


def test_every_frame_type_is_listed() -> None:
    made = [
        events.metadata_event("s", "r", "crawl", 1),
        events.search_event("s", "q", [], 1.0),
        events.result_event("s", 0, PageResult(url="u"), 1, 1, 1),
        events.error_event("s", "t", "m", False),
        events.summary_event("s", "completed", 1, 1, 0, [], 0, 1.0),
        events.gap_event("s", 2, 3, "expired"),
        events.progress_event("s", "crawl", 0.0, "active", 5, 20, "u"),
        events.heartbeat_event("s"),
    ]
    assert tuple(event["type"] for event in made) == events.FRAME_TYPES


def test_what_is_retryable_is_what_the_contract_says() -> None:
    """http_status depends on the status and is told by its object."""
    kinds = {kind.type: kind.retryable for kind in url_errors() if kind.type != "http_status"}
    allowed = """invalid_url blocked_address dns connect tls timeout http_status too_many_redirects too_large
        bad_response unsupported_content robots decode extract cache_miss internal""".split()
    assert kinds.keys() <= set(allowed)
    assert {name for name, retryable in kinds.items() if retryable} == {"dns", "connect", "timeout"}
