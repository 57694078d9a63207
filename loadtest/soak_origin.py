"""The origins of a soak: pages of many sizes, and every way to fail.

    python -m loadtest.soak_origin          (says its port on standard output; ends with its standard input)

One process on the addresses of HOSTS and one port, so that the daemon knows many hosts.  A URL's path is its kind,
its query makes it another page: ``/ok?n=17``.  KINDS says how often each is asked for, and what may come of it.  An
answer that ends leaves its connection open for the next request; one that raises EOFError closes it, and Reset resets
it.
"""

from __future__ import annotations

import asyncio
import gzip
import random
import signal
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Final

import uvloop

HOSTS: Final = tuple(f"127.0.0.{last}" for last in range(2, 22))
# Asked for by few URLs: what it answers slows its host down for all.
SLOWED_HOST: Final = "127.0.0.22"
WORDS: Final = ("word ", "text ", "alpha ", "beta ", "stream ", "<b>of</b> ", "pages. ")
OK: Final = frozenset({"ok"})
STEP: Final = 65_536

Answer = AsyncIterator[bytes]


class Reset(Exception):
    """Raised by an answer: the connection ends with RST."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How often a kind is asked for, and the outcomes that it may have: ``ok`` or an error's type."""

    answer: Callable[[int], Answer]
    weight: int
    outcomes: frozenset[str]


def head(status: int = 200, length: int | None = None, kind: str = "text/html", more: str = "") -> bytes:
    """A response's head."""
    sized = "" if length is None else f"Content-Length: {length}\r\n"
    return f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n{sized}{more}\r\n".encode()


@cache
def prose(size: int) -> bytes:
    """About *size* bytes of HTML."""
    chosen = random.Random(size)
    words = "".join(chosen.choices(WORDS, k=size // 6))
    paragraphs = "".join(f"<p>{words[at : at + 600]}</p>" for at in range(0, len(words), 600))
    return f"<article><h1>Heading</h1>{paragraphs}</article>".encode()


def page(n: int) -> bytes:
    """A page of 0.3 KB to 100 KB, most of them small."""
    return b"<!doctype html><title>Page %d</title><a href='/ok?n=%d'>next</a>" % (n, n + 1) + prose(
        300 * 2 ** (n % 17 // 2)
    )


def whole(body: bytes, kind: str = "text/html", more: str = "") -> bytes:
    """An ordinary answer."""
    return head(200, len(body), kind, more) + body


# ── ordinary ─────────────────────────────────────────────────────────────────────────────


async def ok(n: int) -> Answer:
    yield whole(page(n))


async def large(n: int) -> Answer:
    body = page(n) + prose(600_000)
    yield head(200, len(body))
    for at in range(0, len(body), STEP):
        yield body[at : at + STEP]


async def gzipped(n: int) -> Answer:
    yield whole(gzip.compress(page(n), 1), more="Content-Encoding: gzip\r\n")


async def chunked(n: int) -> Answer:
    yield head(more="Transfer-Encoding: chunked\r\n")
    body = page(n)
    for at in range(0, len(body), 500):
        part = body[at : at + 500]
        yield b"%x;note=x\r\n%s\r\n" % (len(part), part)
    yield b"0\r\nX-Trailer: yes\r\n\r\n"


async def slow(n: int) -> Answer:
    await asyncio.sleep(0.5)
    yield whole(page(n))


async def redirect(n: int) -> Answer:
    yield head(302, 0, more=f"Location: /ok?n={n}\r\n")


async def feed(n: int) -> Answer:
    items = b"".join(
        b"<item><title>Item %d</title><link>http://a.example/%d</link></item>" % (at, at) for at in range(50)
    )
    yield whole(b"<rss version='2.0'><channel><title>Feed %d</title>%s</channel></rss>" % (n, items), "text/xml")


async def deep(n: int) -> Answer:
    yield whole(b"<title>Deep</title>" + b"<div>" * 20_000 + b"deep %d" % n)


async def comments(n: int) -> Answer:
    yield whole(b"<?xml version='1.0'?>" + b"<!-- -->" * 200 + b"<!%d" % n, "application/xml")


# ── failing ──────────────────────────────────────────────────────────────────────────────


def _status(code: int, more: str = "") -> Callable[[int], Answer]:
    async def answer(_: int) -> Answer:
        yield head(code, 2, more=more) + b"no"

    return answer


def _raw(data: bytes) -> Callable[[int], Answer]:
    async def answer(_: int) -> Answer:
        yield data
        raise EOFError

    return answer


async def circle(n: int) -> Answer:
    yield head(302, 0, more=f"Location: /circle?n={n}\r\n")


async def metadata(_: int) -> Answer:
    yield head(302, 0, more="Location: http://169.254.169.254/latest\r\n")


async def cut(n: int) -> Answer:
    yield head(200, 100_000) + page(n)[:50_000]
    raise EOFError


async def reset(_: int) -> Answer:
    raise Reset
    yield b""  # makes it a generator


async def drip(_: int) -> Answer:
    yield head()
    for _step in range(200):
        yield b"."
        await asyncio.sleep(0.1)
    raise EOFError


async def silent(_: int) -> Answer:
    await asyncio.sleep(20)
    raise EOFError
    yield b""


@cache
def _bomb() -> bytes:
    return gzip.compress(bytes(30_000_000), 9)


async def bomb(_: int) -> Answer:
    yield whole(_bomb(), more="Content-Encoding: gzip\r\n")


# ── large bodies of which nothing comes ──────────────────────────────────────────────────


@cache
def _noise() -> bytes:
    return random.Random(1).randbytes(STEP)


async def fat_cut(n: int) -> Answer:
    """``n`` MB, and its last byte missing."""
    size = n % 100 * 1_000_000
    yield head(200, size)
    async for part in _noises(size - 1):
        yield part
    raise EOFError


async def fat_reset(n: int) -> Answer:
    """``n`` MB without a length, and then RST."""
    yield head()
    async for part in _noises(n % 100 * 1_000_000):
        yield part
    await asyncio.sleep(0.05)  # so that the bytes are read before the reset discards them
    raise Reset


async def fat_gzip(n: int) -> Answer:
    """``n`` MB in many members, of which the last has a wrong checksum."""
    yield head(more="Content-Encoding: gzip\r\n")
    member = gzip.compress(_noise(), 1)
    for _step in range(n % 100 * 1_000_000 // STEP):
        yield member
    yield member[:-8] + bytes(8)
    raise EOFError


async def fat_chunks(n: int) -> Answer:
    """``n`` MB in chunks, and a chunk that is none."""
    yield head(more="Transfer-Encoding: chunked\r\n")
    async for part in _noises(n % 100 * 1_000_000):
        yield b"%x\r\n%s\r\n" % (len(part), part)
    yield b"zz\r\n"
    raise EOFError


async def fat_binary(n: int) -> Answer:
    """``n`` MB of which no document can be made."""
    size = n % 100 * 1_000_000
    yield head(200, size, "application/octet-stream")
    async for part in _noises(size):
        yield part


async def fat_stall(n: int) -> Answer:
    """``n`` MB, of which the last never come."""
    size = n % 100 * 1_000_000
    yield head(200, size)
    async for part in _noises(size - STEP):
        yield part
    await asyncio.sleep(20)
    raise EOFError


async def _noises(size: int) -> Answer:
    noise = _noise()
    while size > 0:
        yield noise[:size]
        size -= len(noise)


def _fails(*types: str) -> frozenset[str]:
    return frozenset(types)


CUT: Final = _fails("connect")
KINDS: Final[dict[str, Kind]] = {
    "ok": Kind(ok, 600, OK),
    "large": Kind(large, 10, OK),
    "gzipped": Kind(gzipped, 60, OK),
    "chunked": Kind(chunked, 40, OK),
    "slow": Kind(slow, 40, OK),
    "redirect": Kind(redirect, 40, OK),
    "feed": Kind(feed, 10, OK),
    "deep": Kind(deep, 5, OK | {"extract"}),
    "comments": Kind(comments, 10, OK | {"extract", "unsupported_content"}),
    "status-404": Kind(_status(404), 10, _fails("http_status")),
    "status-500": Kind(_status(500), 10, _fails("http_status")),
    "status-999": Kind(_status(999), 5, _fails("http_status")),
    "circle": Kind(circle, 10, _fails("too_many_redirects")),
    "metadata": Kind(metadata, 10, _fails("blocked_address")),
    "cut": Kind(cut, 20, CUT),
    "reset": Kind(reset, 10, CUT),
    "empty": Kind(_raw(b""), 5, CUT),
    "line-ends": Kind(_raw(b"\n\nx"), 10, CUT | {"bad_response"}),
    "late-line-ends": Kind(_raw(b"HTTP/1.1 103 X\n\n\n\nHTTP/1.1 200 OK\n\nx"), 5, OK | CUT | {"bad_response"}),
    "two-lengths": Kind(_raw(head(200, 3, more="Content-Length: 4\r\n") + b"four"), 5, CUT | {"bad_response"}),
    "bad-chunk": Kind(_raw(head(more="Transfer-Encoding: chunked\r\n") + b"zz\r\n"), 5, CUT | {"bad_response"}),
    "bad-gzip": Kind(
        _raw(head(200, 10, more="Content-Encoding: gzip\r\n") + b"\x1f\x8b\x08zzzzzzz"), 10, _fails("decode")
    ),
    "drip": Kind(drip, 5, _fails("timeout")),
    "silent": Kind(silent, 5, _fails("timeout")),
    "bomb": Kind(bomb, 5, _fails("too_large", "decode")),
    "picture": Kind(_raw(whole(b"\x89PNG\r\n\x1a\n1234", "image/png")), 5, _fails("unsupported_content")),
    "pdf": Kind(_raw(whole(b"%PDF-1.4 and nothing", "application/pdf")), 5, _fails("extract")),
    "private": Kind(ok, 5, _fails("robots")),
    "fat-cut": Kind(fat_cut, 0, CUT),
    "fat-reset": Kind(fat_reset, 0, CUT),
    "fat-gzip": Kind(fat_gzip, 0, _fails("decode")),
    "fat-chunks": Kind(fat_chunks, 0, CUT | {"bad_response"}),
    "fat-binary": Kind(fat_binary, 0, _fails("unsupported_content")),
    "fat-stall": Kind(fat_stall, 0, _fails("timeout")),
    "slowed": Kind(_status(429, "Retry-After: 1\r\n"), 0, _fails("http_status")),
}
ROBOTS: Final = b"User-agent: *\nDisallow: /private\n"


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            request = await reader.readuntil(b"\r\n\r\n")
            path, _, query = request.split(b" ", 2)[1].decode("latin-1").partition("?")
            if path == "/robots.txt":
                writer.write(whole(ROBOTS, "text/plain"))
                continue
            kind = KINDS.get(path[1:])
            if kind is None:
                writer.write(head(404, 0))
                continue
            async for part in kind.answer(int(query.partition("=")[2] or 0)):
                writer.write(part)
                await writer.drain()
    except Reset:
        # The kernel sends RST instead of FIN when nothing may linger.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    except (EOFError, ConnectionError, asyncio.LimitOverrunError, asyncio.CancelledError, RuntimeError):
        pass  # its end, the daemon's, or that of all; uvloop says RuntimeError of what was reset while it was written
    finally:
        writer.close()


async def _main() -> None:
    port = 0
    servers = []
    for host in (*HOSTS, SLOWED_HOST):
        server = await asyncio.start_server(_serve, host, port, backlog=1000)
        port = server.sockets[0].getsockname()[1]
        servers.append(server)
    print(port, flush=True)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin, ended.set)  # its parent closes it, or is gone
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        uvloop.run(_main())
