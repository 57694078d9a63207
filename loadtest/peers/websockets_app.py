"""websockets' own asyncio server on uvloop, without compression, and one frame a message.

python -m loadtest.peers.websockets_app
"""

from __future__ import annotations

import asyncio
import logging
import signal

import uvloop
from websockets.asyncio.server import ServerConnection, serve

from loadtest.peers.frames import FRAMES_A_TURN, WELCOME, WS_PATH, asked, messages


async def handle(connection: ServerConnection) -> None:
    """The stream, and a socket that stays silent on any other path."""
    await connection.send(WELCOME, text=True)
    assert connection.request is not None
    path, _, query = connection.request.path.partition("?")
    if path == WS_PATH:
        for sent, frame in enumerate(messages(*asked(query)), 1):
            await connection.send(frame, text=True)
            if sent % FRAMES_A_TURN == 0:
                await asyncio.sleep(0)
    else:
        await connection.wait_closed()


async def main() -> None:
    """Serve on a free port until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    # The pings are its defaults, every 20 s: fastmesh sends them as well.
    async with serve(handle, "127.0.0.1", 0, compression=None, backlog=2048, close_timeout=0.1) as server:
        print(f"websockets on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        await stop.wait()


if __name__ == "__main__":
    logging.disable()  # it complains of every client that has measured what it wanted
    uvloop.run(main())
