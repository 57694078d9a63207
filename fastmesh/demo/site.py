"""A small site on loopback: pages of many kinds, slow ones and broken ones.

SAMPLES is the batch of the demo, and says of each URL what shall become of it.
Everything goes over real sockets: a page that is cut short is cut on its
connection, and the bomb is real gzip.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Final

import orjson
from aiohttp import web

from fastmesh.demo import pages

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

TIMEOUT_MS: Final = 4000  # of the batch: what the endless page takes
CONCURRENCY: Final = 16
BOMB_BYTES: Final = 60_000_000
SHUTDOWN_TIMEOUT_S: Final = 0.2

HTML: Final = "text/html; charset=utf-8"
LINGER_NONE: Final = struct.pack("ii", 1, 0)  # close with RST instead of FIN
PIXEL: Final = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One URL of the batch.

    *url* is a path of the site or a whole URL.  *error* is the type that its
    result must have, None a document with *title*; *status* is the HTTP status
    (0: there is no answer).
    """

    url: str
    about: str
    title: str | None = None
    error: str | None = None
    status: int = 200
    handler: Handler | None = None


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


def url_of(sample: Sample, address: str) -> str:
    """The whole URL of *sample* when the site is at *address*."""
    return address + sample.url if sample.url.startswith("/") else sample.url


def batch(address: str) -> dict[str, object]:
    """The body that crawls all of SAMPLES."""
    return {
        "urls": [url_of(sample, address) for sample in SAMPLES],
        "options": {"concurrency": CONCURRENCY, "timeout_ms": TIMEOUT_MS},
    }


@web.middleware
async def _unread(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A client that goes away in the middle of an answer is what some pages are for, and no news."""
    try:
        return await handler(request)
    except ConnectionError:
        return web.Response()  # aiohttp finds the connection closed and lets it be


# ── ordinary pages ───────────────────────────────────────────────────────────────────────


def _fixed(
    body: str | bytes, content_type: str = HTML, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Handler:
    """Always the same answer."""
    content = body.encode() if isinstance(body, str) else body
    fields = {"Content-Type": content_type, **(headers or {})}

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=content, headers=fields)

    return answer


def _after(delay_s: float, handler: Handler) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(delay_s)
        return await handler(request)

    return answer


def _redirect(status: int, location: str) -> Handler:
    return _fixed(b"", status=status, headers={"Location": location})


async def _index(_request: web.Request) -> web.StreamResponse:
    items = "".join(f'<li><a href="{escape(s.url)}">{escape(s.url)}</a>: {escape(s.about)}</li>\n' for s in SAMPLES)
    text = (
        f"Pages to try a crawler on. All of them as one request: <a href='/batch.json'>batch.json</a>.<ul>{items}</ul>"
    )
    return web.Response(body=pages.simple("The fastmesh sample site", text).encode(), headers={"Content-Type": HTML})


async def _batch(request: web.Request) -> web.StreamResponse:
    return web.json_response(body=orjson.dumps(batch(f"http://{request.host}")))


async def _trickle(request: web.Request) -> web.StreamResponse:
    """A page that comes in twenty pieces over two seconds."""
    page = pages.simple("Worth the wait", "This page takes its time. " * 40).encode()
    response = web.StreamResponse(headers={"Content-Type": HTML, "Content-Length": str(len(page))})
    await response.prepare(request)
    step = -(-len(page) // 20)
    for at in range(0, len(page), step):
        await asyncio.sleep(0.1)
        await response.write(page[at : at + step])
    return response


# ── broken pages ─────────────────────────────────────────────────────────────────────────


async def _endless(request: web.Request) -> web.StreamResponse:
    """A body without end, slow enough that its size is not what stops it."""
    response = web.StreamResponse(headers={"Content-Type": HTML})
    await response.prepare(request)
    while True:
        await response.write(b"<p>and another thing</p>\n")
        await asyncio.sleep(0.05)


async def _cut(request: web.Request) -> web.StreamResponse:
    """Half of a body; then the connection is closed in order."""
    response = await _half(request)
    _transport(request).close()
    return response


async def _reset(request: web.Request) -> web.StreamResponse:
    """Half of a body; then the connection is reset."""
    response = await _half(request)
    transport = _transport(request)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
    transport.abort()
    return response


async def _half(request: web.Request) -> web.StreamResponse:
    page = pages.simple("The first half", "Something is missing here. " * 40).encode()
    response = web.StreamResponse(headers={"Content-Type": HTML, "Content-Length": str(2 * len(page))})
    await response.prepare(request)
    await response.write(page)
    await asyncio.sleep(0.05)  # so that it has been read when the connection ends
    return response


def _transport(request: web.Request) -> asyncio.Transport:
    if request.transport is None:
        raise ConnectionResetError("the client was faster")
    return request.transport


def _bomb() -> bytes:
    """BOMB_BYTES of zeros in about 60 KB: gzip may be made of many members, so one is compressed and repeated."""
    size = 1_000_000
    return gzip.compress(bytes(size)) * (BOMB_BYTES // size)


# ── the batch ────────────────────────────────────────────────────────────────────────────

_PLAIN = pages.simple("A plain page", "Nothing happens here, and that at once. " * 20)
_MOVED = pages.simple("Where the redirects end", "Three hops, and here it is.")
_GZIP: Final = {"Content-Encoding": "gzip"}

SAMPLES: Final = (
    Sample("/", "the index", "The fastmesh sample site", handler=_index),
    Sample(
        "/articles/backpressure",
        "an article in UTF-8, with a table and code",
        "Backpressure, or how to say “not so fast”",
        handler=_fixed(pages.ENGLISH),
    ),
    Sample(
        "/articles/samovar",
        "windows-1251, said by its header",
        "Чай в дороге: заметки о самоваре",
        handler=_fixed(pages.RUSSIAN.encode("windows-1251"), "text/html; charset=windows-1251"),
    ),
    Sample(
        "/articles/onsen",
        "Shift_JIS, said by the page only",
        "山の温泉案内",
        handler=_fixed(pages.JAPANESE.encode("shift_jis"), "text/html"),
    ),
    Sample(
        "/articles/brot",
        "ISO-8859-1",
        "Brot backen für Geübte & Ungeübte",
        handler=_fixed(pages.GERMAN.encode("iso-8859-1"), "text/html; charset=iso-8859-1"),
    ),
    Sample("/notes.txt", "plain text", handler=_fixed(pages.NOTES, "text/plain; charset=utf-8")),
    Sample("/data.json", "JSON", handler=_fixed(pages.DATA, "application/json")),
    Sample("/feed.xml", "a feed", "The sample site", handler=_fixed(pages.FEED, "application/rss+xml")),
    Sample("/page.xhtml", "XHTML", "A well-formed page", handler=_fixed(pages.XHTML, "application/xhtml+xml")),
    Sample("/archive", "1,000 links", "An archive of 1,000 links", handler=_fixed(pages.many_links(1000))),
    Sample("/compressed", "gzip", "A plain page", handler=_fixed(gzip.compress(_PLAIN.encode()), headers=_GZIP)),
    Sample("/moved", "three redirects", "Where the redirects end", handler=_redirect(301, "/moved/on")),
    Sample(
        "/title",
        "a title that wants to be obeyed",
        "[bold red]not red[/] \x1b[31mnor this\x1b[0m \u202edrawkcab",
        handler=_fixed(pages.HOSTILE),
    ),
    Sample("/slow/500", "answers after 0.5 s", "A plain page", handler=_after(0.5, _fixed(_PLAIN))),
    Sample("/slow/1500", "answers after 1.5 s", "A plain page", handler=_after(1.5, _fixed(_PLAIN))),
    Sample("/trickle", "a body that takes 2 s", "Worth the wait", handler=_trickle),
    Sample(
        "/missing",
        "404",
        error="http_status",
        status=404,
        handler=_fixed(pages.simple("Not here", "Nor anywhere."), status=404),
    ),
    Sample("/broken", "500", error="http_status", status=500, handler=_fixed("Oh no.", "text/plain", status=500)),
    Sample(
        "/busy",
        "503",
        error="http_status",
        status=503,
        handler=_fixed("Later.", "text/plain", status=503),
    ),
    Sample(
        "/circle", "redirects in a circle", error="too_many_redirects", status=302, handler=_redirect(302, "/circle/2")
    ),
    Sample("/reset", "reset in mid-body", error="connect", handler=_reset),
    Sample("/cut", "ends before its length", error="connect", handler=_cut),
    Sample("/bomb", "60 MB in 60 KB of gzip", error="too_large", handler=_fixed(_bomb(), headers=_GZIP)),
    Sample(
        "/garbled",
        "gzip that is none",
        error="decode",
        handler=_fixed(b"\x1f\x8b\x08\x00 no, this is not", headers=_GZIP),
    ),
    Sample("/paper.pdf", "a PDF", "On pages", handler=_fixed(pages.paper("On pages"), "application/pdf")),
    Sample("/pixel.png", "an image", error="unsupported_content", handler=_fixed(PIXEL, "image/png")),
    Sample("/endless", f"no end within {TIMEOUT_MS / 1000:g} s", error="timeout", handler=_endless),
    Sample("ftp://127.0.0.1/file", "a scheme that is not fetched", error="invalid_url", status=0),
    Sample("http://169.254.169.254/", "where clouds keep credentials", error="blocked_address", status=0),
    Sample("http://nowhere.invalid/", "a name that nobody has", error="dns", status=0),
)


def _routes() -> list[tuple[str, Handler]]:
    """All that the site serves: the batch, and what its redirects lead to."""
    return [
        *((sample.url, sample.handler) for sample in SAMPLES if sample.handler is not None),
        ("/batch.json", _batch),
        ("/moved/on", _redirect(302, "/moved/further")),
        ("/moved/further", _redirect(307, "/moved/here")),
        ("/moved/here", _fixed(_MOVED)),
        ("/circle/2", _redirect(302, "/circle")),
    ]
