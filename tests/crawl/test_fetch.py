"""Fetching, against real servers: what is delivered, what fails and as what, and what no origin can do to us."""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
import threading
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import brotli
import pytest
import uvloop
from aiohttp import ClientSession
from backports import zstd
from nameserver import BROKEN, SILENCE, Nameserver
from origins import CERTIFICATE, PAGE, Origin, Request, head
from pages import Page, no_answers
from steps import steps

from fastmesh.config import FetchSettings
from fastmesh.crawl.fetch.body_budget import MAX_READ_BYTES
from fastmesh.crawl.fetch.connector import MAX_FRAMING_BYTES, GuardedConnector
from fastmesh.crawl.fetch.decode import (
    CODINGS,
    DECODE_ERRORS,
    MAX_MEMBERS,
    RATIO_FREE_BYTES,
    STEP_BYTES,
    ZSTD_WINDOW_LOG,
)
from fastmesh.crawl.fetch.fetcher import Fetcher
from fastmesh.crawl.fetch.origins import _escaped
from fastmesh.crawl.fetch.request_headers import RESERVED
from fastmesh.crawl.fetch.retries import MAX_RETRY_AFTER_S, retry_after_s, with_retries
from fastmesh.crawl.net import names as names_module
from fastmesh.crawl.net.guard import AddressGuard
from fastmesh.crawl.net.resolver import GuardedResolver
from fastmesh.crawl.net.url import MAX_URL_CHARS, follow, parse_url
from fastmesh.crawl.options import CrawlOptions
from fastmesh.errors import (
    BadResponse,
    BlockedAddress,
    ConnectFailed,
    DecodeFailed,
    DnsFailed,
    FetchTimeout,
    HttpStatus,
    InvalidUrl,
    TooLarge,
    TooManyRedirects,
    UrlError,
)

LIMIT_BYTES = 1_000_000
LOOPBACK = "127.0.0.0/8,::1/128"


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


def options(**changes: Any) -> CrawlOptions:
    chosen = {"timeout_ms": 5000, "max_body_bytes": LIMIT_BYTES, "user_agent": "fastmesh/test", "max_frame_bytes": 4096}
    return CrawlOptions(**{**chosen, **changes})


async def with_fetcher(
    work: Callable[[Fetcher], Awaitable[Any]], names: Nameserver | None = None, **settings: Any
) -> Any:
    """Run *work* with a Fetcher that may fetch from loopback."""
    chosen = FetchSettings.model_validate({"allow_networks": LOOPBACK, **settings})
    fetcher = Fetcher(chosen, AddressGuard(chosen), no_answers(), dns=names.client() if names else None)
    try:
        return await work(fetcher)
    finally:
        await fetcher.close()


def fetched(url: str, names: Nameserver | None = None, given: CrawlOptions | None = None, **settings: Any) -> Page:
    """*url*'s page."""
    page = Page(url, given or options())
    uvloop.run(with_fetcher(page.come, names, **settings))
    return page


def failed(
    url: str, names: Nameserver | None = None, given: CrawlOptions | None = None, **settings: Any
) -> tuple[UrlError, Page]:
    """Why *url* failed, and how far it got."""
    page = Page(url, given or options())
    with pytest.raises(UrlError) as error:
        uvloop.run(with_fetcher(page.come, names, **settings))
    return error.value, page


def hanging(origin: Origin, left: threading.Event | None = None) -> tuple[str, threading.Event]:
    """A page that never ends; the events say that it was asked for, and that the client has left."""
    asked = threading.Event()

    async def answer(_: Request) -> AsyncIterator[bytes]:
        asked.set()
        try:
            yield head()
            while True:
                yield b"x" * 65_536
                await asyncio.sleep(0.01)
        finally:
            if left is not None:
                left.set()

    return origin.route("/hanging", answer), asked


# ── what is delivered ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "content_type", "body"),
    [
        ("/until-close", "text/html", PAGE),
        ("/chunked", "text/html", PAGE),
        ("/long-length", "text/html", PAGE),
        ("/long-body", "text/html", PAGE),
        ("/no-type", None, PAGE),
        ("/wrong-type", "image/png", PAGE),
        ("/odd-type", "text/html; charset=\ufffd\ufffd;;;", PAGE),
        ("/latin-1", "text/html; charset=iso-8859-1", "<title>Äpfel</title>".encode("latin-1")),
        ("/sizes?n=0", "text/plain", b""),
        (f"/sizes?n={LIMIT_BYTES}", "text/plain", b"x" * LIMIT_BYTES),
    ],
)
def test_a_page_arrives_byte_for_byte(origin: Origin, path: str, content_type: str | None, body: bytes):
    page = fetched(origin.url(path))
    assert (page.final_url, page.status, page.content_type, page.body, page.received_bytes) == (
        origin.url(path),
        200,
        content_type,
        body,
        len(body),
    )
    assert 0 < page.fetch_s < 5
    assert page.dns_s == 0


@pytest.mark.parametrize(
    "sent",
    [
        head(200, {"X-Echo ": "a", "Content-Length": str(len(PAGE))}) + PAGE,
        b"HTTP/1.1 200 OK\r\nPHP Warning: Unable to load /x.so in Unknown on line 0\r\n\r\n" + PAGE,
        b"HTTP/1.1 200 OK\r\n" + b"Set-Cookie: a=%s; Domain=x\r\n" % (b"b" * 300) * 190 + b"\r\n" + PAGE,
        head(200, {"Content-Security-Policy": "x" * 40_000}) + PAGE,
        b"\r\n\n\r\n" + head(103, {"Link": "</a.css>"}) + b"\n" + head(200) + PAGE,
        b"HTTP/1.1 200\nContent-Length: %d\n\n" % len(PAGE) + PAGE,
    ],
)
def test_a_head_is_read_as_browsers_do(origin: Origin, sent: bytes):
    assert fetched(origin.raw("/odd-head", sent)).body == PAGE


@pytest.mark.parametrize("status", [204, 205])
def test_an_answer_without_content_is_an_empty_page(origin: Origin, status: int):
    page = fetched(origin.raw("/no-content", head(status) + b"not to be read"))
    assert (page.status, page.body) == (status, b"")


def test_the_fragment_stays_here_and_the_query_goes(origin: Origin):
    page = fetched(origin.url("/chunked?a=b%20c#part"))
    assert page.final_url == origin.url("/chunked?a=b%20c#part")
    assert origin.heads["/chunked"][-1].startswith("GET /chunked?a=b%20c HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "target",
    ["/target", "/target?", "/target??", "/target?a=%FF", "/target?|^`{}~", "/target?a=b?c", "/target?%zz&&="],
)
def test_what_is_asked_for_is_what_was_written(origin: Origin, target: str):
    origin.page("/target", "x")
    assert fetched(origin.url(target)).final_url == origin.url(target)
    assert origin.heads["/target"][-1].startswith(f"GET {target} HTTP/1.1\r\n")


TEXT = b" ".join(b"%d words of text" % n for n in range(20_000))
DEFLATED = zlib.compress(TEXT)
SKIPPED_FRAME = b"\x50\x2a\x4d\x18\1\0\0\0x"  # of zstd


def wide_zstd() -> bytes:
    """In need of a larger window than anybody may ask for."""
    stream = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: ZSTD_WINDOW_LOG + 1})
    return stream.compress(TEXT) + stream.flush()


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(TEXT)),
        ("x-gzip", gzip.compress(TEXT)),
        ("GZIP", gzip.compress(TEXT)),
        (" identity, gzip", gzip.compress(TEXT)),
        ("gzip", gzip.compress(TEXT[:100]) + gzip.compress(b"") + gzip.compress(TEXT[100:])),
        ("gzip", gzip.compress(TEXT) + b"\n"),
        ("gzip", gzip.compress(TEXT) + bytes(1000)),
        ("deflate", DEFLATED),
        ("deflate", DEFLATED[2:-4]),
        ("br", brotli.compress(TEXT)),
        ("br", brotli.compress(TEXT, quality=1, lgwin=10)),
        ("zstd", zstd.compress(TEXT)),
        ("zstd", zstd.compress(TEXT[:100]) + SKIPPED_FRAME + zstd.compress(TEXT[100:])),
        ("zstd", zstd.compress(TEXT) + b"\n"),
        ("br", brotli.compress(TEXT) + b"\n"),
        ("identity", TEXT),
        ("", TEXT),
        *(
            (name, TEXT)
            for name in ("none", "UTF-8", "utf8", "iso-8859-1", "windows-1252", "8bit", "binary", "US-ASCII")
        ),
        ("UTF-8, gzip", gzip.compress(TEXT)),
    ],
)
def test_a_content_coding_is_undone(origin: Origin, coding: str, body: bytes):
    page = fetched(origin.page("/coded", body, headers={"Content-Encoding": coding}))
    assert page.body == TEXT
    assert page.received_bytes == len(body)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("content", [b"", b"x", os.urandom(3 * STEP_BYTES), bytes(3 * STEP_BYTES), TEXT])
def test_a_body_decodes_the_same_wherever_it_is_cut(coding: str, content: bytes):
    encode = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress, "zstd": zstd.compress}[coding]
    body = encode(content)
    for cut in {0, 1, 2, 3, 10, 18, len(body) // 2, len(body) - 1, len(body)}:
        assert decoded(coding, body[:cut], body[cut:]) == content


def decoded(coding: str, *parts: bytes) -> bytes | None:
    """What the parts of a body decode to; None when that is an error."""
    decoder = CODINGS[coding]()
    pieces: list[bytes] = []
    try:
        for part in parts:
            pieces += decoder.feed(part)
        decoder.end()
    except (*DECODE_ERRORS, DecodeFailed):
        return None
    assert max(map(len, pieces), default=0) <= STEP_BYTES
    return b"".join(pieces)


BEHIND = [
    b"\n",
    b"\x1f",
    b"\x1fx",
    b"\x1f\x8b",
    b"\x28",
    b"\x28\xb5\x2f",
    b"\x28\xb5\x2f\xff",
    b"\x50\x2a",
    bytes(64),
    b"x" * 65,
]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("behind", BEHIND, ids=map(repr, BEHIND))
def test_what_stands_behind_a_coded_body_is_judged_the_same_wherever_it_is_cut(coding: str, behind: bytes):
    encode = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress, "zstd": zstd.compress}[coding]
    body = encode(TEXT[:300]) + behind
    ways = {decoded(coding, body[:cut], body[cut:]) for cut in range(len(body) + 1)}
    ways.add(decoded(coding, *(body[at : at + 1] for at in range(len(body)))))
    begins_another = (coding == "gzip" and behind == b"\x1f\x8b") or (coding == "br" and len(behind) > 64)
    assert ways == {None if begins_another else TEXT[:300]}


@pytest.mark.parametrize("declared", [0, 2])
@pytest.mark.parametrize("behind", [b"", bytes(9), zstd.compress(b"x")])
def test_a_frame_of_another_size_than_it_declares_is_judged_the_same_wherever_it_is_cut(declared: int, behind: bytes):
    """An empty block, and an empty last one: libzstd looks at the size of such a frame only when it comes whole."""
    body = bytes.fromhex("28b52ffd20") + bytes([declared]) + bytes.fromhex("000000 010000") + behind
    ways = {decoded("zstd", body[:cut], body[cut:]) for cut in range(len(body) + 1)}
    ways.add(decoded("zstd", *(body[at : at + 1] for at in range(len(body)))))
    assert len(ways) == 1


CONTENTS = [TEXT[:60], b"", b"x", TEXT[:5000], os.urandom(3000), bytes(3000), b"\0" * 5 + b"\xff" * 5]


@pytest.mark.parametrize("level", [0, 1, 9])
@pytest.mark.parametrize("strategy", [zlib.Z_DEFAULT_STRATEGY, zlib.Z_FIXED, zlib.Z_HUFFMAN_ONLY])
@pytest.mark.parametrize(("coding", "bits", "check"), [("gzip", 31, 8), ("deflate", 15, 4), ("deflate", -15, 0)])
def test_a_body_is_whole_when_only_its_checksum_is_missing(
    coding: str, bits: int, check: int, level: int, strategy: int
):
    for content in CONTENTS:
        encoder = zlib.compressobj(level, zlib.DEFLATED, bits, 9, strategy)
        body = encoder.compress(content) + encoder.flush()
        assert decoded(coding, body) == content
        for cut in range(max(0, len(body) - check - 40), len(body)):
            whole = content if cut >= len(body) - check else None
            assert decoded(coding, body[:cut]) == whole, (content[:10], cut, len(body))
        if check:
            assert decoded(coding, body[:-1] + bytes([body[-1] ^ 1])) is None  # a wrong one is no missing one


def test_accept_encoding_names_what_is_undone(origin: Origin):
    fetched(origin.url("/until-close"))
    accepted = next(line for line in origin.heads["/until-close"][-1].split("\r\n") if line.startswith("Accept-Enc"))
    assert set(accepted.split(": ")[1].split(", ")) == set(CODINGS) - {"x-gzip"}


# ── redirects ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed(origin: Origin, status: int):
    page = fetched(origin.redirect("/moved", "/until-close", status) + "#part")
    assert (page.final_url, page.status, page.body) == (origin.url("/until-close#part"), 200, PAGE)


@pytest.mark.parametrize(("limit", "enough"), [(0, False), (2, False), (3, True), (10, True)])
def test_so_many_redirects_are_followed_and_no_more(origin: Origin, limit: int, enough: bool):
    url = origin.url("/redirects?n=3")
    if enough:
        assert fetched(url, max_redirects=limit).final_url == origin.url("/redirects?n=0")
    else:
        error, page = failed(url, max_redirects=limit)
        assert isinstance(error, TooManyRedirects)
        assert (page.status, page.final_url) == (302, origin.url(f"/redirects?n={3 - limit}"))


def test_a_circle_of_redirects_is_noticed(origin: Origin):
    before = origin.hits["/loop"]
    error, _ = failed(origin.url("/loop"), max_redirects=100)
    assert isinstance(error, TooManyRedirects)
    assert origin.hits["/loop"] == before + 1


def test_a_redirect_that_only_adds_a_question_mark_is_no_circle(origin: Origin):
    async def answer(request: Request) -> AsyncIterator[bytes]:
        asked = request.head.split(" ")[1]
        yield head(200) + PAGE if asked.endswith("?") else head(302, {"Location": "/bare?"})

    page = fetched(origin.route("/bare", answer))
    assert (page.final_url, page.body) == (origin.url("/bare?"), PAGE)


@pytest.mark.parametrize("location", ["", "  \t "])
def test_an_empty_location_leads_nowhere(origin: Origin, location: str):
    error, page = failed(origin.redirect("/to-nothing", location))
    assert (error.type, page.status) == ("http_status", 302)


def test_a_location_is_read_as_browsers_do(origin: Origin):
    origin.page("/a%20b", "spaces")
    assert fetched(origin.redirect("/odd", "\\x\\..\\a \tb  ")).body == b"spaces"


@pytest.mark.parametrize("status", [302, 200])
def test_two_locations_lead_in_two_directions(origin: Origin, status: int):
    lines = b"Location: /until-close\r\nLocation: /until-close\r\nLocation: /chunked\r\nContent-Length: 0\r\n\r\n"
    url = origin.raw("/fork", b"HTTP/1.1 %d Fork\r\n" % status + lines)
    if status == 200:
        assert fetched(url).body == b""
    else:
        error, _ = failed(url)
        assert isinstance(error, BadResponse)


@pytest.mark.parametrize(
    ("location", "kind"),
    [
        ("http://169.254.169.254/latest/meta-data/", BlockedAddress),
        ("http://10.0.0.1/", BlockedAddress),
        ("http://0xa000001/", BlockedAddress),
        ("http://127.0.0.1:22/", BlockedAddress),
        ("file:///etc/passwd", InvalidUrl),
        ("gopher://127.0.0.1/", InvalidUrl),
        ("data:text/html,x", InvalidUrl),
        ("http://user:pw@127.0.0.1/", InvalidUrl),
        ("http://\xff.example/", InvalidUrl),
    ],
)
def test_a_redirect_leads_nowhere_else(origin: Origin, location: str, kind: type[UrlError]):
    error, page = failed(origin.redirect("/away", location))
    assert type(error) is kind
    assert (page.status, page.final_url) == (302, origin.url("/away"))


def test_a_location_in_bytes_that_are_no_utf_8_is_escaped(origin: Origin):
    origin.page("/%E4pfel", "apples")
    assert fetched(origin.redirect("/fruit", "/\xe4pfel")).body == b"apples"


def test_a_location_that_is_too_long_takes_no_step_for_each_of_its_bytes() -> None:
    longest, longer = "\udcff" * MAX_URL_CHARS, "\udcff" * 60_000
    assert _escaped(longest) == "%FF" * MAX_URL_CHARS
    assert steps(lambda: _escaped(longer)) < 10
    with pytest.raises(InvalidUrl, match="characters"):
        follow(parse_url("http://a.example/"), _escaped(longer))


def test_the_body_of_a_redirect_is_not_read(origin: Origin):
    page = fetched(origin.url("/fat-redirect"))
    assert page.body == PAGE


SECRETS = {"Authorization": "Bearer secret", "Cookie": "session=secret", "X-Api-Key": "secret"}


@pytest.mark.parametrize("elsewhere", ["port", "name", "scheme"])
def test_a_clients_headers_stay_with_the_origin_they_were_given_for(origin: Origin, elsewhere: str, trusted: None):
    with Origin(tls=elsewhere == "scheme") as other:
        host = "localhost" if elsewhere == "name" else None
        target = other.page("/elsewhere", "there")
        there = origin.page("/there", "x") if elsewhere == "name" else target
        where = origin.url("/there", host) if elsewhere == "name" else there
        fetched(origin.redirect("/leak", where), given=options(headers=SECRETS))
        received = (origin.heads["/there"] if elsewhere == "name" else other.heads["/elsewhere"])[-1]
    assert "secret" in origin.heads["/leak"][-1]
    assert "secret" not in received
    assert "User-Agent: fastmesh/test" in received


def test_a_foreign_origin_does_not_get_them_sent_back_home(origin: Origin):
    origin.page("/home", "x")
    with Origin() as other:
        fetched(origin.redirect("/out", other.redirect("/back", origin.url("/home"))), given=options(headers=SECRETS))
    assert "secret" not in origin.heads["/home"][-1]


def test_the_user_agent_is_no_secret_and_goes_everywhere(origin: Origin):
    with Origin() as other:
        there = other.page("/elsewhere", "there")
        fetched(origin.redirect("/leak", there), given=options(headers={**SECRETS, "user-agent": "mine/2"}))
        received = other.heads["/elsewhere"][-1]
    assert "User-Agent: mine/2\r\n" in received  # the name by which the robots.txt there was read
    assert "secret" not in received


def test_at_the_same_origin_they_are_sent_again(origin: Origin):
    origin.page("/same", "x")
    fetched(origin.redirect("/to-same", "/same"), given=options(headers=SECRETS))
    assert origin.heads["/same"][-1].count("secret") == 3


def cookies_of(head: str) -> str | None:
    """The Cookie of a request's *head*."""
    return next((line[8:] for line in head.split("\r\n") if line.lower().startswith("cookie: ")), None)


def cookie_wall(origin: Origin, path: str, *set_cookie: str, location: str | None = None) -> str:
    """A page that shows itself to who gives back a cookie, and sends everybody else to fetch one."""

    async def answer(request: Request) -> AsyncIterator[bytes]:
        if cookies_of(request.head):
            yield head(200, {"Content-Type": "text/html"}) + PAGE
        else:
            lines = "".join(f"Set-Cookie: {line}\r\n" for line in set_cookie)
            yield f"HTTP/1.1 302 Found\r\n{lines}Location: {location or path}\r\nContent-Length: 0\r\n\r\n".encode()

    return origin.route(path, answer)


def test_a_cookie_that_a_redirect_sets_is_given_back(origin: Origin):
    page = fetched(cookie_wall(origin, "/wall", "seen=1; Path=/", "more=2"))
    assert (page.status, page.body, page.final_url) == (200, PAGE, origin.url("/wall"))
    assert [cookies_of(asked) for asked in origin.heads["/wall"]] == [None, "seen=1; more=2"]


def test_without_cookies_such_a_page_is_a_circle(origin: Origin):
    error, _ = failed(cookie_wall(origin, "/closed-wall", "seen=1"), given=options(cookies="none"))
    assert isinstance(error, TooManyRedirects)
    assert [cookies_of(asked) for asked in origin.heads["/closed-wall"]] == [None]


def test_a_circle_is_the_same_url_with_the_same_cookies(origin: Origin):
    origin.page("/sticky", status=302, headers={"Location": "/sticky", "Set-Cookie": "seen=1"})
    error, _ = failed(origin.url("/sticky"), max_redirects=100)
    assert isinstance(error, TooManyRedirects)
    assert "circle" in error.message
    assert [cookies_of(asked) for asked in origin.heads["/sticky"]] == [None, "seen=1"]


def test_one_that_changes_each_time_ends_with_the_redirects(origin: Origin):
    async def answer(_: Request) -> AsyncIterator[bytes]:
        yield head(302, {"Location": "/counter", "Set-Cookie": f"n={origin.hits['/counter']}"})

    error, _ = failed(origin.route("/counter", answer), max_redirects=5)
    assert isinstance(error, TooManyRedirects)
    assert origin.hits["/counter"] == 6


def test_cookies_are_forgotten_with_the_url(origin: Origin):
    async def main(fetcher: Fetcher) -> None:
        for _ in range(2):
            await Page(url, options()).come(fetcher)
        await Page(origin.url("/set-once"), options()).come(fetcher)

    url = cookie_wall(origin, "/forgetful", "seen=1; Path=/")
    origin.page("/set-once", "x")
    uvloop.run(with_fetcher(main))
    assert [cookies_of(asked) for asked in origin.heads["/forgetful"]] == [None, "seen=1"] * 2
    assert cookies_of(origin.heads["/set-once"][-1]) is None


def test_a_cookie_goes_to_nobody_else_and_is_still_there_on_the_way_back(origin: Origin):
    origin.page("/in-again", "x")
    with Origin() as other:
        back = other.page(
            "/back", status=302, headers={"Location": origin.url("/in-again"), "Set-Cookie": "theirs=1; Path=/"}
        )
        origin.page("/out-of", status=302, headers={"Location": back, "Set-Cookie": "ours=1; Path=/; Domain=127.0.0.1"})
        fetched(origin.url("/out-of"))
        assert cookies_of(other.heads["/back"][-1]) is None
    assert cookies_of(origin.heads["/in-again"][-1]) == "ours=1"


def test_what_cookies_were_used_for_is_neither_cached_nor_shared(origin: Origin):
    async def answer(request: Request) -> AsyncIterator[bytes]:
        request.keep_alive = True
        await asyncio.sleep(0.02)  # so that the two are under way at once
        kept = {"Cache-Control": "max-age=3600", "Content-Length": "0"}
        if cookie := cookies_of(request.head):
            yield head(200, {**kept, "X": "y", "Content-Length": str(len(cookie))}) + cookie.encode()
        else:
            yield head(302, {**kept, "Location": "/session", "Set-Cookie": f"id={origin.hits['/session']}"})

    async def main(fetcher: Fetcher) -> None:
        shared = options(cache_mode="read_through")
        pages = [Page(origin.url("/session"), shared) for _ in range(3)]
        await asyncio.gather(*(page.come(fetcher) for page in pages[:2]))
        await pages[2].come(fetcher)
        # Everybody got a session of his own.
        assert len({page.body for page in pages}) == 3
        assert [(page.from_cache, page.answer) for page in pages] == [(False, None)] * 3
        assert (fetcher._answers.cache.answers, origin.hits["/session"]) == (0, 6)
        # A page that no cookie was sent for is like any other.
        for _ in range(2):
            await Page(origin.url("/plain"), options(cache_mode="read_through")).come(fetcher)
        assert (fetcher._answers.cache.answers, origin.hits["/plain"]) == (1, 1)

    origin.route("/session", answer)
    origin.page("/plain", "x", headers={"Cache-Control": "max-age=3600", "Set-Cookie": "a=b"})
    uvloop.run(with_fetcher(main))


def test_a_clients_own_cookie_wins_and_goes_only_where_it_went(origin: Origin):
    own = options(headers={"cookie": "mine=1"})
    origin.page("/own-next", "x")
    origin.page("/own", status=302, headers={"Location": "/own-next", "Set-Cookie": "theirs=1; Path=/"})
    fetched(origin.url("/own"), given=own)
    assert cookies_of(origin.heads["/own-next"][-1]) == "mine=1"
    with Origin() as other:
        fetched(origin.redirect("/own-away", cookie_wall(other, "/wall", "theirs=2")), given=own)
        assert [cookies_of(asked) for asked in other.heads["/wall"]] == [None, "theirs=2"]


@pytest.mark.parametrize(
    "headers",
    [{name: "x"} for name in sorted(RESERVED)]
    + [
        {"Transfer_Encoding": "chunked"},
        {"content_length": "5"},
        {"Proxy-Authorization_": "x", "Proxy_Authorization": "x"},
        {"X-A": "b", "x-a": "c"},
        {"X-A": "b\r\nX-Injected: c"},
        {"X-A\r\nX-Injected": "c"},
        {"X A": "b"},
        {"": "b"},
        {"X-A": "ü"},
        {"X-A": "\x00"},
    ],
)
def test_a_header_that_would_frame_the_request_is_refused(origin: Origin, headers: dict[str, str]):
    before = origin.hits["/until-close"]
    error, _ = failed(origin.url("/until-close"), given=options(headers=headers))
    assert isinstance(error, InvalidUrl)
    assert origin.hits["/until-close"] == before


# ── what fails, and as what ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "kind", "status"),
    [
        ("/status-999", HttpStatus, 999),
        ("/nowhere", HttpStatus, 404),
        ("/cut-length", ConnectFailed, 200),
        ("/cut-chunked", ConnectFailed, 200),
        ("/reset", ConnectFailed, 0),
        ("/reset-length", ConnectFailed, 200),
        ("/reset-close", ConnectFailed, 200),
        ("/bad-chunk", BadResponse, 200),
        ("/empty", ConnectFailed, 0),
        ("/http-2", BadResponse, 0),
        ("/no-http", BadResponse, 0),
        ("/two-lengths", BadResponse, 0),
        ("/length-and-chunked", BadResponse, 0),
        ("/chunked-tab", BadResponse, 0),
        ("/chunked-gzip", BadResponse, 0),
        ("/endless-headers", BadResponse, 0),
        ("/endless-header", BadResponse, 0),
        ("/endless-interim", BadResponse, 0),
        ("/endless-trailers", BadResponse, 200),
        ("/endless-extension", BadResponse, 200),
        ("/endless", TooLarge, 200),
        ("/gzip-bomb", TooLarge, 200),
        ("/brotli-bomb", TooLarge, 200),
        (f"/sizes?n={LIMIT_BYTES + 1}", TooLarge, 200),
        ("/sizes?n=99999999999999", TooLarge, 200),
        ("/empty-members", DecodeFailed, 200),
        ("/truncated-gzip", DecodeFailed, 200),
    ],
)
def test_a_hostile_origin_ends_in_a_typed_error_long_before_its_deadline(
    origin: Origin, path: str, kind: type[UrlError], status: int
):
    error, page = failed(origin.url(path), given=options(timeout_ms=30_000))
    assert type(error) is kind
    assert (page.status, page.body) == (status, b"")
    assert page.fetch_s < 10


@pytest.mark.parametrize("path", ["/silent", "/slow-headers", "/drip"])
def test_the_deadline_holds_however_the_origin_drags_its_feet(origin: Origin, path: str):
    error, page = failed(origin.url(path), given=options(timeout_ms=300))
    assert isinstance(error, FetchTimeout)
    assert 0.29 < page.fetch_s < 2


def test_the_deadline_is_one_for_all_redirects(origin: Origin):
    async def slow(request: Request) -> AsyncIterator[bytes]:
        await asyncio.sleep(0.1)
        yield head(302, {"Location": f"/slow?n={int(request.query['n']) + 1}", "Content-Length": "0"})

    error, page = failed(origin.route("/slow", slow) + "?n=0", given=options(timeout_ms=350), max_redirects=1000)
    assert isinstance(error, FetchTimeout)
    assert page.fetch_s < 2


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", b"this is no gzip"),
        ("gzip", gzip.compress(TEXT)[:500]),
        ("gzip", gzip.compress(TEXT)[:1000] + b"?" * 1000),
        ("deflate", b"\xff\xff\xff"),
        ("deflate", b"x"),
        ("deflate", DEFLATED[:-10]),
        ("br", b"this is no brotli"),
        ("br", brotli.compress(TEXT)[:-10]),
        ("gzip, br", gzip.compress(TEXT)),
        ("gzip, gzip", gzip.compress(gzip.compress(TEXT))),
        ("zstd", b"\x28\xb5\x2f\xfd"),
        ("zstd", b"this is no zstd"),
        ("zstd", zstd.compress(TEXT)[:-10]),
        ("zstd", zstd.compress(b"") * (MAX_MEMBERS + 1)),
        ("zstd", wide_zstd()),
        ("gzip", gzip.compress(b"") * (MAX_MEMBERS + 1)),
        ("compress", TEXT),
        ("br", brotli.compress(TEXT) + bytes(65)),
    ],
)
def test_a_broken_or_unknown_content_coding_is_a_decode_error(origin: Origin, coding: str, body: bytes):
    error, _ = failed(origin.page("/broken", body, headers={"Content-Encoding": coding}))
    assert isinstance(error, DecodeFailed)
    assert not error.retryable


@pytest.mark.parametrize(
    ("coding", "encode"), [("gzip", gzip.compress), ("br", brotli.compress), ("zstd", zstd.compress)]
)
def test_what_decodes_to_far_more_than_a_page_is_too_large(origin: Origin, coding: str, encode: Any):
    roomy = options(max_body_bytes=16 << 20)
    bomb = encode(bytes(8 << 20))
    error, _ = failed(origin.page("/dense", bomb, headers={"Content-Encoding": coding}), given=roomy)
    assert isinstance(error, TooLarge)
    assert "200 times" in error.message
    small = encode(bytes(RATIO_FREE_BYTES))
    page = fetched(origin.page("/less", small, headers={"Content-Encoding": coding}), given=roomy)
    assert len(page.body) == RATIO_FREE_BYTES


def test_bodies_over_the_total_wait_for_one_another_and_all_arrive(origin: Origin):
    """16 bodies of 1 MB through 100 KB: only the one that began first may pass the total."""
    body = os.urandom(1_000_000)
    url = origin.page("/large", body)

    async def all_of_them(fetcher: Fetcher) -> None:
        most = 0

        async def one() -> None:
            nonlocal most
            page = Page(url, options())
            await page.come(fetcher)
            most = max(most, fetcher.origins.budget.used_bytes)
            assert page.body == body
            page.let_go()

        await asyncio.gather(*(one() for _ in range(16)))
        # The total, the one that goes on, and what each of the others had already read.
        assert len(body) <= most <= 100_000 + len(body) + 16 * MAX_READ_BYTES
        assert (fetcher.origins.budget.used_bytes, fetcher.origins.budget.waiting) == (0, 0)

    uvloop.run(with_fetcher(all_of_them, total_bytes=100_000))


def test_a_fetch_that_fails_gives_back_what_it_held(origin: Origin):
    async def broken(fetcher: Fetcher) -> None:
        whole = gzip.compress(os.urandom(300_000))
        page = Page(origin.page("/ends-early", whole[:-10], headers={"Content-Encoding": "gzip"}), options())
        with pytest.raises(DecodeFailed):
            await page.come(fetcher)
        assert (fetcher.origins.budget.used_bytes, page.body, page.share) == (0, b"", None)

    uvloop.run(with_fetcher(broken))


@pytest.mark.parametrize(
    ("status", "headers", "retryable", "wait_s"),
    [
        (300, {}, False, None),
        (302, {}, False, None),
        (304, {}, False, None),
        (306, {"Location": "/"}, False, None),
        (400, {}, False, None),
        (408, {}, True, None),
        (429, {"Retry-After": "7"}, True, 7.0),
        (500, {"Retry-After": "soon"}, True, None),
        (503, {"Retry-After": "99999999"}, True, MAX_RETRY_AFTER_S),
        (600, {}, False, None),
    ],
)
def test_an_answer_that_is_no_page_says_so(
    origin: Origin, status: int, headers: dict[str, str], retryable: bool, wait_s: float | None
):
    error, page = failed(origin.page("/status", "sorry", status=status, headers=headers))
    assert (error.type, error.retryable, error.retry_after_s) == ("http_status", retryable, wait_s)
    assert (page.status, page.body) == (status, b"")


@pytest.mark.parametrize(
    ("value", "wait_s"),
    [
        (None, None),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("-1", None),
        ("1.5", None),
        ("", None),
        ("9" * 5000, None),
        ("Mon, 01 Jan 2024 00:01:00 GMT", 60.0),
        ("Monday, 01-Jan-24 00:01:00 GMT", 60.0),
        ("Mon Jan  1 00:01:00 2024", 60.0),
        ("Sun, 31 Dec 2023 00:00:00 GMT", 0.0),
        ("Fri, 01 Jan 2100 00:00:00 GMT", MAX_RETRY_AFTER_S),
        ("Mon, 99 Jan 2024 00:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, wait_s: float | None):
    assert retry_after_s(value, datetime(2024, 1, 1, tzinfo=UTC)) == wait_s


def test_a_refused_connection_says_so():
    with socket.socket() as closed:  # bound, but nobody listens
        closed.bind(("127.0.0.1", 0))
        error, page = failed(f"http://127.0.0.1:{closed.getsockname()[1]}/")
    assert (error.type, error.retryable) == ("connect", True)
    assert "Connection refused" in error.message
    assert (page.status, page.final_url) == (0, None)


def test_a_connection_that_is_never_accepted_is_a_timeout():
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for client in (first, second):  # they fill the backlog, and the kernel drops what comes after
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        error, page = failed(f"http://127.0.0.1:{full.getsockname()[1]}/", connect_timeout_ms=200)
    assert isinstance(error, FetchTimeout)
    assert page.fetch_s < 2


def test_a_fetcher_that_closes_ends_what_runs(origin: Origin):
    async def main(fetcher: Fetcher) -> None:
        running = asyncio.create_task(Page(url, options()).come(fetcher))
        await asyncio.to_thread(asked.wait)
        await fetcher.close()
        with pytest.raises(UrlError):
            await running

    url, asked = hanging(origin)
    uvloop.run(with_fetcher(main))


# ── names ────────────────────────────────────────────────────────────────────────────────


def test_localhost_is_loopback_without_a_lookup(origin: Origin):
    with Nameserver({}) as names:
        for host in ("localhost", "LOCALHOST.", "any.thing.localhost"):
            assert fetched(origin.url("/until-close", host), names).body == PAGE
            error, _ = failed(origin.url("/until-close", host), names, allow_networks="")
            assert isinstance(error, BlockedAddress)
        assert not names.asked


def test_one_allowed_loopback_network_is_enough_for_localhost(origin: Origin):
    assert fetched(origin.url("/until-close", "localhost"), allow_networks="127.0.0.0/8").body == PAGE


def test_a_name_is_resolved_and_the_time_is_told(origin: Origin):
    with Nameserver({"page.test": [["127.0.0.1"]]}) as names:
        page = fetched(origin.url("/until-close", "page.test"), names)
    assert page.body == PAGE
    assert 0 < page.dns_s <= page.fetch_s
    assert f"Host: page.test:{origin.port}\r\n" in origin.heads["/until-close"][-1]


@pytest.mark.parametrize(
    "addresses", [["10.0.0.1"], ["169.254.169.254"], ["127.0.0.1", "10.0.0.1"], ["93.184.216.34", "0.0.0.0"]]
)
def test_one_refused_address_refuses_the_name(origin: Origin, addresses: list[str]):
    connections = origin.connections
    with Nameserver({"mixed.test": [addresses]}) as names:
        error, _ = failed(origin.url("/until-close", "mixed.test"), names, allow_networks="127.0.0.1/32")
    assert isinstance(error, BlockedAddress)
    assert f"mixed.test leads to {addresses[-1]}, which" in error.message
    assert "FETCH__ALLOW_NETWORKS" in error.message
    assert origin.connections == connections


def test_a_name_that_changes_after_the_check_is_not_followed(origin: Origin, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(names_module, "MIN_KEPT_S", 0)
    # 127.0.0.1 plays the public address, 127.0.0.2 the private one: only the first is allowed.
    with Nameserver({"rebind.test": [["127.0.0.1"], ["127.0.0.2"]]}) as names:

        async def main(fetcher: Fetcher) -> None:
            first = Page(origin.url("/until-close", "rebind.test"), options())
            await first.come(fetcher)
            # One lookup served the check and the connection.
            assert (first.body, names.asked["rebind.test"]) == (PAGE, 1)
            with pytest.raises(BlockedAddress, match=r"127\.0\.0\.2"):
                await Page(origin.url("/until-close", "rebind.test"), options()).come(fetcher)

        uvloop.run(with_fetcher(main, names, allow_networks="127.0.0.1/32"))


@pytest.mark.parametrize("host", ["127.0.0.1", "hosts.test"])
def test_the_socket_address_itself_is_judged_right_before_it_is_dialled(origin: Origin, host: str):
    """Where the URL's look and the resolver's are missing: what is left is the connector's own."""

    class Unjudged(GuardedResolver):
        async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[Any]:
            return [
                {"hostname": host, "host": "127.0.0.1", "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}
            ]

    async def main() -> None:
        guard = AddressGuard(FetchSettings())
        with Nameserver({}) as names:
            resolver = Unjudged(guard, names.client())
            async with ClientSession(connector=GuardedConnector(guard, resolver)) as session:
                with pytest.raises(BlockedAddress, match=r"127\.0\.0\.1"):
                    await session.get(origin.url("/until-close", host))
            await resolver.close()

    before = origin.connections
    uvloop.run(main())
    assert origin.connections == before


def test_a_redirect_to_a_name_is_judged_by_its_address(origin: Origin):
    with Nameserver({"inside.test": [["10.0.0.1"]]}) as names:
        error, _ = failed(origin.redirect("/inside", "http://inside.test/"), names)
    assert isinstance(error, BlockedAddress)


def test_a_name_that_does_not_exist_is_a_dns_error():
    with Nameserver({"empty.test": [[]]}) as names:
        for host in ("missing.test", "empty.test"):
            error, page = failed(f"http://{host}/", names)
            assert (error.type, error.retryable, page.status) == ("dns", True, 0)
            assert host in error.message


@pytest.mark.parametrize("failure", [[], BROKEN])
def test_a_retry_asks_for_the_name_again(origin: Origin, failure: tuple[str, ...]):
    url, given = origin.url("/until-close", "ill.test"), options(retries=1)
    page = Page(url, given)

    async def work(fetcher: Fetcher) -> None:
        await with_retries(lambda: page.come(fetcher), page.request)

    asked_by_one_try = 2 if failure is BROKEN else 1
    with Nameserver({"ill.test": [failure] * asked_by_one_try + [["127.0.0.1"]]}) as names:
        uvloop.run(with_fetcher(work, names))
        assert (page.body, page.tries, names.asked["ill.test"]) == (PAGE, 2, asked_by_one_try + 1)


@pytest.mark.parametrize(
    ("given", "settings"),
    [(options(timeout_ms=100), {}), (options(), {"connect_timeout_ms": 100}), (options(), {})],
    ids=["deadline", "connect timeout", "tries"],
)
def test_a_nameserver_that_is_silent_is_a_dns_error(given: CrawlOptions, settings: dict[str, Any]):
    with Nameserver({"silent.test": [SILENCE]}) as names:
        error, page = failed("http://silent.test/", names, given, **settings)
    assert isinstance(error, DnsFailed)
    assert 0.09 < page.dns_s <= page.fetch_s < 3


def test_etc_hosts_is_honoured(origin: Origin):
    own = {name for line in Path("/etc/hosts").read_text().splitlines() for name in line.partition("#")[0].split()[1:]}
    names = sorted(name for name in own if "." not in name and name not in ("localhost", "localhost."))
    loopback = [name for name in names if _resolves_to_loopback(name)]
    if not loopback:
        pytest.skip("/etc/hosts has no name of its own for loopback")
    for name in (loopback[0], f"{loopback[0]}."):
        assert fetched(origin.url("/until-close", name)).body == PAGE


def _resolves_to_loopback(name: str) -> bool:
    try:
        return socket.gethostbyname(name) == "127.0.0.1"
    except OSError:
        return False


def test_the_daemons_own_port_is_refused_behind_a_name_too(origin: Origin):
    async def main() -> None:
        settings = FetchSettings.model_validate({"allow_networks": LOOPBACK})
        guard = AddressGuard(settings)
        guard.own.add(("0.0.0.0", origin.port))
        fetcher = Fetcher(settings, guard, no_answers(), dns=names.client())
        try:
            for host in ("localhost", "self.test", "127.0.0.1"):
                with pytest.raises(BlockedAddress, match="this daemon itself"):
                    await Page(origin.url("/", host), options()).come(fetcher)
        finally:
            await fetcher.close()

    with Nameserver({"self.test": [["127.0.0.1"]]}) as names:
        uvloop.run(main())


# ── TLS ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))


def test_a_trusted_certificate_is_taken(trusted: None):
    with Origin(tls=True) as origin:
        for host in ("localhost", "127.0.0.1"):
            assert fetched(origin.url("/until-close", host)).body == PAGE


def test_an_untrusted_certificate_is_a_tls_error():
    with Origin(tls=True) as origin:
        error, page = failed(origin.url("/until-close"))
    assert (error.type, error.retryable, page.status) == ("tls", False, 0)
    assert "self-signed certificate" in error.message


def test_a_certificate_for_another_name_is_a_tls_error(trusted: None):
    with Origin(tls=True) as origin, Nameserver({"other.test": [["127.0.0.1"]]}) as names:
        error, _ = failed(origin.url("/until-close", "other.test"), names)
        assert error.type == "tls"
        assert origin.hits["/until-close"] == 0


def test_an_origin_that_speaks_no_tls_is_a_tls_error(origin: Origin):
    error, _ = failed(origin.url("/until-close").replace("http:", "https:"))
    assert error.type == "tls"


# ── what no origin, and no environment, can do ───────────────────────────────────────────


def test_the_environment_is_not_asked(origin: Origin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with Origin() as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url())
        monkeypatch.setenv("NO_PROXY", "")
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login user password s3cret\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        assert fetched(origin.url("/until-close")).body == PAGE
        assert proxy.connections == 0
    assert "Authorization" not in origin.heads["/until-close"][-1]


def test_a_connection_is_kept_for_the_next_page(origin: Origin):
    async def main(fetcher: Fetcher) -> None:
        before = origin.connections
        for _ in range(3):
            await Page(origin.url("/chunked"), options()).come(fetcher)
        assert origin.connections == before + 1

    uvloop.run(with_fetcher(main))


def test_what_an_origin_sends_after_its_answer_is_nobodys_answer(origin: Origin):
    smuggled = head(200, {"Content-Type": "text/html", "Content-Length": "8"}) + b"smuggled"
    asked, sent = threading.Event(), threading.Event()

    async def late(request: Request) -> AsyncIterator[bytes]:
        request.keep_alive = True
        yield head(200, {"Content-Length": str(len(PAGE))}) + PAGE
        await asyncio.to_thread(asked.wait)
        yield smuggled
        sent.set()

    origin.route("/late", late)
    origin.page("/next", "mine")

    async def main(fetcher: Fetcher) -> None:
        page = Page(origin.url("/late"), options())
        await page.come(fetcher)
        assert page.body == PAGE
        asked.set()
        await asyncio.to_thread(sent.wait)
        # Now the bytes stand in our socket; the loop reads them before or after the next request begins.
        for _ in range(2):
            after = Page(origin.url("/next"), options())
            await after.come(fetcher)
            assert after.body == b"mine"

    uvloop.run(with_fetcher(main))


@pytest.mark.parametrize(
    "path", ["/gzip-bomb", "/endless", "/endless-interim", "/endless-headers", "/endless-extension"]
)
def test_memory_stays_within_the_limit_and_a_step(origin: Origin, path: str):
    failed(origin.url(path))  # what is made once is made now
    tracemalloc.start()
    try:
        failed(origin.url(path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The limit, what is read ahead and unparsed, and what the origin's own thread holds.
    assert peak < LIMIT_BYTES + 2 * MAX_FRAMING_BYTES + 4 * STEP_BYTES


def test_the_loop_turns_between_the_steps_of_a_body(origin: Origin):
    turns = 0

    async def main(fetcher: Fetcher) -> None:
        nonlocal turns
        fetch = asyncio.create_task(Page(url, options(max_body_bytes=20 * STEP_BYTES)).come(fetcher))
        while not fetch.done():
            turns += 1
            await asyncio.sleep(0)
        await fetch

    url = origin.page(
        "/large", gzip.compress(os.urandom(20_000) * (20 * STEP_BYTES // 20_000)), headers={"Content-Encoding": "gzip"}
    )
    uvloop.run(with_fetcher(main))
    assert turns >= 20


def test_a_cancelled_fetch_leaves_no_connection(origin: Origin):
    async def main(fetcher: Fetcher) -> None:
        fetch = asyncio.create_task(Page(url, options()).come(fetcher))
        await asyncio.to_thread(asked.wait)
        fetch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetch
        assert await asyncio.to_thread(left.wait, 5)

    left = threading.Event()
    url, asked = hanging(origin, left)
    uvloop.run(with_fetcher(main))


def test_no_message_quotes_what_an_origin_sent(origin: Origin):
    secret = b"HTTP/1.1 200 OK\r\nContent-Length s3cret\r\n\r\n"
    for path in (origin.raw("/quote", secret), origin.raw("/quote-2", b"s3cret" * 100)):
        error, _ = failed(path)
        assert "s3cret" not in error.message
