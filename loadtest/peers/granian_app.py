"""granian by its own interface (RSGI, faster than its ASGI), one worker, and one frame a message.

python -m loadtest.peers.granian_app
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from threading import Thread
from typing import Any

from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops

from loadtest.peers.frames import FRAMES_A_TURN, STREAM_PATH, asked, lines


async def app(scope: Any, protocol: Any) -> None:
    """The stream, and a short answer anywhere else for the idle connections."""
    if scope.path != STREAM_PATH:
        protocol.response_str(200, [("content-type", "text/plain")], "ok\n")
        return
    transport = protocol.response_stream(200, [("content-type", "application/x-ndjson")])
    for sent, frame in enumerate(lines(*asked(scope.query_string)), 1):
        await transport.send_bytes(frame)
        if sent % FRAMES_A_TURN == 0:
            await asyncio.sleep(0)


def _free_port() -> int:
    # granian cannot say which port it got, so it is given one that was free a moment ago.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _announce(port: int) -> None:
    # Its worker listens a moment after its start-up hook has run.
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.02)
    print(f"granian on http://127.0.0.1:{port}", flush=True)


def main() -> None:
    """Serve on a free port until SIGTERM."""
    port = _free_port()
    server = Granian(
        "loadtest.peers.granian_app:app",
        port=port,
        interface=Interfaces.RSGI,
        loop=Loops.uvloop,
        http=HTTPModes.http1,
        websockets=False,
        workers=1,
        backlog=4096,
        backpressure=20_000,  # connections it serves at once; by default its backlog
        log_enabled=False,
    )
    Thread(target=_announce, args=(port,), daemon=True).start()
    server.serve()


if __name__ == "__main__":
    logging.disable()
    main()
