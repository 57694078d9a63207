"""uvicorn with its fastest parts (httptools, uvloop) around an ASGI application."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Literal

import uvicorn

Message = MutableMapping[str, Any]
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def serve(app: App, ws: Literal["none", "websockets-sansio"] = "none") -> None:
    """Serve on a free port until SIGTERM."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        config = uvicorn.Config(
            app,
            loop="uvloop",
            http="httptools",
            ws=ws,
            ws_per_message_deflate=False,
            lifespan="off",
            access_log=False,
            log_level="critical",  # below it complains of streams that are cut off at the end
            timeout_keep_alive=75,  # fastmesh's own: idle connections must outlive the measurement
            timeout_graceful_shutdown=1,
        )
        # The listener takes connections from here on, though they are answered a moment later.
        print(f"uvicorn on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        uvicorn.Server(config).run(sockets=[listener])
