"""uvicorn with its fastest parts (httptools, uvloop, no framework) and one frame a message.

python -m loadtest.peers.uvicorn_app
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

from loadtest.peers.frames import FRAMES_A_TURN, STREAM_PATH, asked, lines

Send = Callable[[dict[str, Any]], Awaitable[None]]


async def app(scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]], send: Send) -> None:
    """The stream, and a short answer anywhere else for the idle connections."""
    if scope["path"] == STREAM_PATH:
        await _stream(scope["query_string"].decode("ascii"), send)
    else:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
        await send({"type": "http.response.body", "body": b"ok\n"})


async def _stream(query: str, send: Send) -> None:
    headers = [(b"content-type", b"application/x-ndjson")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for sent, frame in enumerate(lines(*asked(query)), 1):
        await send({"type": "http.response.body", "body": frame, "more_body": True})
        if sent % FRAMES_A_TURN == 0:
            await asyncio.sleep(0)
    await send({"type": "http.response.body"})


def main() -> None:
    """Serve on a free port until SIGTERM."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        config = uvicorn.Config(
            app,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="off",
            access_log=False,
            log_level="warning",
            timeout_keep_alive=75,  # fastmesh's own: idle connections must outlive the measurement
            timeout_graceful_shutdown=1,
        )
        # The listener takes connections from here on, though they are answered a moment later.
        print(f"uvicorn on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
