"""uvicorn with websockets (its sans-IO part, uvicorn's own choice), without a framework, and one frame a message.

python -m loadtest.peers.uvicorn_ws_app
"""

from __future__ import annotations

import asyncio

from loadtest.peers.frames import FRAMES_A_TURN, WELCOME, WS_PATH, asked, messages
from loadtest.peers.uvicorn_server import Receive, Scope, Send, serve


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The stream, and a socket that stays silent anywhere else; plain HTTP is answered too, for warming up."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
        await send({"type": "http.response.body", "body": b"ok\n"})
        return
    await receive()  # websocket.connect
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": WELCOME.decode("ascii")})
    if scope["path"] == WS_PATH:
        for sent, frame in enumerate(messages(*asked(scope["query_string"].decode("ascii"))), 1):
            # As bytes it would be a binary message.
            await send({"type": "websocket.send", "text": frame.decode("utf-8")})
            if sent % FRAMES_A_TURN == 0:
                await asyncio.sleep(0)
        await send({"type": "websocket.close"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


if __name__ == "__main__":
    serve(app, "websockets-sansio")
