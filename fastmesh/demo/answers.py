"""What the sample site answers: pages as they should be, slow ones and broken ones.  A page that is cut short is cut on
its connection, and the bomb is real gzip."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from aiohttp import web

from fastmesh.demo import pages

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

BOMB_BYTES: Final = 60_000_000
HTML: Final = "text/html; charset=utf-8"
LINGER_NONE: Final = struct.pack("ii", 1, 0)  # close with RST instead of FIN


def fixed(
    body: str | bytes, content_type: str = HTML, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Handler:
    """Always the same answer."""
    content = body.encode() if isinstance(body, str) else body
    fields = {"Content-Type": content_type, **(headers or {})}

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=content, headers=fields)

    return answer


def after(delay_s: float, handler: Handler) -> Handler:
    """What *handler* answers, *delay_s* later."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(delay_s)
        return await handler(request)

    return answer


def redirect(status: int, location: str) -> Handler:
    """Always the same redirect."""
    return fixed(b"", status=status, headers={"Location": location})


async def trickle(request: web.Request) -> web.StreamResponse:
    """A page that comes in twenty pieces over two seconds."""
    page = pages.simple("Worth the wait", "This page takes its time. " * 40).encode()
    response = web.StreamResponse(headers={"Content-Type": HTML, "Content-Length": str(len(page))})
    await response.prepare(request)
    step = -(-len(page) // 20)
    for at in range(0, len(page), step):
        await asyncio.sleep(0.1)
        await response.write(page[at : at + step])
    return response


async def endless(request: web.Request) -> web.StreamResponse:
    """A body without end, slow enough that its size is not what stops it."""
    response = web.StreamResponse(headers={"Content-Type": HTML})
    await response.prepare(request)
    while True:
        await response.write(b"<p>and another thing</p>\n")
        await asyncio.sleep(0.05)


async def cut(request: web.Request) -> web.StreamResponse:
    """Half of a body; then the connection is closed in order."""
    response = await _half(request)
    _transport(request).close()
    return response


async def reset(request: web.Request) -> web.StreamResponse:
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


def bomb() -> bytes:
    """BOMB_BYTES of zeros in about 60 KB: gzip may be made of many members, so one is compressed and repeated."""
    size = 1_000_000
    return gzip.compress(bytes(size)) * (BOMB_BYTES // size)
