"""The frames that every peer sends: of the shape and size of the firehose's, built by the crawl's own builder."""

from __future__ import annotations

from collections.abc import Iterator
from secrets import token_hex
from urllib.parse import parse_qs

import orjson

from fastmesh.events import result_event
from fastmesh.streaming.firehose import template

STREAM_PATH = "/firehose/stream"

# So many frames a peer's app sends before it lets the others run: about 16 KiB, what fastmesh gives a stream in its
# turn.  Without it uvicorn serves the first of ten greedy streams alone and never even notices that its client left.
FRAMES_A_TURN = 24


def asked(query: str) -> tuple[int, int]:
    """How many frames of how many bytes a request's query asks for."""
    fields = parse_qs(query)
    return int(fields["frames"][0]), int(fields["bytes"][0])


def lines(total: int, frame_bytes: int) -> Iterator[bytes]:
    """*total* frames of about *frame_bytes*, each built and encoded by itself, with its line end."""
    # An id as long as the daemon's, so that the same text is encoded.
    stream_id = f"{token_hex(2)}0-{token_hex(16)}"
    page = template(frame_bytes, stream_id)
    dumps, newline = orjson.dumps, orjson.OPT_APPEND_NEWLINE
    for done in range(1, total + 1):
        event = result_event(stream_id, done - 1, page, done, total, done)
        event["seq"] = done
        # The line end by the encoder itself: adding it afterwards would copy every frame.
        yield dumps(event, option=newline)
