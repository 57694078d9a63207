"""Bodies and queries: what is taken, and what is refused by its name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from daemons import Daemon
from hypothesis import given
from hypothesis import strategies as st

from fastmesh.api.schema import CrawlRequest, FirehoseQuery, read_body, read_query
from fastmesh.errors import ValidationError

JSON = "application/json"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "urls"),
        ({"urls": []}, "urls"),
        ({"urls": "x"}, "urls"),
        ({"urls": [1]}, "urls.0"),
        ({"urls": ["x", None]}, "urls.1"),
        ({"urls": ["x"], "url": "x"}, "url"),
        ({"urls": ["x"], "options": None}, "options"),
        ({"urls": ["x"], "options": {"concurrency": 0}}, "options.concurrency"),
        ({"urls": ["x"], "options": {"concurrency": 257}}, "options.concurrency"),
        ({"urls": ["x"], "options": {"concurrency": "16"}}, "options.concurrency"),
        ({"urls": ["x"], "options": {"concurrency": True}}, "options.concurrency"),
        ({"urls": ["x"], "options": {"concurrency": 1.5}}, "options.concurrency"),
        ({"urls": ["x"], "options": {"timeout_ms": 0}}, "options.timeout_ms"),
        ({"urls": ["x"], "options": {"timeout_ms": 15001}}, "options.timeout_ms"),
        ({"urls": ["x"], "options": {"max_body_bytes": -1}}, "options.max_body_bytes"),
        ({"urls": ["x"], "options": {"include": ["pictures"]}}, "options.include.0"),
        ({"urls": ["x"], "options": {"include": "text"}}, "options.include"),
        ({"urls": ["x"], "options": {"extractor": "best"}}, "options.extractor"),
        ({"urls": ["x"], "options": {"user_agent": "a\nb"}}, "options.user_agent"),
        ({"urls": ["x"], "options": {"headers": {"Connection": "x"}}}, "options.headers"),
        ({"urls": ["x"], "options": {"headers": {"Transfer_Encoding": "x"}}}, "options.headers"),
        ({"urls": ["x"], "options": {"headers": {"X-Tenant": "a", "x-tenant": "b"}}}, "options.headers"),
        ({"urls": [{"url": "x", "options": {"headers": {"A": "a", "a": "b"}}}]}, "urls.0.options.headers"),
        ({"urls": ["x"], "options": {"headers": {"X": 1}}}, "options.headers.X"),
        ({"urls": ["x"], "options": {"order": "size"}}, "options.order"),
        ({"urls": ["x"], "options": {"cache_mode": "sometimes"}}, "options.cache_mode"),
        ({"urls": ["x"], "options": {"cookies": True}}, "options.cookies"),
        ({"urls": ["x"], "options": {"respect_robots": "yes"}}, "options.respect_robots"),
        ({"urls": ["x"], "options": {"retries": 3}}, "options.retries"),
        ({"urls": ["x"], "options": {"dedupe": 1}}, "options.dedupe"),
        ({"urls": ["x"], "options": {"stop_after_errors": 0}}, "options.stop_after_errors"),
        ({"urls": [{"url": "x"}, {"id": "1"}]}, "urls.1.url"),
        ({"urls": [{"url": 1}]}, "urls.0.url"),
        ({"urls": [{"url": "x", "id": ""}]}, "urls.0.id"),
        ({"urls": [{"url": "x", "id": 7}]}, "urls.0.id"),
        ({"urls": [{"url": "x", "name": "y"}]}, "urls.0.name"),
        ({"urls": [{"url": "x", "options": {"order": "input"}}]}, "urls.0.options.order"),
        ({"urls": ["x", {"url": "x", "options": {"timeout_ms": 15001}}]}, "urls.1.options.timeout_ms"),
        ({"urls": ["x"], "stream": {"on_slow": "wait"}}, "stream.on_slow"),
        ({"urls": ["x"], "stream": {"detach": 1}}, "stream.detach"),
        ({"urls": ["x"], "stream": {"progress": 1}}, "stream.progress"),
        ({"urls": ["x"], "stream": {"deadline_s": 0}}, "stream.deadline_s"),
        ({"urls": ["x"], "stream": {"deadline_s": 3601}}, "stream.deadline_s"),
    ],
)
def test_a_wrong_body_is_400_with_the_path_of_the_field(daemon: Daemon, body: Any, field: str) -> None:
    answer = daemon.ask("POST", "/crawl/stream", body)
    assert answer.status == 400
    assert answer.json["error"]["type"] == "validation_error"
    assert answer.json["error"]["field"] == field
    assert answer.json["error"]["message"].startswith(field)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b"\xff",
        b'{"urls": ["\\ud800"]}',
        b"\xef\xbb\xbf{}",
        b"NaN",
        b"[]",
        b"null",
        b'"x"',
        b"1e400",
    ],
)
def test_what_is_no_object_of_json_is_400(daemon: Daemon, body: bytes) -> None:
    answer = daemon.ask("POST", "/crawl/stream", body)
    assert (answer.status, answer.json["error"]["type"]) == (400, "validation_error")


@pytest.mark.parametrize(("name", "value"), [("Idempotency-Key", "a b"), ("Last-Event-ID", "abc")])
def test_a_broken_key_or_event_id_is_refused_by_name(daemon: Daemon, name: str, value: str) -> None:
    answer = daemon.ask("POST", "/crawl/stream", {"urls": ["x"]}, **{name: value})
    assert (answer.status, answer.json["error"]["field"]) == (400, name)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("frames=0", "frames"), ("frames=1000000001", "frames"), ("frames=x", "frames"), ("frames=1.5", "frames"),
        ("bytes=699", "bytes"), ("bytes=9999999", "bytes"), ("rate=0", "rate"), ("rate=-1", "rate"),
        ("rate=nan", "rate"), ("rate=inf", "rate"), ("frames=1&frames=2", "frames"), ("colour=red", "colour"),
        ("frames=", "frames"),
    ],
)  # fmt: skip
def test_a_wrong_query_is_400_with_the_name(daemon: Daemon, query: str, field: str) -> None:
    answer = daemon.ask("GET", f"/firehose/stream?{query}")
    assert (answer.status, answer.json["error"]["field"]) == (400, field)


def test_a_fractional_rate(daemon: Daemon) -> None:
    assert daemon.ask("GET", "/firehose/stream?frames=2&rate=12.5").frames[-1]["successful"] == 2


SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5)
KEYS = st.sampled_from(["urls", "options", "stream", "concurrency", "headers", "x"])


@given(
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
        max_leaves=12,
    )
)
def test_any_json_is_a_request_or_a_refusal(value: Any) -> None:
    try:
        request = read_body(CrawlRequest, JSON, json.dumps(value).encode())
    except ValidationError:
        return
    assert request.urls


@given(st.lists(st.tuples(st.sampled_from(["frames", "bytes", "rate", "x"]), st.text(max_size=6)), max_size=4))
def test_any_query_is_a_request_or_a_refusal(pairs: list[tuple[str, str]]) -> None:
    try:
        query = read_query(FirehoseQuery, pairs)
    except ValidationError:
        return
    assert query.frames >= 1


def test_the_input_string_comes_back_exactly(daemon: Daemon) -> None:
    urls = ["", " ", "\u0000", "http://", "HTTP://EXAMPLE.invalid/ ", "\u202e", "x" * 5000, "http://user:pw@h/"]
    frames = daemon.crawl(*urls)
    assert [frame["result"]["url"] for frame in sorted(frames[1:-1], key=lambda f: f["index"])] == urls
    assert frames[-1]["failed"] == len(urls)
