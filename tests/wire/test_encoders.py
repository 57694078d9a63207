"""What a protocol puts around a batch of frames; the framing itself is tested in tests/core."""

from __future__ import annotations

import pytest

from fastmesh._core import Batch
from fastmesh.wire.encoders import Encoder, NdjsonEncoder, SseEncoder, WebSocketEncoder

FRAMES = [b'{"type":"metadata","seq":1}', b'{"type":"result","seq":2}']
GAP = b'{"type":"gap"}'


def told(encoder: Encoder) -> list[bytes]:
    """All that an encoder ever says."""
    return [
        encoder.begin(),
        encoder.frame(Batch(FRAMES), b"s", 1),
        encoder.note(GAP),
        encoder.heartbeat(b'{"type":"heartbeat"}'),
        encoder.end(),
    ]


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


LINES = [
    b"",
    b'{"type":"metadata","seq":1}\n{"type":"result","seq":2}\n',
    b'{"type":"gap"}\n',
    b'{"type":"heartbeat"}\n',
    b"",
]
EVENTS = [
    b"retry: 5000\n",
    b'event: metadata\nid: s:1\ndata: {"type":"metadata","seq":1}\n\n'
    b'event: result\nid: s:2\ndata: {"type":"result","seq":2}\n\n',
    b'event: gap\ndata: {"type":"gap"}\n\n',
    b": heartbeat\n\n",
    b"",
]


@pytest.mark.parametrize(
    ("encoder", "bare"),
    [(NdjsonEncoder(chunked=False), LINES), (SseEncoder(retry_ms=5000, chunked=False), EVENTS)],
)
def test_bare(encoder: Encoder, bare: list[bytes]) -> None:
    assert told(encoder) == bare


@pytest.mark.parametrize(
    ("encoder", "bare"),
    [(NdjsonEncoder(chunked=True), LINES), (SseEncoder(retry_ms=5000, chunked=True), EVENTS)],
)
def test_chunks_are_the_same_in_chunks_and_end_with_an_empty_one(encoder: Encoder, bare: list[bytes]) -> None:
    assert told(encoder) == [*(body and chunk(body) for body in bare[:-1]), b"0\r\n\r\n"]


def test_messages_need_no_end_and_no_heartbeat() -> None:
    messages = b"".join(bytes([0x81, len(frame)]) + frame for frame in FRAMES)
    assert told(WebSocketEncoder()) == [b"", messages, bytes([0x81, len(GAP)]) + GAP, b"", b""]


def test_compressed_messages_are_made_by_who_compresses() -> None:
    encoder = WebSocketEncoder(lambda frames: b"+".join(frames))
    assert encoder.frame(Batch(FRAMES), b"s", 1) == b"+".join(FRAMES)
    assert encoder.note(GAP) == GAP
