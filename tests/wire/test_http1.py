"""HttpParser: the same requests wherever the bytes are cut, exact limits, one reading only."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from budgets import MOST, growth
from hypothesis import given
from hypothesis import strategies as st
from steps import steps

from fastmesh.wire.http1.head import MAX_HEADERS, Request, response_head
from fastmesh.wire.http1.parser import MAX_CHUNK_LINE, MAX_STEPS, HttpParser, Phase

HOST = b"Host: localhost\r\n"
POST = b"POST /p HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

GOOD: dict[str, bytes] = {
    "get": b"GET /a?b=c HTTP/1.1\r\n" + HOST + b"\r\n",
    "head": b"HEAD / HTTP/1.1\r\n" + HOST + b"X: 1\r\nX: 2\r\nY:  spaced\t \r\nEmpty:\r\n\r\n",
    "latin-1": b"GET / HTTP/1.1\r\n" + HOST + b"X: \xe9\xff\r\n\r\n",
    "absolute": b"GET http://localhost/a?b HTTP/1.1\r\n" + HOST + b"\r\n",
    "absolute without a path": b"OPTIONS http://localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n",
    "sized": POST + b"Content-Length: 0005 \r\n\r\nhello",
    "empty body": POST + b"Content-Length: 0\r\n\r\n",
    "chunked": CHUNKED + b"5\r\nhello\r\n0006;a=b;c=\"d\" \r\n world\r\n0\r\n\r\n",
    "trailers": CHUNKED + b"1\r\nx\r\n000\r\nHost: evil\r\nX-Other: y\r\n\r\n",
    "coding in capitals": POST + b"TRANSFER-ENCODING: Chunked\r\n\r\n0\r\n\r\n",
    "leading line ends": b"\r\n\r\n" + b"GET / HTTP/1.1\r\n" + HOST + b"\r\n",
    "continue": POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
    "1.0": b"GET / HTTP/1.0\r\n\r\n",
    "1.0 kept": b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
    "closed": b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n",
    "closed, and what follows": b"GET / HTTP/1.1\r\n" + HOST + b"Connection: x, close\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
    "upgrade": b"GET / HTTP/1.1\r\n" + HOST + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\nGET /admin HTTP/1.1\r\n",
    "underscore": POST + b"Content_Length: 9\r\nTransfer_Encoding: chunked\r\nContent-Length: 1\r\n\r\nx",
    "pipelined": (
        (b"GET /1 HTTP/1.1\r\n" + HOST + b"\r\n") * 3 + POST + b"Content-Length: 1\r\n\r\nx" + CHUNKED + b"0\r\n\r\n"
    ),
}  # fmt: skip

# What two readers could read differently, and what never ends.
BAD: dict[str, tuple[bytes, int]] = {
    "length and coding": (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "coding and length": (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
    **{
        f"coding {coding!r}": (POST + b"Transfer-Encoding: " + coding + b"\r\n\r\n0\r\n\r\n", 400)
        for coding in (b"identity", b"xchunked", b'"chunked"', b"chunked;x", b"gzip, chunked", b"x, chunked",
                       b",chunked", b"chunked,", b"chunked\x0b", b"", b"chunked\r\nTransfer-Encoding: chunked")
    },
    "coding on 1.0": (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    **{
        f"length {length!r}": (POST + b"Content-Length: " + length + b"\r\n\r\nhello", 400)
        for length in (b"+5", b"-5", b"0x5", b"5_0", b"5, 5", b"5;", b"5.0", b"", b"5\r\nContent-Length: 5",
                       b"5\r\nContent-Length: 6", b"5 5", b"\xb2", "٥".encode(), b"1" * 20)
    },
    "length 2^63-1": (POST + b"Content-Length: 9223372036854775807\r\n\r\n", 413),
    "chunk ffffffffffffffff": (CHUNKED + b"ffffffffffffffff\r\n", 413),
    **{
        f"chunk size {size!r}": (CHUNKED + size + b"\r\nx\r\n0\r\n\r\n", 400)
        for size in (b"0x1", b"+1", b"-1", b"1_0", b"g", b"", b" 1", b"1 1", b"1\x00", b"1" * 17)
    },
    "bare LF behind a size": (CHUNKED + b"1\nx\r\n0\r\n\r\n", 400),
    "no line end behind data": (CHUNKED + b"1\r\nxy\r\n0\r\n\r\n", 400),
    "LF behind data": (CHUNKED + b"1\r\nx\n0\r\n\r\n", 400),
    **{
        f"extension {text!r}": (CHUNKED + b"1" + text + b"\r\nx\r\n0\r\n\r\n", 400)
        for text in (b";", b";a=", b';a="b', b';a="b\\"', b';a="b"c', b";a=b=c", b";=b", b';"a"', b";a b", b";a=b c",
                     b";;a", b'; a="\x7f"', b";a=\xe9")
    },
    "endless extension": (CHUNKED + b"1;" + b"a" * 10_000, 400),
    **{
        f"trailer {line!r}": (CHUNKED + b"0\r\n" + line + b"\r\n\r\n", 400)
        for line in (b"bad trailer", b"bad trailer: x", b": x", b"X : y", b" X: y", b"X: y\r\n z", b"X: \x00",
                     b"\xe9: x")
    },
    "too many trailers": (CHUNKED + b"0\r\n" + b"X:\r\n" * (MAX_HEADERS + 1) + b"\r\n", 431),
    "bare LF in trailers": (CHUNKED + b"0\r\nX: y\n\r\n", 400),
    "folded line": (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n", 400),
    "space before the colon": (b"GET / HTTP/1.1\r\n" + HOST + b"X : a\r\n\r\n", 400),
    "leading space": (b"GET / HTTP/1.1\r\n " + HOST + b"\r\n", 400),
    "empty name": (b"GET / HTTP/1.1\r\n" + HOST + b": a\r\n\r\n", 400),
    "no colon": (b"GET / HTTP/1.1\r\n" + HOST + b"X\r\n\r\n", 400),
    "high byte in a name": (b"GET / HTTP/1.1\r\n" + HOST + b"X\xe9: a\r\n\r\n", 400),
    "bare CR": (b"GET / HTTP/1.1\r\n" + HOST + b"X: \rTransfer-Encoding: chunked\r\n\r\n", 400),
    "bare CR at a line's end": (b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\r\n\r\n", 400),
    "bare CR in the end": (b"GET / HTTP/1.1\r\n" + HOST + b"\rX: y\r\n\r\n", 400),
    "bare LF": (b"GET / HTTP/1.1\nHost: localhost\n\n", 400),
    "without a version": (b"GET /x\nHost: a\r\nContent-Length: 5\r\n\r\n", 400),
    **{
        f"{line!r}": (line + b"\r\n" + HOST + b"\r\n", 400)
        for line in (b"GET / HTTP/2.0", b"GET / HTTP/0.9", b"GET / RTSP/1.0", b"GET / HTTP/1.2", b"GET  / HTTP/1.1",
                     b"GET /  HTTP/1.1", b"GET /\tHTTP/1.1", b"get / HTTP/1.1", b"GET / http/1.1", b"GET /",
                     b"GET / HTTP/1.1 ", b"GET / HTTP/11", b"GET HTTP/1.1", b"A" * 21 + b" / HTTP/1.1")
    },
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    **{
        f"{byte!r} in a value": (b"GET / HTTP/1.1\r\n" + HOST + b"X: a" + byte + b"b\r\n\r\n", 400)
        for byte in (b"\x00", b"\x01", b"\x1b", b"\x7f")
    },
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two Hosts": (b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
    **{
        f"Host {host!r}": (b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n", 400)
        for host in (b"", b"a b", b"a/b", b"u@a", b"a:b", b"a, b", b"\xe9", b"a?b", b"[::1", b"a:999999")
    },
    **{
        f"target {target!r}": (b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n", 400)
        for target in (b"/a|b", b"/a^b", b"/{a}", b"/`", b"/?a<b", b"/?a>b", b'/?a"b', b"/?a#b",
                       b"http://evil/x", b"http://u@localhost/", b"http://localhost:99999/", b"https://localhost/",
                       b"*", b"//evil/x", b"/\\evil", b"/a#b", b'/a"b', b"/<a>", b"a", b"localhost:80", b"/\x80", b"?a")
    },
    "CONNECT": (b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "too many fields": (b"GET / HTTP/1.1\r\n" + HOST + b"X:\r\n" * MAX_HEADERS + b"\r\n", 431),
    "upgrade with a body": (POST + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nhi", 400),
    "upgrade with chunks": (CHUNKED[:-2] + b"Connection: upgrade\r\nUpgrade: x\r\n\r\n0\r\n\r\n", 400),
    **{
        f"doubled {name!r}": (POST + name + b": a\r\n" + name + b": a\r\nContent-Length: 0\r\n\r\n", 400)
        for name in (b"Content-Type", b"Origin", b"Expect", b"X-Request-ID")
    },
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
}  # fmt: skip


def read(parser: HttpParser, *pieces: bytes) -> list[Request]:
    """All requests of *pieces*."""
    requests = []
    for piece in pieces:
        parser.receive(piece)
        while parser.pending:
            request = parser.next_request()
            if request is not None:
                requests.append(request)
    return requests


def seen(requests: list[Request]) -> list[tuple[Any, ...]]:
    """What a request is to whoever answers it."""
    return [
        (
            r.method,
            r.path,
            r.query,
            r.headers,
            r.body,
            r.minor,
            r.keep_alive,
            r.fault and (r.fault.type, r.fault.message),
        )
        for r in requests
    ]


@pytest.mark.parametrize("name", GOOD)
def test_a_good_request_has_no_fault(name: str) -> None:
    assert all(request.fault is None for request in read(HttpParser(), GOOD[name]))


@pytest.mark.parametrize("name", BAD)
def test_an_attack_is_refused_and_nothing_follows(name: str) -> None:
    data, status = BAD[name]
    parser = HttpParser()
    requests = read(parser, data)
    assert [request.fault and request.fault.status for request in requests] == [status]
    assert not requests[0].keep_alive
    assert parser.phase is Phase.OVER
    assert read(parser, GOOD["get"]) == []
    assert not parser.pending


# What is refused, by a Python that leaves assertions out (CVE-2025-69227).
WITHOUT_ASSERTIONS = """
import sys
from fastmesh.wire.http1 import HttpParser
for line in sys.stdin:
    parser, statuses = HttpParser(), []
    parser.receive(bytes.fromhex(line))
    while parser.pending:
        request = parser.next_request()
        if request is not None:
            statuses.append(request.fault and request.fault.status)
    print(statuses)
"""


def test_an_attack_is_refused_also_where_assertions_are_left_out() -> None:
    told = subprocess.run(
        [sys.executable, "-O", "-c", WITHOUT_ASSERTIONS],
        input="\n".join(data.hex() for data, _ in BAD.values()),
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.splitlines() == [f"[{status}]" for _, status in BAD.values()]


@pytest.mark.parametrize("data", [*GOOD.values(), *(data for data, _ in BAD.values())], ids=[*GOOD, *BAD])
def test_is_read_the_same_wherever_it_is_cut(data: bytes) -> None:
    good = GOOD["get"]
    data = good + data  # what came before a fault is answered
    whole = seen(read(HttpParser(), data))
    assert len(whole) >= 2
    for cut in range(1, len(data), 1 if len(data) < 1000 else 97):
        assert seen(read(HttpParser(), data[:cut], data[cut:])) == whole, cut
    if len(data) < 3000:
        assert seen(read(HttpParser(), *(data[at : at + 1] for at in range(len(data))))) == whole


@given(
    st.lists(st.sampled_from([*GOOD.values(), *(data for data, _ in BAD.values())]), max_size=6),
    st.randoms(use_true_random=True),
)
def test_any_mix_is_read_the_same_however_it_is_cut(parts: list[bytes], chance: Any) -> None:
    data = b"".join(parts)
    cuts = sorted(chance.randrange(len(data) + 1) for _ in range(20))
    pieces = [data[low:high] for low, high in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert seen(read(HttpParser(), *pieces)) == seen(read(HttpParser(), data))


MANGLED = st.builds(
    lambda data, at, junk: data[:at] + junk + data[at:],
    st.sampled_from([*GOOD.values()]),
    st.integers(0, 120),
    st.binary(max_size=9),
)


@given(st.one_of(st.binary(max_size=400), MANGLED))
def test_whatever_comes_nothing_is_raised(data: bytes) -> None:
    for request in read(HttpParser(), data):
        assert request.fault is not None or request.method


class TestWhatIsRead:
    def test_fields(self) -> None:
        (request,) = read(HttpParser(), GOOD["head"])
        assert request.headers == {"host": "localhost", "x": "1, 2", "y": "spaced", "empty": ""}
        assert (request.method, request.path, request.query) == ("HEAD", "/", "")

    def test_target(self) -> None:
        assert [(r.path, r.query) for r in read(HttpParser(), GOOD["get"] + GOOD["absolute"])] == [
            ("/a", "b=c"),
            ("/a", "b"),
        ]

    def test_a_query_is_taken_as_browsers_send_it(self) -> None:
        query = r"a=|^`{}\&b=[]'!$()*,;:@/?%22"
        (request,) = read(HttpParser(), GOOD["get"].replace(b"b=c", query.encode()))
        assert request.fault is None
        assert (request.path, request.query) == ("/a", query)

    def test_extensions_and_trailers_are_passed_over(self) -> None:
        extensions = (b";a", b" ; a = b", b';a="x;y\\"\\\\\t\xe9"', b";a;b;c=d", b"; a\t", b"\t;a=!#$%&'*+.^_`|~")
        for text in (*extensions, b"", b" "):
            (request,) = read(HttpParser(), CHUNKED + b"1" + text + b"\r\nx\r\n0" + text + b"\r\nX:\xe9\r\n\r\n")
            assert (request.fault, request.body) == (None, b"x"), text

    def test_bodies(self) -> None:
        bodies = [
            r.body for name in ("sized", "chunked", "trailers", "empty body") for r in read(HttpParser(), GOOD[name])
        ]
        assert bodies == [b"hello", b"hello world", b"x", b""]

    def test_trailers_change_nothing(self) -> None:
        (request,) = read(HttpParser(), GOOD["trailers"])
        assert "x-other" not in request.headers
        assert request.headers["host"] == "localhost"

    def test_keep_alive(self) -> None:
        kept = {
            name: read(HttpParser(), GOOD[name])[-1].keep_alive
            for name in ("get", "1.0", "1.0 kept", "closed", "upgrade")
        }
        assert kept == {"get": True, "1.0": False, "1.0 kept": True, "closed": False, "upgrade": False}

    def test_nothing_follows_a_close(self) -> None:
        parser = HttpParser()
        assert len(read(parser, GOOD["closed, and what follows"])) == 1
        assert read(parser, GOOD["get"]) == []

    def test_expectation(self) -> None:
        parser = HttpParser()
        head, body = GOOD["continue"][:-2], GOOD["continue"][-2:]
        assert read(parser, head) == []
        assert parser.awaiting_body is not None
        assert parser.awaiting_body.expects_continue
        (request,) = read(parser, body)
        assert request.body == b"ok"
        assert parser.awaiting_body is None


class TestLimits:
    def test_a_head_may_have_exactly_so_many_bytes(self) -> None:
        bare = b"GET / HTTP/1.1\r\n" + HOST + b"X: \r\n\r\n"
        for lead in (b"", b"\r\n" * 20):
            fits = lead + bare.replace(b"X: ", b"X: " + b"a" * (300 - len(bare) - len(lead)))
            assert len(fits) == 300
            assert read(HttpParser(300), fits)[0].fault is None
            (request,) = read(HttpParser(300), fits.replace(b"X: ", b"X: a"))
            assert request.fault is not None
            assert request.fault.status == 431

    @pytest.mark.parametrize("junk", [b"\r\n", b"a", b"GET /", b"A"])
    def test_a_head_that_never_ends_is_told_at_the_limit(self, junk: bytes) -> None:
        parser = HttpParser(1000)
        start = b"" if junk == b"\r\n" else b"GET /"
        requests = read(parser, start)
        fed = len(start)
        while not requests:
            requests = read(parser, junk)
            fed += len(junk)
            assert fed <= 1100
        assert requests[0].fault is not None
        assert requests[0].fault.status in (400, 431)

    def test_fields_may_be_exactly_so_many(self) -> None:
        head = b"GET / HTTP/1.1\r\n" + HOST + b"X:\r\n" * (MAX_HEADERS - 1) + b"\r\n"
        assert read(HttpParser(), head)[0].fault is None

    @pytest.mark.parametrize(("limit", "status"), [(5, None), (4, 413)])
    def test_a_sized_body(self, limit: int, status: int | None) -> None:
        (request,) = read(HttpParser(max_body_bytes=limit), GOOD["sized"])
        assert (request.fault and request.fault.status) == status

    def test_a_chunked_body_counts_with_its_framing(self) -> None:
        body = b"5\r\nhello\r\n0\r\n\r\n"
        assert read(HttpParser(max_body_bytes=len(body)), CHUNKED + body)[0].fault is None
        (request,) = read(HttpParser(max_body_bytes=len(body) - 1), CHUNKED + body)
        assert request.fault is not None
        assert request.fault.status == 413

    def test_a_chunk_line(self) -> None:
        line = b"1;" + b"a" * (MAX_CHUNK_LINE - 2)
        assert read(HttpParser(), CHUNKED + line + b"\r\nx\r\n0\r\n\r\n")[0].fault is None
        assert read(HttpParser(), CHUNKED + line + b"a\r\nx\r\n0\r\n\r\n")[0].fault is not None

    @pytest.mark.parametrize(
        "start",
        [
            b"",
            POST,
            CHUNKED,
            CHUNKED + b"1;",
            CHUNKED + b"0\r\n",
            POST + b"Content-Length: 1000\r\n\r\n",
            CHUNKED + b"3e8\r\n",
        ],
    )
    @pytest.mark.parametrize("junk", [b"a", b"\r\n", b"X: y\r\n", b"0", b";", b"\x00"])
    def test_what_it_holds_is_bounded_whatever_comes(self, start: bytes, junk: bytes) -> None:
        parser = HttpParser(4096, 4096)
        read(parser, start)
        for _ in range(100):
            read(parser, junk * 1000)
            held = sys.getsizeof(parser._buffer) + sys.getsizeof(parser._body)
            # One feed beyond the limits, and what a growing bytearray allocates ahead.
            assert held <= 3 * (4096 + 4096 + len(junk) * 1000)


def test_a_response_head_has_no_control_characters() -> None:
    assert response_head(200, [("X", "é\t")]) == "HTTP/1.1 200 OK\r\nX: é\t\r\n\r\n".encode("latin-1")
    for text in ("a\r\nb", "a\nb", "a\0b", "\x7f", "\x1b[0m"):
        with pytest.raises(ValueError, match="control character"):
            response_head(200, [("X", text)])
        with pytest.raises(ValueError, match="control character"):
            response_head(200, [(text, "x")])


# ── bounded work ─────────────────────────────────────────────────────────────────────────

READ_BYTES = 262_144  # what a transport hands over at once
STEPS_A_CALL = MAX_STEPS * 8  # a step of the parser is a handful of calls
MANY_FIELDS = b"".join(b"X-%d:\r\n" % at for at in range(MAX_HEADERS - 4))

FLOODS: dict[str, tuple[bytes, bytes]] = {
    "chunks of one byte": (CHUNKED, b"1\r\nx\r\n"),
    "chunks with extensions": (CHUNKED, b"1;a;b=c\r\nx\r\n"),
    "trailers": (CHUNKED + b"0\r\n", b"a:\r\n"),
    "line ends": (b"", b"\r\n"),
    "requests": (b"", b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
    "requests with many fields": (b"", GOOD["get"][:-2] + MANY_FIELDS + b"\r\n"),
    "requests with a field of many elements": (b"", GOOD["get"][:-2] + b"Connection: " + b"," * 65_000 + b"\r\n\r\n"),
    "requests with a field of many blanks": (b"", GOOD["get"][:-2] + b"Connection: " + b", " * 32_000 + b"\r\n\r\n"),
    "bodies of one byte": (b"", POST + b"Content-Length: 1\r\n\r\nx"),
    "chunked bodies of one byte": (b"", CHUNKED + b"1\r\nx\r\n0\r\n\r\n"),
    "header fields": (POST, b"X:\r\n"),
    "a size that never ends": (CHUNKED, b"0"),
    "an extension that never ends": (CHUNKED + b"1", b";a"),
    "a quoted value that never ends": (CHUNKED + b'1;a="', b'\\"'),
}


def worst(parser: HttpParser, data: bytes) -> int:
    """The steps of the call that took most, of the first that *data* gives work for."""
    counts = [steps(lambda: parser.receive(data))]
    while parser.pending and len(counts) < 10:
        counts.append(steps(parser.next_request))
    return max(counts)


@pytest.mark.parametrize("name", FLOODS)
def test_a_call_does_little_whatever_a_read_holds(name: str) -> None:
    start, unit = FLOODS[name]
    parser = HttpParser()
    read(parser, start)
    assert worst(parser, unit * (READ_BYTES // len(unit))) <= STEPS_A_CALL


@pytest.mark.parametrize("name", FLOODS)
@pytest.mark.parametrize("size", [1, 2, 7])
def test_a_packet_costs_the_same_however_much_came_before(name: str, size: int) -> None:
    """Dripped: a packet of a few bytes looks at nothing that was looked at before."""
    start, unit = FLOODS[name]
    parser = HttpParser()
    read(parser, start, (unit * (60_000 // len(unit) + 1))[:60_000])
    for at in range(100):
        most = worst(parser, (unit * 8)[at % len(unit) :][:size])
        assert most <= 12 * size + (4 * MAX_HEADERS if b"HTTP" in unit else 20)


@pytest.mark.parametrize(
    ("name", "unit"),
    [(b"Connection", b", "), (b"Connection", b"close "), (b"Connection", b"a,"), (b"X", b"\t "), (b"Host", b"a.")],
)
def test_a_head_is_read_in_a_time_that_grows_with_its_length(name: bytes, unit: bytes) -> None:
    def head(size: int) -> bytes:
        return b"GET / HTTP/1.1\r\n" + name + b": " + unit * (size // len(unit)) + b"\r\n\r\n"

    assert growth(lambda data: read(HttpParser(), data), head, 16_000) < MOST
