"""aiohttp's server on uvloop, as its users write it: a StreamResponse, and one write a frame.

python -m loadtest.peers.aiohttp_app
"""

from __future__ import annotations

import asyncio
import logging
import signal

import uvloop
from aiohttp import web

from loadtest.peers.frames import FRAMES_A_TURN, STREAM_PATH, asked, lines


async def stream(request: web.Request) -> web.StreamResponse:
    """The stream as NDJSON."""
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    for sent, frame in enumerate(lines(*asked(request.query_string)), 1):
        await response.write(frame)
        if sent % FRAMES_A_TURN == 0:
            await asyncio.sleep(0)
    return response


async def short(request: web.Request) -> web.Response:
    """A short answer anywhere else for the idle connections."""
    return web.Response(text="ok\n")


async def main() -> None:
    """Serve on a free port until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    application = web.Application()
    application.router.add_get(STREAM_PATH, stream)
    application.router.add_get("/{path:.*}", short)
    runner = web.AppRunner(application, access_log=None, keepalive_timeout=75, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=2048).start()
    print(f"aiohttp on http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await stop.wait()
    await runner.cleanup()


if __name__ == "__main__":
    logging.disable()  # it complains of every client that has measured what it wanted
    uvloop.run(main())
