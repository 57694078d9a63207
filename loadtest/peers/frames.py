"""The frames that every peer sends: of the shape and size of the firehose's, built by the crawl's own builder."""

from __future__ import annotations

from collections.abc import Iterator
from secrets import token_hex
from urllib.parse import parse_qs

import orjson

from fastmesh.events import result_event
from fastmesh.streaming.fill.firehose import template

STREAM_PATH, SSE_PATH, WS_PATH = "/firehose/stream", "/firehose/sse", "/firehose/ws"
IDLE_SSE_PATH = "/idle/sse"  # one event, and then none

# What a WebSocket says first, as long as the daemon's.
WELCOME = orjson.dumps(
    {
        "type": "welcome",
        "protocol_version": "fastmesh.v1",
        "session_id": token_hex(16),
        "operations": "crawl subscribe unsubscribe cancel hold release ping status".split(),
    }
)

# So many frames a peer's app sends before it lets the others run: about 16 KiB, what fastmesh gives a stream in its
# turn.  Without it uvicorn serves the first of ten greedy streams alone and never even notices that its client left.
FRAMES_A_TURN = 24


def asked(query: str) -> tuple[int, int]:
    """How many frames of how many bytes a request's query asks for."""
    fields = parse_qs(query)
    return int(fields["frames"][0]), int(fields["bytes"][0])


def new_stream_id() -> str:
    """An id as long as the daemon's, so that the same text is encoded."""
    return f"{token_hex(2)}0-{token_hex(16)}"


def frames(stream_id: str, total: int, frame_bytes: int, option: int | None = None) -> Iterator[bytes]:
    """*total* frames of about *frame_bytes*, each built and encoded by itself."""
    page = template(frame_bytes, stream_id)
    dumps = orjson.dumps
    for done in range(1, total + 1):
        event = result_event(stream_id, done - 1, page, done, total, done)
        event["seq"] = done
        yield dumps(event, option=option)


def lines(total: int, frame_bytes: int) -> Iterator[bytes]:
    """The frames with their line end, by the encoder itself: adding it afterwards would copy every frame."""
    return frames(new_stream_id(), total, frame_bytes, orjson.OPT_APPEND_NEWLINE)


def events(total: int, frame_bytes: int) -> Iterator[bytes]:
    """The frames as events of text/event-stream, with the daemon's fields."""
    stream_id = new_stream_id()
    before = b"event: result\nid: %b:" % stream_id.encode("ascii")
    for seq, frame in enumerate(frames(stream_id, total, frame_bytes, orjson.OPT_APPEND_NEWLINE), 1):
        # The fastest way in Python to put them together.
        yield b"".join((before, b"%d" % seq, b"\ndata: ", frame, b"\n"))


def messages(total: int, frame_bytes: int) -> Iterator[bytes]:
    """The frames alone: a WebSocket's messages."""
    return frames(new_stream_id(), total, frame_bytes)
