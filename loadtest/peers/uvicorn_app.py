"""uvicorn without a framework, and one frame a message: NDJSON and SSE.

python -m loadtest.peers.uvicorn_app
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from loadtest.peers.frames import FRAMES_A_TURN, IDLE_SSE_PATH, SSE_PATH, STREAM_PATH, asked, events, lines
from loadtest.peers.uvicorn_server import Receive, Scope, Send, serve


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The streams, and a short answer anywhere else for the idle connections."""
    query = scope["query_string"].decode("ascii")
    path = scope["path"]
    if path == STREAM_PATH:
        await _stream(b"application/x-ndjson", lines(*asked(query)), send)
    elif path == SSE_PATH:
        await _stream(b"text/event-stream", events(*asked(query)), send)
    elif path == IDLE_SSE_PATH:
        await _idle(receive, send)
    else:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
        await send({"type": "http.response.body", "body": b"ok\n"})


async def _stream(content_type: bytes, frames: Iterator[bytes], send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", content_type)]})
    for sent, frame in enumerate(frames, 1):
        await send({"type": "http.response.body", "body": frame, "more_body": True})
        if sent % FRAMES_A_TURN == 0:
            await asyncio.sleep(0)
    await send({"type": "http.response.body"})


async def _idle(receive: Receive, send: Send) -> None:
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": next(events(1, 700)), "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


if __name__ == "__main__":
    serve(app)
