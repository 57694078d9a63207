"""A small site on loopback, over real sockets: pages of many kinds, slow ones and broken ones."""

from __future__ import annotations

from html import escape
from typing import Final

import orjson
from aiohttp import web

from fastmesh.demo import pages
from fastmesh.demo.answers import HTML, Handler, fixed, redirect
from fastmesh.demo.samples import SAMPLES, batch

SHUTDOWN_TIMEOUT_S: Final = 0.2


class SampleSite:
    """The site on a free port of loopback."""

    def __init__(self) -> None:
        application = web.Application(middlewares=[_unread])
        for path, handler in _routes():
            application.router.add_get(path, handler)
        self._runner = web.AppRunner(
            application, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_TIMEOUT_S
        )
        self.address = ""

    async def start(self) -> str:
        """Serve; return the site's address, without a slash at its end."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.address = f"http://{host}:{port}"
        return self.address

    async def close(self) -> None:
        """Stop, and end what still sends."""
        await self._runner.cleanup()


@web.middleware
async def _unread(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A client that goes away in the middle of an answer is what some pages are for, and no news."""
    try:
        return await handler(request)
    except ConnectionError:
        return web.Response()  # aiohttp finds the connection closed and lets it be


async def _index(_request: web.Request) -> web.StreamResponse:
    items = "".join(f'<li><a href="{escape(s.url)}">{escape(s.url)}</a>: {escape(s.about)}</li>\n' for s in SAMPLES)
    text = (
        f"Pages to try a crawler on. All of them as one request: <a href='/batch.json'>batch.json</a>.<ul>{items}</ul>"
    )
    return web.Response(body=pages.simple("The fastmesh sample site", text).encode(), headers={"Content-Type": HTML})


async def _batch(request: web.Request) -> web.StreamResponse:
    return web.json_response(body=orjson.dumps(batch(f"http://{request.host}")))


def _routes() -> list[tuple[str, Handler]]:
    """All that the site serves: the batch, and what its redirects lead to."""
    return [
        *((sample.url, sample.handler) for sample in SAMPLES if sample.handler is not None),
        ("/", _index),
        ("/batch.json", _batch),
        ("/moved/on", redirect(302, "/moved/further")),
        ("/moved/further", redirect(307, "/moved/here")),
        ("/moved/here", fixed(pages.simple("Where the redirects end", "Three hops, and here it is."))),
        ("/circle/2", redirect(302, "/circle")),
    ]
