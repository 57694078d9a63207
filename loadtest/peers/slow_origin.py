"""Pages for a crawl, each of which comes after a while: an origin far away.

python -m loadtest.peers.slow_origin DELAY_S PAGE_BYTES
"""

from __future__ import annotations

import asyncio
import signal
import sys

import uvloop
from aiohttp import web


async def main(delay_s: float, page_bytes: int) -> None:
    """Serve the same page at every path, on a free port until SIGTERM."""
    words = "<p>Nothing happens here, and that takes a while.</p>\n" * (page_bytes // 53)
    page = f"<!doctype html><title>A page from afar</title><body>{words}".encode()

    async def answer(request: web.BaseRequest) -> web.Response:
        await asyncio.sleep(delay_s)
        return web.Response(body=page, content_type="text/html", charset="utf-8")

    runner = web.ServerRunner(web.Server(answer, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=2048).start()
    print(f"slow origin on http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(main(float(sys.argv[1]), int(sys.argv[2])))
