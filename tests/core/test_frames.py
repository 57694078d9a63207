"""Framing in C against the same in plain Python."""

from __future__ import annotations

import struct
import timeit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastmesh._core import Batch, frame_events, frame_lines, frame_messages

TYPES = st.sampled_from([b"metadata", b"result", b"summary", b"gap", b""])
FRAMES = st.lists(
    st.builds(lambda kind, rest: b'{"type":"%b"%b}' % (kind, rest), TYPES, st.binary(max_size=300)), max_size=20
)
LONG = [b'{"type":"result"%b}' % (b"x" * size) for size in (108, 109, 65518, 65519, 65520, 1 << 20)]


def chunk(body: bytes, chunked: bool) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body) if chunked else body


def event(frame: bytes, stream_id: bytes, seq: int) -> bytes:
    name = b"id: %b:%d\n" % (stream_id, seq) if seq else b""
    return b"event: %b\n%bdata: %b\n\n" % (frame.split(b'"')[3], name, frame)


def message(frame: bytes) -> bytes:
    length = len(frame)
    if length < 126:
        return struct.pack("!BB", 0x81, length) + frame
    if length < 65536:
        return struct.pack("!BBH", 0x81, 126, length) + frame
    return struct.pack("!BBQ", 0x81, 127, length) + frame


@given(batch=FRAMES, chunked=st.booleans())
@example(batch=LONG, chunked=True)
def test_lines(batch: list[bytes], chunked: bool) -> None:
    assert frame_lines(Batch(batch), chunked) == chunk(b"".join(frame + b"\n" for frame in batch), chunked)


@given(batch=FRAMES, stream_id=st.binary(max_size=40), seq=st.integers(0, 2**62), chunked=st.booleans())
@example(batch=LONG, stream_id=b"abc-0", seq=9, chunked=True)
@example(batch=LONG, stream_id=b"abc-0", seq=98, chunked=False)
def test_events(batch: list[bytes], stream_id: bytes, seq: int, chunked: bool) -> None:
    events = b"".join(event(frame, stream_id, seq and seq + at) for at, frame in enumerate(batch))
    assert frame_events(Batch(batch), stream_id, seq, chunked) == chunk(events, chunked)


@given(batch=FRAMES)
@example(batch=LONG)
@example(batch=[bytes(size) for size in (0, 1, 125, 126, 127, 65535, 65536, 70000)])
def test_messages(batch: list[bytes]) -> None:
    assert frame_messages(Batch(batch)) == b"".join(map(message, batch))


@pytest.mark.parametrize("frame", [b"", b"{}", b'{"seq":1,"type":"result"}', b'{"type":"', b'{"type":"result'])
def test_an_event_needs_a_type(frame: bytes) -> None:
    with pytest.raises(ValueError, match="does not begin with its type"):
        frame_events(Batch([frame]), b"id", 1, True)


@pytest.mark.parametrize("batch", [None, (b"x",), [1], ["x"], [None], [b"x", bytearray(b"x")]])
def test_only_lists_of_bytes(batch: object) -> None:
    with pytest.raises(TypeError):
        Batch(batch)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [None, [], [b"x"]])
def test_only_batches_are_framed(wrong: object) -> None:
    for framing in (
        lambda: frame_lines(wrong, True),  # type: ignore[arg-type]
        lambda: frame_events(wrong, b"id", 1, True),  # type: ignore[arg-type]
        lambda: frame_messages(wrong),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError):
            framing()


@given(st.lists(st.binary(max_size=50), max_size=100))
def test_a_batch_is_its_frames(frames: list[bytes]) -> None:
    batch = Batch(frames)
    assert list(batch) == frames
    assert (len(batch), batch.text_bytes) == (len(frames), sum(map(len, frames)))


def test_a_batch_costs_less_than_in_python() -> None:
    batch = [b'{"type":"result","x":"%b"}' % (b"x" * 300)] * 50
    mine = min(timeit.repeat(lambda: frame_events(Batch(batch), b"abc-0", 1, True), number=200, repeat=5))
    plain = min(
        timeit.repeat(lambda: b"".join([event(f, b"abc-0", 1 + n) for n, f in enumerate(batch)]), number=200, repeat=5)
    )
    assert mine < plain
