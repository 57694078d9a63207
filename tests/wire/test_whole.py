"""A stream as one JSON document."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmesh._core import Batch
from fastmesh.errors import FetchTimeout
from fastmesh.events import PageResult, error_event, metadata_event, result_event, summary_event
from fastmesh.wire.encoders import WholeEncoder

TRICKY = '"result":{ ,"progress":{ "index":9 }],"error":{ \u2028 é'


def frames(texts: list[str], *, fails: bool) -> list[dict[str, Any]]:
    pages = [PageResult(TRICKY, document=orjson.dumps({"text": text, "progress": {"a": 1}})) for text in texts]
    if texts:
        pages[0].document, pages[0].error, pages[0].id = None, FetchTimeout(TRICKY), TRICKY
    events = [metadata_event("s", "r", "crawl", len(texts))]
    events += [result_event("s", at, page, at + 1, len(texts), at) for at, page in enumerate(pages)]
    if fails:
        events.append(error_event("s", "too_many_errors", TRICKY, retryable=False))
    events.append(summary_event("s", "completed", len(texts), len(texts), 0, [], 0, 5.0))
    return events


def unchunked(data: bytes) -> bytes:
    text = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        text, data = text + data[: int(size, 16)], data[int(size, 16) + 2 :]
        if size == b"0":
            assert not data
            return text
    raise AssertionError("there is no last chunk")


@given(
    texts=st.lists(st.text(max_size=20), max_size=5),
    fails=st.booleans(),
    chunked=st.booleans(),
    cuts=st.lists(st.integers(1, 3), min_size=9, max_size=9),
    beats=st.booleans(),
)
def test_the_document_is_the_stream_wherever_its_batches_are_cut(
    texts: list[str], fails: bool, chunked: bool, cuts: list[int], beats: bool
) -> None:
    encoder = WholeEncoder(chunked=chunked)
    events = frames(texts, fails=fails)
    lines = [orjson.dumps({**event, "seq": at}) for at, event in enumerate(events, 1)]
    data, at = encoder.begin(), 0
    for cut in cuts:
        data += encoder.frame(Batch(lines[at : at + cut]), b"s", at + 1)
        at += cut
        if beats and at < len(lines):
            data += encoder.heartbeat(b"{}")
    data += encoder.frame(Batch(lines[at:]), b"s", at + 1) + encoder.end()
    document = json.loads(unchunked(data) if chunked else data)
    expected = {
        "results": [{"index": event["index"], **told(event["result"])} for event in events if "index" in event],
        "summary": {**events[-1], "seq": len(events)},
    }
    if fails:
        expected["error"] = events[-2]["error"]
    assert document == expected


def told(result: dict[str, Any]) -> Any:
    return json.loads(orjson.dumps(result))


def test_a_batch_that_adds_nothing_is_no_chunk() -> None:
    encoder = WholeEncoder(chunked=True)
    encoder.begin()
    assert encoder.frame(Batch([orjson.dumps(metadata_event("s", "r", "crawl", 1))]), b"s", 1) == b""


def test_what_has_no_place_ends_the_answer() -> None:
    with pytest.raises(ValueError, match="no place"):
        WholeEncoder(chunked=True).note(b'{"type":"gap"}')
