"""picows, the fastest WebSocket server for Python that we know, on uvloop, and one frame a message.

python -m loadtest.peers.picows_app
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Iterator
from itertools import islice

import uvloop
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from loadtest.peers.frames import FRAMES_A_TURN, WELCOME, WS_PATH, asked, messages


class Socket(WSListener):
    """Streams its *frames*; without any it stays silent."""

    def __init__(self, frames: Iterator[bytes] | None) -> None:
        self._frames = frames
        self._transport: WSTransport | None = None
        self._paused = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Welcome the client, then stream."""
        transport.send(WSMsgType.TEXT, WELCOME)
        self._transport = transport
        self._send()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Answer a close."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Send no more."""
        self._frames = None

    def pause_writing(self) -> None:
        """The transport has enough."""
        self._paused = True

    def resume_writing(self) -> None:
        """There is room again."""
        self._paused = False
        self._send()

    def _send(self) -> None:
        """So many frames in this turn of the loop, and the next in the next one."""
        frames, transport = self._frames, self._transport
        if frames is None or transport is None or self._paused:
            return
        more = False
        for frame in islice(frames, FRAMES_A_TURN):
            more = True
            transport.send(WSMsgType.TEXT, frame)
            if self._paused:
                return
        if more:
            asyncio.get_running_loop().call_soon(self._send)
        else:
            self._frames = None
            transport.send_close(WSCloseCode.OK)


def _listener(request: WSUpgradeRequest) -> Socket:
    path, _, query = request.path.decode("ascii").partition("?")
    return Socket(messages(*asked(query)) if path == WS_PATH else None)


async def main() -> None:
    """Serve on a free port until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = await ws_create_server(_listener, "127.0.0.1", 0, backlog=2048)
    print(f"picows on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await stop.wait()
    server.close()


if __name__ == "__main__":
    logging.disable()  # it complains of every write to a client that has measured what it wanted
    uvloop.run(main())
