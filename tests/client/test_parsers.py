"""The parsers of the client: the same lines and events wherever the bytes are cut."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastmesh.client.errors import FrameTooLarge
from fastmesh.client.framing import NdjsonParser, SseEvent, SseParser


def lines_of(*parts: bytes) -> list[bytes]:
    parser = NdjsonParser()
    return [line for part in parts for line in parser.feed(part)]


def events_of(*parts: bytes) -> list[SseEvent]:
    parser = SseParser()
    return [event for part in parts for event in parser.feed(part)]


def cut_at(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(places)]


def feed_all(feed: Callable[[bytes], object], *parts: bytes) -> None:
    for part in parts:
        feed(part)


class TestNdjson:
    WHOLE = b'{"a":1}\n\n  \n{"b":"\xc3\xa9"}\r\n{}\n{"half'

    def test_lines_read_the_same_wherever_they_are_cut(self) -> None:
        lines = [b'{"a":1}', b'{"b":"\xc3\xa9"}\r', b"{}"]
        for cut in range(len(self.WHOLE) + 1):
            assert lines_of(self.WHOLE[:cut], self.WHOLE[cut:]) == lines
        assert lines_of(*(self.WHOLE[at : at + 1] for at in range(len(self.WHOLE)))) == lines

    @given(st.binary(max_size=200).map(lambda data: data.replace(b"x", b"\n")), st.lists(st.integers(0, 10_000)))
    def test_it_is_what_split_says(self, data: bytes, cuts: list[int]) -> None:
        assert lines_of(*cut_at(data, cuts)) == [line for line in data.split(b"\n")[:-1] if line.strip()]

    def test_a_line_is_bounded_wherever_it_is_cut(self) -> None:
        assert NdjsonParser(4).feed(b"1234\n1234\n1234") == [b"1234", b"1234"]
        for cut in range(7):
            parser = NdjsonParser(4)
            with pytest.raises(FrameTooLarge, match="limit of 4 bytes"):
                feed_all(parser.feed, b"12345\n"[:cut], b"12345\n"[cut:])

    def test_a_long_line_in_many_pieces_takes_linear_time(self) -> None:
        # Looking at it anew for each piece would be 5 * 10^12 bytes, which no patience outlasts.
        parser = NdjsonParser()
        for _ in range(1000):
            for _ in range(100):
                assert parser.feed(b"x" * 500) == []
        assert parser.feed(b"\n") == [b"x" * 50_000_000]


class TestSse:
    @pytest.mark.parametrize(
        ("data", "events"),
        [
            (b"", []),
            (b"data: a\n\n", [("message", b"a", "")]),
            (b"data:a\n\n", [("message", b"a", "")]),
            (b"data:  a\n\n", [("message", b" a", "")]),
            (b"data\n\n", [("message", b"", "")]),
            (b"data\ndata\n\n", [("message", b"\n", "")]),
            (b"data: a\ndata: b\ndata\n\n", [("message", b"a\nb\n", "")]),
            (b"data: a\rdata: b\r\r", [("message", b"a\nb", "")]),
            (b"data: a\r\ndata: b\r\n\r\n", [("message", b"a\nb", "")]),
            (b"data: a\r\r\ndata: b\n\r", [("message", b"a", ""), ("message", b"b", "")]),
            (b"data: a\n\ndata: half\n", [("message", b"a", "")]),
            (b"data: a\n\ndata: half", [("message", b"a", "")]),
            (b"\xef\xbb\xbfdata: a\n\n", [("message", b"a", "")]),
            (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
            (b"\xef\xbbdata: a\n\n", []),
            (b": a comment\ndata: a\n:\n:data: x\n\n", [("message", b"a", "")]),
            (b"event: e\ndata: a\n\ndata: b\n\n", [("e", b"a", ""), ("message", b"b", "")]),
            (b"event: e\n\ndata: b\n\n", [("message", b"b", "")]),
            (b"event: e\nevent: f\ndata: b\n\n", [("f", b"b", "")]),
            (b"event:\ndata: b\n\n", [("message", b"b", "")]),
            (b"id: 1\ndata: a\n\ndata: b\n\n", [("message", b"a", "1"), ("message", b"b", "1")]),
            (b"id: 1\n\ndata: b\n\n", [("message", b"b", "1")]),
            (b"id: 1\ndata: a\n\nid\ndata: b\n\n", [("message", b"a", "1"), ("message", b"b", "")]),
            (b"id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n", [("message", b"a", "1"), ("message", b"b", "1")]),
            (b"id: \xc3\xa9\xff\ndata: \xff\n\n", [("message", b"\xff", "é\ufffd")]),
            (b"unknown: x\nDATA: x\n data: x\ndata : x\ndata: a\n\n", [("message", b"a", "")]),
            (b"data: a\x0bb\x0cc\x1cd\xc2\x85e\xe2\x80\xa8f\n\n",
             [("message", b"a\x0bb\x0cc\x1cd\xc2\x85e\xe2\x80\xa8f", "")]),
            (b"\n\n\r\r\n\r\n: x\n\n", []),
        ],
    )  # fmt: skip
    def test_events_read_as_the_standard_says_wherever_they_are_cut(
        self, data: bytes, events: list[tuple[str, bytes, str]]
    ) -> None:
        wanted = [SseEvent(*event) for event in events]
        for cut in range(len(data) + 1):
            assert events_of(data[:cut], data[cut:]) == wanted
            assert events_of(data[:cut], b"", data[cut:]) == wanted
        assert events_of(*(data[at : at + 1] for at in range(len(data)))) == wanted

    @pytest.mark.parametrize(
        ("data", "retry_ms"),
        [
            (b"retry: 5000\n", 5000), (b"retry:0\n", 0), (b"retry: 1\nretry: x\n", 1), (b"retry: -1\n", None),
            (b"retry: +1\n", None), (b"retry: 1 \n", None), (b"retry: 1.5\n", None), (b"retry:\n", None),
            (b"retry: \xd9\xa1\n", None), (b"retry: " + b"9" * 5000 + b"\n", None), (b"retry: 5", None),
        ],
    )  # fmt: skip
    def test_retry_is_digits_alone(self, data: bytes, retry_ms: int | None) -> None:
        parser = SseParser()
        assert parser.feed(data) == []
        assert parser.retry_ms == retry_ms

    def test_the_id_to_resume_after_is_that_of_a_finished_event(self) -> None:
        parser = SseParser()
        parser.feed(b"id: 1\ndata: a\n\nid: 2\ndata: b\n")
        assert parser.last_event_id == "1"
        parser.feed(b"\n")
        assert parser.last_event_id == "2"

    @given(
        st.lists(
            st.sampled_from(
                [b"data", b"event", b"id", b"retry", b":", b" ", b"\r", b"\n", b"\r\n", b"\n\n", b"\xef\xbb\xbf",
                 b"\xef", b"\0", b"7", b"x", b"\xff"]
            )
        ),
        st.lists(st.integers(0, 10_000)),
    )  # fmt: skip
    @example([b"data", b"\r", b"\n", b"\r", b"\n"], [5, 5, 6])
    def test_any_bytes_read_as_a_plain_reading_of_the_standard(self, parts: list[bytes], cuts: list[int]) -> None:
        data = b"".join(parts)
        assert events_of(*cut_at(data, cuts)) == plain_reading(data)

    @pytest.mark.parametrize("data", [b"data: 12345", b":2345678901", b"data:1\n" * 6, b"data\n" * 12])
    def test_lines_and_data_are_bounded_wherever_they_are_cut(self, data: bytes) -> None:
        for cut in range(len(data) + 1):
            with pytest.raises(FrameTooLarge, match="limit of 10 bytes"):
                feed_all(SseParser(10).feed, data[:cut], data[cut:])
        assert SseParser(11).feed(b"data:1\n" * 6 + b"\n") == [SseEvent("message", b"1\n" * 5 + b"1", "")]

    def test_a_long_line_in_many_pieces_takes_linear_time(self) -> None:
        parser = SseParser()
        parser.feed(b"data:")
        for _ in range(1000):
            for _ in range(100):
                assert parser.feed(b"x" * 500) == []
        assert parser.feed(b"\r\r") == [SseEvent("message", b"x" * 50_000_000, "")]


def plain_reading(data: bytes) -> list[SseEvent]:
    """The standard's algorithm over the whole input, a step at a time."""
    events: list[SseEvent] = []
    kind, buffer, event_id = b"", b"", ""
    *lines, _ = re.split(rb"\r\n|\r|\n", data.removeprefix(b"\xef\xbb\xbf"))
    for line in lines:
        if not line:
            if buffer:
                events.append(SseEvent(kind.decode("utf-8", "replace") or "message", buffer[:-1], event_id))
            kind, buffer = b"", b""
            continue
        name, colon, value = line.partition(b":")
        if colon and not name:
            continue
        if value[:1] == b" ":
            value = value[1:]
        if name == b"event":
            kind = value
        elif name == b"data":
            buffer += value + b"\n"
        elif name == b"id" and b"\0" not in value:
            event_id = value.decode("utf-8", "replace")
    return events
