"""Targets: what origins send around their pages: answers, codings, fields, robots.txt, and where they lead."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Callable, Hashable, Iterable
from datetime import UTC, datetime

import brotli
from multidict import CIMultiDict

from fastmesh.crawl.cache import freshness
from fastmesh.crawl.cache.freshness import http_date_s
from fastmesh.crawl.fetch.body_budget import READ_BYTES
from fastmesh.crawl.fetch.connector import BoundedResponses
from fastmesh.crawl.fetch.cookies import Cookies
from fastmesh.crawl.fetch.decode import CODINGS, DECODE_ERRORS
from fastmesh.crawl.fetch.head import MAX_FIELDS, MAX_HEAD_BYTES
from fastmesh.crawl.fetch.origins import _escaped
from fastmesh.crawl.fetch.retries import MAX_RETRY_AFTER_S, retry_after_s
from fastmesh.crawl.net.url import ParsedUrl, follow, parse_url
from fastmesh.crawl.robots.rules import read
from fastmesh.errors import DecodeFailed, InvalidUrl

from .budget import Target, Watch, pieces

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
BASE = parse_url("http://a.example/b/c?d#e")
NOW_S = 1_800_000_000.0
MAX_BODY_BYTES = 1 << 21


class Wire:
    """The transport below a connection; *paused* as the connection says."""

    def __init__(self) -> None:
        self.paused = self.closed = False

    def get_extra_info(self, _: str) -> None:
        return None

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


def asked(loop: asyncio.AbstractEventLoop) -> BoundedResponses:
    """A connection on which a request was sent."""
    connection = BoundedResponses(loop)
    connection.connection_made(Wire())  # type: ignore[arg-type]
    bounds = {"max_line_size": MAX_HEAD_BYTES, "max_field_size": MAX_HEAD_BYTES, "max_headers": MAX_FIELDS}
    connection.set_response_params(read_until_eof=True, auto_decompress=False, read_bufsize=READ_BYTES, **bounds)
    return connection


def answers(data: bytes, watch: Watch) -> Hashable:
    """An origin's answer on a connection: the same outcome wherever it is cut, byte by byte too."""
    loop = asyncio.new_event_loop()
    try:
        whole = _answer(loop, [data], watch)
        assert _answer(loop, pieces(data), watch) == whole
        if len(data) < 600:
            assert _answer(loop, [data[at : at + 1] for at in range(len(data))], watch) == whole
    finally:
        loop.close()
    return whole[:2]


def _answer(loop: asyncio.AbstractEventLoop, parts: list[bytes], watch: Watch) -> tuple[Hashable, ...]:
    async def read() -> tuple[Hashable, ...]:
        try:
            head, payload = await connection.read()
        except Exception as fault:  # noqa: BLE001 - what fetch.py makes of it is its own; here only cuts count
            return (type(fault).__name__,)
        try:
            body = b""
            while data := await payload.readany():
                body += data
        except Exception:  # noqa: BLE001
            # The parser stops at so many chunks a turn: whether it sees what is broken before the end is the cuts'.
            return head.code, "broken"
        return head.code, "whole", body

    async def feed() -> None:
        for part in parts:
            if not connection.transport.closed:  # type: ignore[union-attr]
                watch.turn(connection.data_received, part)
        watch.turn(connection.connection_lost, None)

    connection = asked(loop)
    loop.run_until_complete(feed())
    return loop.run_until_complete(asyncio.wait_for(read(), 5))


def codings(data: bytes, watch: Watch) -> Hashable:
    """Each content coding: the same content wherever it is cut, and a step at a time."""
    names = sorted(CODINGS)
    name, data = names[data[0] % len(names)] if data else "gzip", data[1:]
    whole = _decoded(name, [data], watch)
    again = _decoded(name, pieces(data), watch)
    # Of what is broken behind much content, how much comes before that is seen is the cuts'.
    assert again == whole or "much" in (again[0], whole[0]), (name, again, whole)
    return name, whole[0], len(whole[1]).bit_length()


def _decoded(name: str, parts: list[bytes], watch: Watch) -> tuple[str, bytes]:
    decoder, body, received = CODINGS[name](), bytearray(), 0
    try:
        for part in filter(None, parts):
            received += len(part)
            steps = decoder.feed(part)
            while (piece := watch.turn(next, steps, None)) is not None:
                body += piece
                if len(body) > MAX_BODY_BYTES:
                    return "much", b""
        if received:
            watch.turn(decoder.end)
    except (*DECODE_ERRORS, DecodeFailed):
        return "broken", b""
    return "whole", bytes(body)


def fields(data: bytes, watch: Watch) -> Hashable:
    """Fields of an answer's head, as what reads each: the cache, Retry-After, cookies."""
    given: CIMultiDict[str] = CIMultiDict()
    for line in data.split(b"\n")[:200]:
        name, _, value = line.decode("latin-1").partition(":")
        given.add(name.strip(), value.strip())
    kept = freshness.kept_fields(given)
    outcome: list[Hashable] = []

    def asked(what: Callable[[], Hashable]) -> None:
        outcome.append(watch.turn(what))

    asked(lambda: freshness.lifetime(200, kept, asked_at_s=NOW_S, came_at_s=NOW_S, ttl_s=60.0))
    asked(lambda: freshness.may_be_shared(kept))
    asked(lambda: len(freshness.vary(kept)))
    asked(lambda: freshness.still_holds(kept, kept))
    asked(lambda: len(freshness.conditions(kept)) + len(freshness.merged(kept, kept)))
    for value in list(given.values())[:20]:
        asked(lambda value=value: http_date_s(value) is None)
        wait_s = watch.turn(retry_after_s, value, datetime.fromtimestamp(NOW_S, UTC))
        assert wait_s is None or 0 <= wait_s <= MAX_RETRY_AFTER_S
        outcome.append(wait_s is None)
    cookies = Cookies()
    watch.turn(cookies.take, BASE, given.getall("Set-Cookie", []), NOW_S)
    sent = watch.turn(cookies.header, BASE, NOW_S)
    assert sent is None or not set(sent) & set("\r\n\0")
    outcome.append(sent is None)
    return str(outcome)[:200]


def robots(data: bytes, watch: Watch) -> Hashable:
    """robots.txt: read and judged in steps."""
    rules = _stepped(read(data.decode("utf-8", "replace")), watch)
    judged = [
        _stepped(rules.judge("fastmesh", path), watch)
        for path in ("/", "/a/b?c=d", "/%41%2f\u00e9", "/" + "a" * 4000, "/" + "ab" * 4000)
    ]
    return tuple(judged), rules.crawl_delay_s("fastmesh") is None, rules.size.bit_length()


def _stepped(steps: Iterable[None], watch: Watch) -> object:
    running = iter(steps)
    while True:
        try:
            watch.turn(next, running)
        except StopIteration as end:
            return end.value


def urls(data: bytes, watch: Watch) -> Hashable:
    """A URL that is asked for, and where a redirect to it leads: read again it is the same."""
    outcome = []
    text = data[1:].decode("utf-8", "surrogateescape") if data[:1] == b"\1" else data.decode("utf-8", "replace")
    for reading in (parse_url, lambda text: follow(BASE, text), lambda text: follow(BASE, _escaped(text))):
        try:
            found: ParsedUrl = watch.turn(reading, text)
        except InvalidUrl as error:
            outcome.append(error.message[:40])
            continue
        assert parse_url(found.href) == found
        assert found.href.isascii()
        assert not set(found.href) & set(" \t\r\n\\")
        outcome.append(f"{found.address is None} {found.port in (80, 443)} {bool(found.fragment)}")
    return tuple(outcome)


ROBOTS = b"User-agent: fastmesh\nDisallow: /a/*b$\nAllow: /\nCrawl-delay: 2\n\nUser-agent: *\nDisallow: /\n"
TEXT = b"some text that repeats, some text that repeats" * 9

TARGETS = (
    Target(
        "answers",
        answers,
        (
            b"\n\nx",  # three bytes that held the loop for ever
            b"\n\n" + OK + b"Content-Length: 1\r\n\r\nx",
            b"HTTP/1.1 100 C\n\nHTTP/1.1 200 OK\nContent-Length: 1\n\nx",
            b"HTTP/1.1 103 C\r\n\n\n\nHTTP/1.1 200 OK\nContent-Length: 1\n\nx",
            OK + b"\r\nto the end\r\n\r\n",
            OK + b"Content-Length: 1\r\n\r\nx" + OK + b"\r\n",
            CHUNKED + b'1;x="y"\r\na\r\n2\r\nbc\r\n0\r\nX-T: 1\r\n\r\n',
            CHUNKED + b"1\r\nx\r\n" * 8_000 + b"0\r\n\r\n",
            CHUNKED + b"0\r\n" + b"A: b\r\n" * 10_000,
            b"\r\n" * 30_000 + b"x",
            OK + b"".join(b"Set-Cookie: c%d=1\r\n" % number for number in range(190)) + b"\r\n",
            OK + b"A: b\r\n folded\r\nno field\r\n\r\n",
            b"HTTP/1.1 103 Early\r\n\r\n" * 17 + OK + b"\r\n",
            b"HTTP/1.1 000 X\r\n\r\n",
        ),
        (
            *(
                b"HTTP/1.1 100 C\r\n\r\n|HTTP/1.0 200 OK\r\n|Transfer-Encoding: chunked\r\n|"
                b"Content-Length: 1\r\n|\r\n\r\n|\n\n|1\r\nx\r\n|0\r\n\r\n|Connection: close\r\n|"
                b"Content-Encoding: gzip\r\n| |;a=b|204|304"
            ).split(b"|"),
            OK,
        ),
        base_s=0.1,
        s_a_byte=60e-6,
        turn_s=0.1,  # 256 KiB of them: here an input is one segment
    ),
    Target(
        "codings",
        codings,
        (
            b"\0" + brotli.compress(TEXT),
            b"\0" + brotli.compress(b"a" * 200_000),
            b"\0" + brotli.compress(TEXT) + b"trailing",
            b"\1" + zlib.compress(TEXT),
            b"\1" + zlib.compress(TEXT)[2:-4],
            b"\2" + gzip.compress(TEXT),
            b"\2" + gzip.compress(TEXT)[:-8],  # its trailer is not there
            b"\2" + gzip.compress(TEXT) * 3 + b"\0" * 9,
            b"\2" + gzip.compress(b"") * 900,
            b"\3" + gzip.compress(b"a" * 2_000_000),
            b"\4\x28\xb5\x2f\xfd\x20\x03\x19\x00\x00abc",
            b"\4" + b"\x50\x2a\x4d\x18\0\0\0\0" * 900,
        ),
        (
            gzip.compress(b"a"),
            zlib.compress(b"a"),
            b"\x28\xb5\x2f\xfd\x20\x03\x19\x00\x00abc",
            b"\x1f\x8b\x08",
            b"\0\0\0\xff\xff",
        ),
        base_s=0.3,
        turn_s=0.1,
    ),
    Target(
        "fields",
        fields,
        (
            b'Cache-Control: max-age=60, stale-if-error, no-cache="a"\nExpires: 0\n'
            b"Date: Sun, 06 Nov 1994 08:49:37 GMT\nAge: 1\n"
            b'Vary: Accept, *\nETag: W/"x"\nLast-Modified: Sunday, 06-Nov-94 08:49:37 GMT',
            b"Expires: Sun Nov  6 08:49:37 1994\nRetry-After: 120",
            b"Retry-After: Fri, 31 Dec 9999 23:59:59 -0000",
            b"Retry-After: 1 Jan 0001 00:00 +9999",
            b"Cache-Control: max-age=" + b"9" * 5000,
            b"Set-Cookie: a=b; Path=/; Max-Age=1e9; Secure",
            b"Set-Cookie: a=b; Expires=Wed, 09 Jun 2021 10:18:14 GMT; Domain=.example",
            b"Cache-Control: " + b"a," * 9000,
            b"Vary: " + b"," * 30000,
            b"Set-Cookie: " + b";" * 30000,
            b"Date: " + b"(" * 9000,
        ),
        (
            b"Cache-Control: |max-age=|no-store|\n|Expires: |Date: |Retry-After: |Set-Cookie: |"
            b'; Path=/|; Expires=|; Max-Age=|Sun, 06 Nov 1994 08:49:37 GMT|Vary: |Age: |"|=|,|;|+9999|'
            b"0001"
        ).split(b"|"),
    ),
    Target(
        "robots",
        robots,
        (
            ROBOTS,
            b"\xef\xbb\xbf" + ROBOTS.replace(b"\n", b"\r"),
            b"User-agent: fastmesh\nDisallow: /" + b"*a" * 9000 + b"$",
            b"User-agent: *\n" + b"Disallow: /a*b\n" * 3000,
            b"User-agent: a\n" * 3000 + b"Disallow: /",
            b"Disallow: /%",
            b"#" * 60000,
            b"User-agent: *\nDisallow: /" + b"%2f\xc3\xa9" * 3000,
            b" " * 60000 + b":",
        ),
        b"User-agent: |fastmesh|Disallow: |Allow: |Crawl-delay: |\n|*|$|/|%2F|%c3%a9|#".split(b"|"),
        base_s=0.1,
        s_a_byte=40e-6,
    ),
    Target(
        "urls",
        urls,
        (
            b"http://a.example/b?c=d#e",
            b"//b.example",
            b"../x/./y?z",
            b"/p?",
            b"?",
            b"",
            b"#f",
            b"http:\\\\b.example\\x",
            b" \thttp://b.example",
            b"http://0x7f.1/",
            b"http://[::ffff:1.2.3.4]:80/",
            b"http://xn--/",
            "http://\u0131.example/".encode(),
            b"http://a.example/?%FF|^`{}\\",
            b"http://" + "e\u0301".encode() * 2000,
            b"http://a.example/" + b"../" * 2000,
            b"http://u:p@a.example/",
            b"javascript:1",
            "http://a.example/\u00e9?\u00e9#\u00e9".encode(),
            b"\1http://a.example/\xed\xa0\x80",
            b"http://a.example:99999/",
        ),
        (
            *b"http://|https://|//|/|\\|..|@|:|?|#|%|%2e|[::1]|a.example|xn--|0x7f|127.1".split(b"|"),
            "\u3002".encode(),
            "\u00df".encode(),
            "\u0308".encode(),
        ),
        max_bytes=20_000,
    ),
)
