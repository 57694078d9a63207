"""Origins to fetch from: real servers on loopback, ordinary and hostile.

    with Origin() as origin:
        origin.page("/hello", "<title>Hello</title>")
        ... fetch origin.url("/hello") ...
        assert origin.hits["/hello"] == 1
        assert "user-agent: fastmesh" in origin.heads["/hello"][0].lower()

Each runs in a thread with a loop of its own, so that tests may be synchronous,
asynchronous or about another process.  A route is an async generator that is
given the Request and yields bytes, exactly as they shall be on the wire; when it
ends, the connection is closed, or kept if it says ``request.keep_alive = True``.
It may raise Reset.  Every Origin serves the paths of HOSTILE beside the routes
it is given; what it does not know is 404.
"""

from __future__ import annotations

import asyncio
import functools
import gzip
import itertools
import socket
import ssl
import struct
import threading
import zlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl

import brotli  # type: ignore[import-untyped]

CERTIFICATE = Path(__file__).with_name("origin_cert.pem")  # what a client must trust to fetch from Origin(tls=True)

TLS_HANDSHAKE = b"\x16"


class Reset(Exception):
    """Raised by a route: the connection ends with RST."""


@dataclass(slots=True)
class Request:
    """What was asked: *query* decoded, *head* as received."""

    path: str
    query: dict[str, str]
    head: str
    keep_alive: bool = False


Route = Callable[[Request], AsyncIterator[bytes]]


class Origin:
    """One server.

    ``hits`` counts requests and ``heads`` keeps their heads, by path without
    the query; ``connections`` counts what was accepted, ``server_names`` are those that TLS clients asked for.
    Its pages are not to be kept, unless *cache_control* says otherwise: a test that counts what was fetched
    must not be answered by a cache.
    """

    def __init__(self, host: str = "127.0.0.1", *, tls: bool = False, cache_control: str | None = "no-store") -> None:
        self.host = host
        self.cache_control = cache_control
        self.port = 0
        self.hits: Counter[str] = Counter()
        self.heads: defaultdict[str, list[str]] = defaultdict(list)
        self.connections = 0
        self.server_names: list[str | None] = []
        self._tls = _server_context(self.server_names) if tls else None
        self._routes: dict[str, Route] = dict(HOSTILE)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="origin", daemon=True)
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def url(self, path: str = "/", host: str | None = None) -> str:
        """The URL of *path* here; *host* names this machine otherwise (``localhost``, a name of a test's DNS)."""
        name = host or self.host
        return f"{'https' if self._tls else 'http'}://{f'[{name}]' if ':' in name else name}:{self.port}{path}"

    def page(
        self,
        path: str,
        body: str | bytes = b"",
        *,
        status: int = 200,
        content_type: str | None = "text/html; charset=utf-8",
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Serve an ordinary answer at *path* on a kept connection; returns its URL."""
        content = body.encode() if isinstance(body, str) else body
        lines = {"Content-Length": str(len(content)), **({"Content-Type": content_type} if content_type else {})}
        if self.cache_control:
            lines["Cache-Control"] = self.cache_control
        whole = head(status, {**lines, **(headers or {})}) + content

        async def answer(request: Request) -> AsyncIterator[bytes]:
            request.keep_alive = True
            yield whole

        return self.route(path, answer)

    def redirect(self, path: str, location: str, status: int = 302) -> str:
        """Redirect from *path* to *location*; returns the URL of *path*."""
        return self.page(path, "moved", status=status, headers={"Location": location})

    def raw(self, path: str, *parts: bytes) -> str:
        """Send *parts* for *path*, as they are, and close; returns its URL."""

        async def answer(_: Request) -> AsyncIterator[bytes]:
            for part in parts:
                yield part

        return self.route(path, answer)

    def route(self, path: str, answer: Route) -> str:
        """Serve *path* with a generator; returns its URL."""
        self._routes[path] = answer
        return self.url(path)

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._serve, self.host, 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        self.connections += 1
        try:
            # A client that leaves is an ordinary end; so is the end of the test.
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
                while await self._answer(reader, writer):
                    pass
        finally:
            self._clients.discard(task)
            writer.close()
            with suppress(ConnectionError, asyncio.CancelledError, ssl.SSLError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; whether another may follow."""
        first = await reader.readexactly(1)
        if first == TLS_HANDSHAKE:  # TLS on a plain port, which ordinary servers answer in plain text
            writer.write(head(400))
            return False
        received = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        path, _, query = received.split(" ", 2)[1].partition("?")
        self.heads[path].append(received)
        self.hits[path] += 1
        request = Request(path, dict(parse_qsl(query)), received)
        try:
            async for part in self._routes.get(path, not_found)(request):
                writer.write(part)
                await writer.drain()
        except Reset:
            # The kernel sends RST instead of FIN when nothing may linger.
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        return request.keep_alive


def head(status: int = 200, headers: Mapping[str, str] | None = None) -> bytes:
    """A response's head."""
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def chunk(data: bytes) -> bytes:
    """*data* as one chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


HTML = {"Content-Type": "text/html"}
CHUNKED = {**HTML, "Transfer-Encoding": "chunked"}
PAGE = b"<title>Page</title><p>Some words of text."


def _server_context(server_names: list[str | None]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    context.sni_callback = lambda _socket, name, _context: server_names.append(name)
    return context


# ── ordinary ─────────────────────────────────────────────────────────────────────────────


async def not_found(request: Request) -> AsyncIterator[bytes]:
    """What every other path is."""
    request.keep_alive = True
    yield head(404, {**HTML, "Content-Length": "9"}) + b"not found"


async def until_close(_: Request) -> AsyncIterator[bytes]:
    """A body that ends with its connection."""
    yield head(200, HTML) + PAGE


async def chunked(request: Request) -> AsyncIterator[bytes]:
    """A chunked body, with an extension and a trailer."""
    request.keep_alive = True
    yield head(200, CHUNKED)
    for byte in PAGE:
        yield b"1;note=x\r\n%c\r\n" % byte
    yield b"0\r\nX-Trailer: yes\r\n\r\n"


async def redirects(request: Request) -> AsyncIterator[bytes]:
    """``/redirects?n=3``: three redirects and then a page."""
    left = int(request.query["n"])
    request.keep_alive = True
    if left:
        yield head(302, {"Location": f"/redirects?n={left - 1}", "Content-Length": "0"})
    else:
        yield head(200, {**HTML, "Content-Length": str(len(PAGE))}) + PAGE


async def sizes(request: Request) -> AsyncIterator[bytes]:
    """``/sizes?n=1000``: so many bytes of text."""
    request.keep_alive = True
    yield head(200, {"Content-Type": "text/plain", "Content-Length": request.query["n"]})
    left = int(request.query["n"])
    while left:
        step = min(left, 65_536)
        yield b"x" * step
        left -= step


# ── hostile ──────────────────────────────────────────────────────────────────────────────


async def loop(_: Request) -> AsyncIterator[bytes]:
    """A redirect in a circle of two."""
    yield head(302, {"Location": "/loop-back"})


async def loop_back(_: Request) -> AsyncIterator[bytes]:
    """The other half."""
    yield head(302, {"Location": "/loop"})


async def metadata(_: Request) -> AsyncIterator[bytes]:
    """A redirect to where clouds keep credentials."""
    yield head(302, {"Location": "http://169.254.169.254/latest/meta-data/"})


async def fat_redirect(_: Request) -> AsyncIterator[bytes]:
    """A redirect whose body never ends."""
    yield head(302, {"Location": "/until-close", "Content-Encoding": "gzip"})
    while True:
        yield b"x" * 65_536


async def gzip_bomb(_: Request) -> AsyncIterator[bytes]:
    """1 GiB of zeros in about 1 MB."""
    yield head(200, {**HTML, "Content-Encoding": "gzip"})
    bomb = zlib.compressobj(wbits=31)
    for _step in range(1024):
        yield bomb.compress(bytes(1 << 20))
    yield bomb.flush()


async def brotli_bomb(_: Request) -> AsyncIterator[bytes]:
    """64 MiB of zeros in some dozens of bytes."""
    yield head(200, {**HTML, "Content-Encoding": "br"}) + _brotli_zeros()


async def empty_members(_: Request) -> AsyncIterator[bytes]:
    """gzip members without content, without end."""
    yield head(200, {**HTML, "Content-Encoding": "gzip"})
    while True:
        yield gzip.compress(b"") * 1000


async def truncated_gzip(_: Request) -> AsyncIterator[bytes]:
    """gzip that lacks its last bytes, properly framed."""
    body = gzip.compress(PAGE * 100)[:-12]
    yield head(200, {**HTML, "Content-Encoding": "gzip", "Content-Length": str(len(body))}) + body


async def endless(_: Request) -> AsyncIterator[bytes]:
    """A body without end."""
    yield head(200, HTML)
    while True:
        yield b"x" * 65_536


async def drip(_: Request) -> AsyncIterator[bytes]:
    """A byte every 10 ms, for ever: never idle, never done."""
    yield head(200, HTML)
    while True:
        yield b"x"
        await asyncio.sleep(0.01)


async def cut_length(_: Request) -> AsyncIterator[bytes]:
    """Half of the bytes that Content-Length says."""
    yield head(200, {**HTML, "Content-Length": str(2 * len(PAGE))}) + PAGE


async def cut_chunked(_: Request) -> AsyncIterator[bytes]:
    """A chunked body without its last chunk."""
    yield head(200, CHUNKED) + chunk(PAGE)


async def long_length(request: Request) -> AsyncIterator[bytes]:
    """More bytes than Content-Length says, on a kept connection."""
    request.keep_alive = True
    yield head(200, {**HTML, "Content-Length": str(len(PAGE))}) + PAGE + head(200, {**HTML, "X-Smuggled": "yes"})


async def silent(_: Request) -> AsyncIterator[bytes]:
    """No answer at all, for ever."""
    await asyncio.Event().wait()
    yield b""


async def slow_headers(_: Request) -> AsyncIterator[bytes]:
    """A head that comes byte by byte and has no end."""
    yield b"HTTP/1.1 200 OK\r\nX-Slow: "
    while True:
        yield b"x"
        await asyncio.sleep(0.01)


async def endless_headers(_: Request) -> AsyncIterator[bytes]:
    """One header after the other."""
    yield b"HTTP/1.1 200 OK\r\n"
    for number in itertools.count():
        yield b"X-%d: x\r\n" % number * 100


async def endless_header(_: Request) -> AsyncIterator[bytes]:
    """One header without end."""
    yield b"HTTP/1.1 200 OK\r\nX-Long: "
    while True:
        yield b"x" * 65_536


async def endless_interim(_: Request) -> AsyncIterator[bytes]:
    """100 Continue, for ever."""
    while True:
        yield b"HTTP/1.1 100 Continue\r\n\r\n" * 1000


async def endless_trailers(_: Request) -> AsyncIterator[bytes]:
    """A page, and trailers for ever."""
    yield head(200, CHUNKED) + chunk(PAGE) + b"0\r\n"
    while True:
        yield b"X-Trailer: yes\r\n" * 1000


async def endless_extension(_: Request) -> AsyncIterator[bytes]:
    """A chunk whose extension never ends."""
    yield head(200, CHUNKED) + b"5;note="
    while True:
        yield b"x" * 65_536


async def reset(_: Request) -> AsyncIterator[bytes]:
    """Reset before any answer."""
    raise Reset
    yield b""  # makes it a generator


async def reset_length(_: Request) -> AsyncIterator[bytes]:
    """Reset in the middle of a body with a length."""
    yield head(200, {**HTML, "Content-Length": "1000"}) + PAGE
    await asyncio.sleep(0.05)  # so that the bytes are read before the reset discards them
    raise Reset


async def reset_close(_: Request) -> AsyncIterator[bytes]:
    """Reset in the middle of a body that ends with its connection."""
    yield head(200, HTML) + PAGE
    await asyncio.sleep(0.05)
    raise Reset


async def empty(_: Request) -> AsyncIterator[bytes]:
    """The connection is closed without an answer."""
    return
    yield b""  # makes it a generator


@functools.cache
def _brotli_zeros() -> bytes:
    return bytes(brotli.compress(bytes(1 << 26), quality=3))


def _raw(answer: bytes) -> Route:
    async def route(_: Request) -> AsyncIterator[bytes]:
        yield answer

    return route


HOSTILE: dict[str, Route] = {
    "/until-close": until_close,
    "/chunked": chunked,
    "/redirects": redirects,
    "/sizes": sizes,
    "/loop": loop,
    "/loop-back": loop_back,
    "/metadata": metadata,
    "/fat-redirect": fat_redirect,
    "/gzip-bomb": gzip_bomb,
    "/brotli-bomb": brotli_bomb,
    "/empty-members": empty_members,
    "/truncated-gzip": truncated_gzip,
    "/endless": endless,
    "/drip": drip,
    "/cut-length": cut_length,
    "/cut-chunked": cut_chunked,
    "/long-length": long_length,
    "/long-body": _raw(head(200, {**HTML, "Content-Length": str(len(PAGE))}) + PAGE + b"and more"),
    "/silent": silent,
    "/slow-headers": slow_headers,
    "/endless-headers": endless_headers,
    "/endless-header": endless_header,
    "/endless-interim": endless_interim,
    "/endless-trailers": endless_trailers,
    "/endless-extension": endless_extension,
    "/reset": reset,
    "/reset-length": reset_length,
    "/reset-close": reset_close,
    "/empty": empty,
    "/status-999": _raw(head(999, HTML) + PAGE),
    "/http-2": _raw(b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "/no-http": _raw(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "/line-ends": _raw(b"\n\nx"),
    "/line-ends-first": _raw(b"\n\n\r\n" + head(200, HTML) + PAGE),
    "/odd-interim": _raw(b"HTTP/1.1 103 C\r\n\n\n\n" + head(200, HTML) + PAGE),
    "/two-lengths": _raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 4\r\n\r\nabcd"),
    "/length-and-chunked": _raw(head(200, {**CHUNKED, "Content-Length": "4"}) + chunk(PAGE) + b"0\r\n\r\n"),
    "/chunked-tab": _raw(head(200, {**HTML, "Transfer-Encoding": "chunked\t"}) + chunk(PAGE) + b"0\r\n\r\n"),
    "/chunked-gzip": _raw(head(200, {**HTML, "Transfer-Encoding": "gzip, chunked"}) + chunk(PAGE) + b"0\r\n\r\n"),
    "/bad-chunk": _raw(head(200, CHUNKED) + b"zz\r\nabc\r\n0\r\n\r\n"),
    "/latin-1": _raw(
        head(200, {"Content-Type": "text/html; charset=iso-8859-1"}) + "<title>Äpfel</title>".encode("latin-1")
    ),
    "/windows-1251": _raw(head(200, HTML) + '<meta charset="windows-1251"><title>Привет</title>'.encode("cp1251")),
    "/shift-jis": _raw(
        head(200, {"Content-Type": "text/html; charset=Shift_JIS"}) + "<title>日本</title>".encode("shift_jis")
    ),
    "/utf-16": _raw(head(200, HTML) + "<title>Äpfel</title>".encode("utf-16")),
    "/no-type": _raw(head(200) + PAGE),
    "/wrong-type": _raw(head(200, {"Content-Type": "image/png"}) + PAGE),
    "/odd-type": _raw(head(200, {"Content-Type": "text/html; charset=\xff\xfe;;;"}) + PAGE),
}
