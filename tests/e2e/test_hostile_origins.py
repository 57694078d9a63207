"""One stream over everything that origins can do wrong: every index exactly one result, and the stream goes on."""

from __future__ import annotations

import json

import pytest
from daemons import Daemon
from origins import Origin

# path → the error type that its result must have, None for success; a tuple where the origin's timing decides.
EXPECTED: dict[str, object] = {
    "/until-close": None,
    "/chunked": None,
    "/redirects?n=3": None,
    "/redirects?n=11": "too_many_redirects",
    "/loop": "too_many_redirects",
    "/loop-back": "too_many_redirects",
    "/metadata": "blocked_address",
    "/gzip-bomb": "too_large",
    "/brotli-bomb": "too_large",
    "/truncated-gzip": "decode",
    "/endless": ("too_large", "timeout"),
    "/drip": "timeout",
    "/silent": "timeout",
    "/slow-headers": "timeout",
    "/cut-length": "connect",
    "/cut-chunked": "connect",
    "/endless-headers": "bad_response",
    "/endless-header": "bad_response",
    "/reset": "connect",
    "/reset-length": "connect",
    "/empty": "connect",
    "/no-http": "bad_response",
    "/line-ends": "bad_response",
    "/line-ends-first": None,
    "/odd-interim": None,
    "/two-lengths": "bad_response",
    "/bad-chunk": "bad_response",
    "/latin-1": None,
    "/windows-1251": None,
    "/shift-jis": None,
    "/utf-16": None,
    "/no-type": None,
    "/wrong-type": None,
    "/missing": "http_status",
}
RETRYABLE = {"dns", "connect", "timeout"}


@pytest.fixture(scope="module")
def frames(origin: Origin):
    with Daemon(
        FETCH__ALLOW_NETWORKS="127.0.0.0/8", FETCH__PER_HOST_CONCURRENCY=16, FETCH__MAX_BODY_BYTES=2_000_000
    ) as daemon:
        urls = [origin.url(path) for path in EXPECTED]
        frames = daemon.crawl(*urls, concurrency=32, timeout_ms=3000)
        parts = daemon.ask("GET", "/healthz").json["dependencies"]
        # So many that do not answer are seen; they are no fault of the daemon's.
        assert {name: part["status"] for name, part in parts.items() if part["status"] != "healthy"} == {
            "pipeline": "degraded"
        }
        assert "Traceback" not in daemon.stderr()
        assert daemon.logs("url.bug") == []
        yield frames


def test_every_url_has_one_result_and_totals_reconcile(frames: list[dict]) -> None:
    assert [frame["seq"] for frame in frames] == list(range(1, len(EXPECTED) + 3))
    assert sorted(frame["index"] for frame in frames[1:-1]) == list(range(len(EXPECTED)))
    summary = frames[-1]
    good = sum(frame["result"]["error"] is None for frame in frames[1:-1])
    assert (summary["successful"], summary["failed"], summary["cancelled"]) == (good, len(EXPECTED) - good, 0)
    assert summary["unfinished"] == []


@pytest.mark.parametrize("path", EXPECTED)
def test_says_what_went_wrong(frames: list[dict], path: str) -> None:
    (result,) = (frame["result"] for frame in frames[1:-1] if frame["index"] == list(EXPECTED).index(path))
    wanted = EXPECTED[path]
    error = result["error"]
    if wanted is None:
        assert error is None, error
        assert result["document"] is not None
    else:
        assert result["document"] is None
        assert error["type"] in (wanted if isinstance(wanted, tuple) else (wanted,)), error
        assert error["retryable"] is (error["type"] in RETRYABLE)
        assert error["message"]


@pytest.mark.parametrize(
    ("path", "title"), [("/windows-1251", "Привет"), ("/utf-16", "Äpfel"), ("/wrong-type", None), ("/no-type", None)]
)
def test_reads_the_charset(frames: list[dict], path: str, title: str | None) -> None:
    (result,) = (frame["result"] for frame in frames[1:-1] if frame["result"]["url"].endswith(path))
    assert result["document"]["title"]
    assert title is None or result["document"]["title"] == title


# What ends a line, an event or a chunk somewhere: none of it does so within a frame.
FORGED = "".join(
    f'{end}event: summary{end}id: 1:9{end}data: {{"type":"summary"}}{end}{end}'
    for end in ("\n", "\r", "\r\n", "\x85", "\u2028", "\x0b", "\x00")
)


def test_no_page_and_no_client_forges_a_frame(origin: Origin) -> None:
    page = FORGED.replace("\r", "&#13;")  # which a parser does not take for a line's end
    body = f"<title>{page}</title><meta name=description content='{page}'><a href='/x'>{page}</a><p>{page}".encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; x=\xed\xb2\x80\xff\xe2\x80\xa8\r\n\r\n" + body
    forged = {"url": origin.raw("/forged", answer), "id": FORGED[:250]}
    plain = {"url": origin.page("/forged.txt", FORGED, content_type="text/plain"), "id": "\r\n\r\n0\r\n\r\n"}
    urls = [forged, plain, f"nonsense{FORGED}"]
    asked = {"urls": urls, "options": {"include": ["text", "markdown", "html", "links", "metadata"]}}
    with Daemon(FETCH__ALLOW_NETWORKS="127.0.0.0/8") as daemon:
        lines = daemon.ask("POST", "/crawl/stream", asked).body.decode()
        events = daemon.ask("POST", "/crawl/sse", asked).body.decode()
    assert "\r" not in lines + events
    parts = [part.split("\n") for part in events.removesuffix("\n\n").split("\n\n")]
    assert parts[0].pop(0).startswith("retry: ")
    assert all([line.partition(": ")[0] for line in part] == ["event", "id", "data"] for part in parts)
    for texts in (lines.removesuffix("\n").split("\n"), [part[2][6:] for part in parts]):
        frames = [json.loads(text) for text in texts]
        assert [frame["type"] for frame in frames] == ["metadata", "result", "result", "result", "summary"]
        results = {frame["index"]: frame["result"] for frame in frames[1:-1]}
        assert [results[at].get("id", results[at]["url"]) for at in range(3)] == [forged["id"], plain["id"], urls[2]]
        assert results[0]["error"] is results[1]["error"] is None
        assert "event: summary" in results[0]["document"]["text"]
        assert results[1]["document"]["text"].count("event: summary") == 7


class TestGuard:
    def test_loopback_is_refused_by_default_in_every_spelling(self, origin: Origin) -> None:
        port = origin.port
        hosts = ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0", "[::1]",
                 "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "①②⑦.⓪.⓪.①"]  # fmt: skip
        hits = sum(origin.hits.values())
        with Daemon() as daemon:
            results = [frame["result"] for frame in daemon.crawl(*(f"http://{host}:{port}/" for host in hosts))[1:-1]]
        assert {result["error"]["type"] for result in results} <= {"blocked_address", "invalid_url"}
        assert all(
            "FETCH__ALLOW_NETWORKS" in r["error"]["message"] for r in results if r["error"]["type"] != "invalid_url"
        )
        assert sum(origin.hits.values()) == hits

    def test_the_daemon_does_not_fetch_itself(self) -> None:
        with Daemon(FETCH__ALLOW_NETWORKS="127.0.0.0/8,::1/128") as daemon:
            frames = daemon.crawl(f"http://127.0.0.1:{daemon.port}/livez", f"http://localhost:{daemon.port}/livez")
            assert [frame["result"]["error"]["type"] for frame in frames[1:-1]] == ["blocked_address"] * 2

    def test_ports(self, origin: Origin) -> None:
        with Daemon(FETCH__ALLOW_NETWORKS="127.0.0.0/8", FETCH__ALLOW_PORTS=str(origin.port)) as daemon:
            frames = daemon.crawl(origin.url("/chunked"), "http://127.0.0.1:80/")
            errors = {frame["index"]: frame["result"]["error"] for frame in frames[1:-1]}
            assert errors[0] is None
            assert errors[1]["type"] == "blocked_address"
            assert "FETCH__ALLOW_PORTS" in errors[1]["message"]


def test_a_request_may_lower_a_limit_and_never_raise_it(origin: Origin) -> None:
    with Daemon(FETCH__ALLOW_NETWORKS="127.0.0.0/8", FETCH__MAX_BODY_BYTES=5000, FETCH__TIMEOUT_MS=2000) as daemon:
        origin.page("/big", "x" * 3000)
        origin.page("/too-big", "x" * 5001)
        assert daemon.crawl(origin.url("/too-big"))[1]["result"]["error"]["type"] == "too_large"
        assert daemon.crawl(origin.url("/big"))[1]["result"]["error"] is None
        assert daemon.crawl(origin.url("/big"), max_body_bytes=2000)[1]["result"]["error"]["type"] == "too_large"
        for options in ({"max_body_bytes": 5001}, {"timeout_ms": 2001}):
            answer = daemon.ask("POST", "/crawl/stream", {"urls": ["x"], "options": options})
            assert answer.json["error"]["field"] == f"options.{next(iter(options))}"


def test_concurrency_is_enforced_by_stream_and_host(origin: Origin) -> None:
    with Daemon(FETCH__ALLOW_NETWORKS="127.0.0.0/8", FETCH__PER_HOST_CONCURRENCY=3, FETCH__TIMEOUT_MS=400) as daemon:
        before = origin.connections
        frames = daemon.crawl(*[origin.url("/silent")] * 9, cache_mode="bypass", dedupe=False)
        assert {frame["result"]["error"]["type"] for frame in frames[1:-1]} == {"timeout"}
        assert frames[-1]["total_processing_time_ms"] >= 3 * 400  # nine at once at most three by three
        assert origin.connections - before == 9
        frames = daemon.crawl(*[origin.url("/silent")] * 3, concurrency=1, cache_mode="bypass", dedupe=False)
        assert frames[-1]["total_processing_time_ms"] >= 3 * 400


def test_headers_and_user_agent_are_sent(origin: Origin) -> None:
    with Daemon(FETCH__ALLOW_NETWORKS="127.0.0.0/8", FETCH__USER_AGENT="setting/1") as daemon:
        origin.page("/ua", "x")
        daemon.crawl(origin.url("/ua"))
        daemon.crawl(origin.url("/ua"), user_agent="mine/2", headers={"X-Token": "abc"})
        first, second = (head.lower() for head in origin.heads["/ua"])
        assert "user-agent: setting/1" in first
        assert "user-agent: mine/2" in second
        assert "x-token: abc" in second
        origin.page("/wall", status=302, headers={"Location": "/behind", "Set-Cookie": "seen=1"})
        origin.page("/behind", "x")
        for chosen in ({}, {"cookies": "none"}):
            daemon.crawl(origin.url("/wall"), cache_mode="bypass", **chosen)
        assert ["cookie: seen=1" in head.lower() for head in origin.heads["/behind"]] == [True, False]
        for headers in ({"Host": "x"}, {"X": "a\r\nY: b"}, {"a b": "c"}):
            answer = daemon.ask("POST", "/crawl/stream", {"urls": ["x"], "options": {"headers": headers}})
            assert (answer.status, answer.json["error"]["field"]) == (400, "options.headers")
