"""sse-starlette on uvicorn, as its users write it: one ServerSentEvent a frame, its pings and separators as they come.

python -m loadtest.peers.sse_starlette_app
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse, ServerSentEvent

from loadtest.peers.frames import FRAMES_A_TURN, IDLE_SSE_PATH, SSE_PATH, asked, frames, new_stream_id
from loadtest.peers.uvicorn_server import Receive, Scope, Send, serve


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The stream, and a short answer anywhere else; the response is an application itself, so no routing is paid."""
    if scope["path"] == SSE_PATH:
        events = _events(*asked(scope["query_string"].decode("ascii")))
        await EventSourceResponse(events)(scope, receive, send)
    elif scope["path"] == IDLE_SSE_PATH:
        await EventSourceResponse(_one_event())(scope, receive, send)
    else:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
        await send({"type": "http.response.body", "body": b"ok\n"})


async def _events(total: int, frame_bytes: int) -> AsyncIterator[ServerSentEvent]:
    stream_id = new_stream_id()
    for seq, frame in enumerate(frames(stream_id, total, frame_bytes), 1):
        yield ServerSentEvent(frame.decode("utf-8"), event="result", id=f"{stream_id}:{seq}")
        if seq % FRAMES_A_TURN == 0:
            await asyncio.sleep(0)


async def _one_event() -> AsyncIterator[ServerSentEvent]:
    async for event in _events(1, 700):
        yield event
    await asyncio.get_running_loop().create_future()  # until the client leaves


if __name__ == "__main__":
    serve(app)
