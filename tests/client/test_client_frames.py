"""Frames, their numbers, and how long is waited: the machines of the client."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import FRAMES, STREAM, encoded, gap, heartbeat, metadata, result, summary

from fastmesh.client import (
    Completion,
    Document,
    Error,
    Frame,
    Gap,
    Heartbeat,
    Link,
    Media,
    Metadata,
    Page,
    PageError,
    Progress,
    ProtocolViolation,
    Result,
    Retry,
    Search,
    SearchResult,
    StreamFailure,
    Summary,
)
from fastmesh.client.decode import read_frame
from fastmesh.client.sequence import Sequence
from fastmesh.events import PageResult, error_event, heartbeat_event, metadata_event, result_event, summary_event


def read(frame: Any) -> Frame:
    return read_frame(encoded(frame))


COMMON: dict[str, Any] = {"stream_id": STREAM, "raw": {}, "json": b""}


class TestFrames:
    @pytest.mark.parametrize(
        ("frame", "wanted"),
        [
            (metadata(), Metadata(type="metadata", seq=1, request_id="r", timestamp="2026-01-01T00:00:00Z",
                                  stream_type="crawl", total_urls=2, **COMMON)),
            (metadata() | {"total_urls": None}, Metadata(type="metadata", seq=1, request_id="r", total_urls=None,
                                                         timestamp="2026-01-01T00:00:00Z", stream_type="crawl",
                                                         **COMMON)),
            ({"type": "search", "stream_id": STREAM, "seq": 2, "query": "q", "urls_found": 1, "search_time_ms": 1.5,
              "results": [{"rank": 1, "url": "u", "title": "t", "snippet": "s", "more": 1}]},
             Search(type="search", seq=2, query="q", urls_found=1, search_time_ms=1.5,
                    results=(SearchResult(1, "u", "t", "s"),), **COMMON)),
            (result(3, failed=True),
             Result(type="result", seq=3, index=1, progress=Completion(2, 2, 1.0), **COMMON,
                    result=Page("http://x/3", 0, False, 1.0, 1, 1, error=PageError("dns", "no such name", True)))),
            ({"type": "error", "stream_id": STREAM, "seq": 2,
              "error": {"type": "internal", "message": "m", "retryable": False}},
             Error(type="error", seq=2, error=StreamFailure("internal", "m", False), **COMMON)),
            (summary(4, failed=1) | {"unfinished": [[0, 1], [3, 3]]},
             Summary(type="summary", seq=4, status="completed", total_urls=2, successful=1, failed=1, cancelled=0,
                     unfinished=((0, 1), (3, 3)), from_cache=0, total_processing_time_ms=5.0, cache_hit_rate=0.0,
                     throughput_per_second=1.0, **COMMON)),
            (gap(2, 3), Gap(type="gap", from_seq=2, to_seq=3, reason="slow_client", **COMMON)),
            ({"type": "progress", "stream_id": STREAM, "items_completed": 5, "items_total": 11},
             Progress(type="progress", items_completed=5, items_total=11, **COMMON)),
            (heartbeat(), Heartbeat(type="heartbeat", timestamp="2026-01-01T00:00:00Z", **COMMON)),
            ({"type": "novelty", "stream_id": STREAM, "seq": 9, "x": []}, Frame(type="novelty", seq=9, **COMMON)),
        ],
    )  # fmt: skip
    def test_every_type_is_read(self, frame: dict[str, Any], wanted: Frame) -> None:
        read_back = read(frame)
        assert read_back == wanted
        assert type(read_back) is type(wanted)
        assert read_back.raw == frame
        assert read_back.json == encoded(frame)
        assert hash(read_back) == hash(wanted)

    def test_a_document_is_read_with_all_its_parts(self) -> None:
        frame = result(2)
        frame["result"]["document"] |= {
            "links": [{"url": "u", "text": "t", "rel": None}],
            "media": [{"type": "image", "url": "u", "alt": "a"}],
            "truncated": True, "reading_time_min": 2, "later": "more",
        }  # fmt: skip
        page = read(frame)
        assert isinstance(page, Result)
        assert page.result.document == Document(
            1, 2.0, title="é", text="w", links=(Link("u", "t"),), media=(Media("image", "u", "a"),), truncated=True
        )
        assert page.raw["result"]["document"]["later"] == "more"

    def test_what_the_daemon_builds_is_read(self) -> None:
        done = PageResult(url="u", status=200, document=b'{"word_count":1,"reading_time_min":1}')
        made = [
            metadata_event("s", "r", "crawl", 1),
            result_event("s", 0, done, 1, 1, 1),
            error_event("s", "internal", "m", False),
            summary_event("s", "completed", 1, 1, 0, [], 0, 1.0),
            heartbeat_event("s"),
        ]
        done.document = None
        kinds = [Metadata, Result, Error, Summary, Heartbeat]
        for event, kind in zip(made, kinds, strict=True):
            if kind is Result:
                event["result"]["document"] = {"word_count": 1, "reading_time_min": 1}
            assert type(read(event)) is kind

    @given(st.dictionaries(st.text().filter(lambda name: name not in metadata()), st.text() | st.integers(0, 9)))
    def test_unknown_fields_never_matter(self, more: dict[str, Any]) -> None:
        assert read(more | metadata()) == read(metadata())

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (b"", "not JSON"),
            (b"{", "not JSON"),
            (b'{"type": NaN}', "not JSON"),
            (b"\xff", "not JSON"),
            (b"[]", "not a JSON object"),
            (b"5", "not a JSON object"),
            (b"{}", "type is missing"),
            (b'{"type": 5, "stream_id": "s"}', "type is of a wrong type"),
            (b'{"type": "x"}', "stream_id is missing"),
            (b'{"type": "x", "stream_id": "s", "seq": true}', "seq is of a wrong type"),
            (b'{"type": "x", "stream_id": "s", "seq": 1.0}', "seq is of a wrong type"),
            (b'{"type": "gap", "stream_id": "s", "from_seq": 1, "to_seq": "2"}', "gap frame: to_seq"),
        ],
    )
    def test_what_is_no_frame_is_named(self, data: bytes, words: str) -> None:
        with pytest.raises(ProtocolViolation) as error:
            read_frame(data)
        assert words in str(error.value)

    def test_a_wrong_part_is_named_by_its_place(self) -> None:
        frame = result(2)
        frame["result"]["document"]["links"] = [{"url": "u", "text": "t"}, {"url": 5, "text": "t"}]
        with pytest.raises(ProtocolViolation, match=r"result frame: result\.document\.links\[1\]\.url is of a wrong"):
            read(frame)
        del frame["result"]["status"]
        with pytest.raises(ProtocolViolation, match=r"result frame: result\.status is missing"):
            read(frame)


class TestSequence:
    def taken(self, *frames: dict[str, Any], after: int = 0) -> Sequence:
        sequence = Sequence(STREAM if after else None, after)
        for frame in frames:
            sequence.take(read(frame))
        return sequence

    def test_a_whole_stream(self) -> None:
        sequence = self.taken(*FRAMES)
        assert (sequence.stream_id, sequence.position, sequence.complete) == (STREAM, 4, True)

    def test_frames_without_number_change_nothing(self) -> None:
        assert self.taken(metadata(), heartbeat(), result(2), heartbeat()).position == 2

    def test_gaps_count_as_what_they_name(self) -> None:
        assert self.taken(metadata(), gap(2, 5), gap(6, 6), result(7)).position == 7
        assert self.taken(gap(6, 9), result(10), after=5).position == 10

    @pytest.mark.parametrize(
        ("frames", "after", "words"),
        [
            ([result(2)], 0, "frames 1 to 1 are missing before a result frame with seq 2"),
            ([metadata(), result(3)], 0, "frames 2 to 2 are missing"),
            ([metadata(), metadata()], 0, "a metadata frame with seq 1 came again"),
            ([metadata(), result(2), result(2)], 0, "came again"),
            ([metadata(), gap(2, 5), result(4)], 0, "came again, or too late: 5 was before it"),
            ([metadata(), gap(3, 5)], 0, "frames 2 to 2 are missing before a gap"),
            ([metadata(), gap(1, 5)], 0, "a gap with seq 1 came again"),
            ([metadata(), gap(2, 1)], 0, "a gap from 2 to 1"),
            ([metadata(), gap(2, 5), result(7)], 0, "frames 6 to 6 are missing"),
            ([result(5)], 5, "came again"),
            ([result(7)], 5, "frames 6 to 6 are missing"),
            ([metadata()], 5, "came again"),
            ([result(2) | {"seq": 1}], 0, "frame 1 is of type result"),
            ([metadata(), metadata() | {"seq": 2}], 0, "frame 2 is of type metadata"),
            ([metadata() | {"seq": None}], 0, "seq is of a wrong type|no seq"),
            ([metadata(), result(2) | {"stream_id": "other"}], 0, "a frame of stream 'other' came in stream"),
            ([metadata(), summary(2), result(3)], 0, "a result frame came after the summary"),
            ([metadata(), summary(2), gap(3, 4)], 0, "a gap frame came after the summary"),
            ([metadata(stream_id="../x")], 0, "is no stream id"),
            ([metadata(stream_id="..")], 0, "is no stream id"),
            ([metadata(stream_id="a\nb")], 0, "is no stream id"),
            ([metadata(stream_id="")], 0, "is no stream id"),
        ],
    )  # fmt: skip
    def test_what_cannot_come_is_named(self, frames: list[dict[str, Any]], after: int, words: str) -> None:
        with pytest.raises(ProtocolViolation, match=words):
            self.taken(*frames, after=after)

    @given(st.lists(st.integers(1, 4), max_size=6))
    def test_only_the_numbers_in_their_order_pass(self, order: list[int]) -> None:
        frames = {1: metadata(), 2: result(2), 3: result(3), 4: summary(4)}
        right = order == list(range(1, len(order) + 1))
        try:
            self.taken(*(frames[seq] for seq in order))
        except ProtocolViolation:
            assert not right
        else:
            assert right


class TestRetry:
    def test_waits_double_up_to_the_cap_and_chance_halves_them_at_most(self) -> None:
        retry = Retry(attempts=100, base_s=1, cap_s=10)
        assert [retry.wait_s(failures, 0) for failures in range(1, 8)] == [1, 2, 4, 8, 10, 10, 10]
        assert [retry.wait_s(failures, 1) for failures in range(1, 8)] == [0.5, 1, 2, 4, 5, 5, 5]
        assert Retry(attempts=10_000).wait_s(9_999, 0) == 10

    def test_it_gives_up_after_so_many_attempts(self) -> None:
        assert Retry(attempts=1).wait_s(1, 0) is None
        assert Retry(attempts=3).wait_s(2, 0) is not None
        assert Retry(attempts=3).wait_s(3, 0) is None

    def test_what_the_server_asks_is_the_least_and_bounded(self) -> None:
        assert Retry().wait_s(1, 0.5, 7) == 7
        assert Retry().wait_s(8 - 1, 0, 7) == 10
        assert Retry(max_wait_s=30).wait_s(1, 0, 30) == 30
        assert Retry(max_wait_s=30).wait_s(1, 0, 31) is None

    @pytest.mark.parametrize("wrong", [{"attempts": 0}, {"base_s": -1}, {"cap_s": -1}, {"max_wait_s": -1}])
    def test_nonsense_is_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="want attempts"):
            Retry(**wrong)


def test_the_scripted_frames_are_json() -> None:
    assert [json.loads(encoded(frame)) for frame in FRAMES] == FRAMES
