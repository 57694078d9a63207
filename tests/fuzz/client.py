"""Targets: what the daemon, or who stands in its place, sends to the Python client."""

from __future__ import annotations

from collections.abc import Hashable

from fastmesh.client.decode import read_frame
from fastmesh.client.errors import ClientError
from fastmesh.client.framing import NdjsonParser, SseParser

from .budget import Target, Watch, pieces

MAX_FRAME_BYTES = 5_000
FRAMES = (
    b'{"type":"metadata","stream_id":"s","request_id":"r","timestamp":"2026-01-01T00:00:00Z","stream_type":"crawl",'
    b'"total_urls":2,"seq":1}',
    b'{"type":"result","stream_id":"s","seq":2,"index":0,"result":{"url":"http://a.example/","status":"success",'
    b'"document":{"title":null,"text":"x","links":[],"media":null,"word_count":1}},"progress":{"completed":1,"total":2}}',
    b'{"type":"error","stream_id":"s","seq":2,"error":{"type":"internal","message":"x","retryable":false}}',
    b'{"type":"summary","stream_id":"s","seq":3,"status":"completed","total_urls":2,"successful":1,"failed":1}',
    b'{"type":"gap","stream_id":"s","from_seq":2,"to_seq":9,"reason":"slow_client"}',
    b'{"type":"heartbeat","stream_id":"s","timestamp":"2026-01-01T00:00:00Z"}',
)


def ndjson(data: bytes, watch: Watch) -> Hashable:
    """The same lines wherever they are cut, each a frame or refused as none."""
    whole = _lines([data], watch)
    assert _lines(pieces(data), watch) == whole
    return tuple(_kind(line, watch) for line in whole[:5] if isinstance(line, bytes)), len(whole) > 5


def _lines(parts: list[bytes], watch: Watch) -> list[bytes | str]:
    parser, found = NdjsonParser(MAX_FRAME_BYTES), list[bytes | str]()
    for part in parts:
        try:
            found += watch.turn(parser.feed, part)
        except ClientError as error:
            # Lines before the one that is too long may have been given out, or not: that depends on the cuts.
            return [type(error).__name__]
    return found


def _kind(line: bytes, watch: Watch) -> str:
    try:
        return type(watch.turn(read_frame, line)).__name__
    except ClientError as error:
        return str(error)[:30]


def sse(data: bytes, watch: Watch) -> Hashable:
    """The same events wherever they are cut."""
    whole = _events([data], watch)
    assert _events(pieces(data), watch) == whole
    return whole if isinstance(whole[0], str) else tuple(event[0] for event in whole[0][:4]), whole[1:]


def _events(parts: list[bytes], watch: Watch) -> tuple[Hashable, ...]:
    parser, found = SseParser(MAX_FRAME_BYTES), list[tuple[str, bytes, str]]()
    for part in parts:
        try:
            found += [
                (str(event.type), bytes(event.data), event.last_event_id) for event in watch.turn(parser.feed, part)
            ]
        except ClientError as error:
            return (type(error).__name__,)
    return tuple(found), parser.last_event_id, parser.retry_ms


TARGETS = (
    Target(
        "client-ndjson",
        ndjson,
        (b"\n".join(FRAMES) + b"\n", b"\n" * 9000, b"{}\n[]\nnull\n", b"x" * 5_001, b'{"type":1}\r\n \n', *FRAMES),
        (*b'\n|"type":"result"|"seq":|null|[]|{}|"result":|"error":|1e30'.split(b"|"), *FRAMES),
    ),
    Target(
        "client-sse",
        sse,
        (
            b"retry: 3000\n\n"
            + b"".join(b"event: result\nid: s:%d\ndata: %b\n\n" % each for each in enumerate(FRAMES)),
            b"\xef\xbb\xbf:c\r\rdata\r\ndata: a\rdata: b\n\n",
            b"id: \0\ndata:\n\n",
            b"\r\n" * 9000,
            b"data\n" * 9000,
            b"data: \xff\n\n",
            b"retry: " + b"9" * 4990 + b"\n\n",
        ),
        b"data:|id: |event: |retry: |\n\n|\r\n|\r|:|\xef\xbb\xbf|\x00".split(b"|"),
    ),
)
