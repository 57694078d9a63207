"""What ended leaves nothing to Python's collector of cycles, however it ended; and its memory comes back."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from conftest import LOOPBACK
from daemons import PATIENCE_S, Daemon
from origins import HOSTILE, HTML, Origin, Request, head
from sockets import CLOSE, TEXT, WebSocket, frame

NEVER_DONE = ("/silent", "/drip", "/slow-headers", "/empty-members")


class Watched(Daemon):
    """A daemon that says what its counts of references left behind."""

    program: ClassVar = (str(Path(__file__).parents[1] / "watched.py"),)

    def found(self) -> dict[str, int]:
        """The objects that nothing could reach any more, by their type, since this was asked last."""
        under_way = ("streaming_active_streams", "streaming_kept_streams", "pipeline_inflight")
        wait(lambda: not any(self.metric(f"fastmesh_{name}") for name in under_way))
        self.process.send_signal(signal.SIGUSR1)
        assert self.process.stdout is not None
        found: dict[str, int] = json.loads(self.process.stdout.readline())
        return found


@pytest.fixture(scope="module")
def watched(origin: Origin) -> Iterator[Watched]:
    settings = {
        "FETCH__ALLOW_NETWORKS": LOOPBACK,
        "FETCH__RETRIES": 1,
        "FETCH__TIMEOUT_MS": 30_000,
        "FETCH__MAX_BODY_BYTES": 1_000_000,
        "FETCH__PER_HOST_CONCURRENCY": 64,
        "FETCH__RESPECT_ROBOTS": "false",
        "FIREHOSE__ENABLED": "true",
        "SEARCH__PROVIDER": "searxng",
        "SEARCH__URL": origin.url("/searx"),
        "STREAM__RESUME_WINDOW_S": 0,
    }
    with Watched(**settings) as running:
        running.found()
        yield running


def wait(until: Callable[[], bool]) -> None:
    """Wait for what must happen."""
    end = time.monotonic() + PATIENCE_S
    while not until():
        assert time.monotonic() < end
        time.sleep(0.02)


def cancelled(watched: Watched, origin: Origin, path: str, **options: object) -> None:
    """A stream that is cancelled while the origin is asked for *path*."""
    before, page = origin.hits[path], "/page" if path == "/robots.txt" else path
    body = {"urls": [origin.url(page)] * 3, "options": options, "stream": {"detach": True}}
    stream_id = watched.ask("POST", "/streams", body).json["stream_id"]
    wait(lambda: origin.hits[path] > before)
    answer = watched.ask("DELETE", f"/streams/{stream_id}")
    assert answer.status == 200, watched.ask("GET", f"/streams/{stream_id}/events").frames
    # Until it was read it would be kept.
    assert watched.ask("GET", f"/streams/{stream_id}/events").frames[-1]["status"] == "cancelled"


def test_pages_leave_nothing_behind(watched: Watched, origin: Origin) -> None:
    urls = [origin.page(f"/cycles/{number}", "<p>Some words.") for number in range(5)]
    for options in ({}, {"order": "input"}, {"dedupe": True}, {"cache_mode": "bypass"}, {"respect_robots": True}):
        assert {frame["type"] for frame in watched.crawl(*urls, *urls, **options)} == {"metadata", "result", "summary"}
    assert watched.ask("POST", "/crawl", {"urls": urls}).status == 200
    assert watched.ask("GET", "/firehose/stream?frames=100").status == 200
    assert watched.found() == {}


@pytest.mark.parametrize("cache_mode", ["read_through", "bypass"])
def test_failures_leave_nothing_behind(watched: Watched, origin: Origin, cache_mode: str) -> None:
    urls: list[str | dict[str, Any]] = [
        {"url": origin.url(f"{path}?n=3"), "options": {"timeout_ms": 300 if path in NEVER_DONE else 30_000}}
        for path in HOSTILE
    ]
    urls += [origin.url("/not-there"), "http://127.0.0.1:9/", "http://no-such-name.invalid/", "no-url"]
    failures = [
        frame["result"]["error"]["type"]
        for frame in watched.crawl(*urls, cache_mode=cache_mode, concurrency=8, retries=0)
        if frame["type"] == "result" and frame["result"]["error"] is not None
    ]
    assert len(failures) > 20
    assert {"bad_response", "blocked_address", "connect", "decode", "dns", "http_status", "invalid_url"} < set(failures)
    assert {"timeout", "too_large", "too_many_redirects"} < set(failures)
    # Tried again: what failed first comes to rest there.
    assert watched.crawl(origin.url("/reset-length"), retries=1)[1]["result"]["attempts"] == 2
    assert watched.found() == {}


def test_a_failure_that_several_wait_for_leaves_nothing_behind(watched: Watched, origin: Origin) -> None:
    def ask(path: str) -> None:
        peers = [watched.connect() for _ in range(3)]
        for peer in peers:
            peer.send(
                peer.request(
                    "POST", "/crawl/stream", {"urls": [origin.url(path)], "options": {"retries": 0, "timeout_ms": 500}}
                )
            )
        for peer in peers:
            assert peer.read().frames[1]["result"]["error"] is not None
            peer.sock.close()

    ask("/reset-close")
    ask("/drip")
    assert watched.found() == {}


def test_searches_leave_nothing_behind(watched: Watched, origin: Origin) -> None:
    found = {"results": [{"url": origin.url("/not-there"), "title": "A page"}]}
    for status, last in ((500, "failed"), (200, "completed")):
        origin.page("/searx/search", json.dumps(found), status=status, content_type="application/json")
        frames = watched.ask("POST", "/deepsearch/stream", {"query": "pages"}).frames
        assert frames[-1]["status"] == last, frames
    origin.route("/searx/search", HOSTILE["/reset"])
    assert watched.ask("POST", "/deepsearch/stream", {"query": "pages"}).frames[-1]["status"] == "failed"
    origin.route("/searx/search", HOSTILE["/silent"])
    before = origin.hits["/searx/search"]
    late = watched.ask("POST", "/deepsearch/stream", {"query": "pages", "stream": {"deadline_s": 0.5}})
    assert late.frames[-1]["status"] == "deadline"
    assert origin.hits["/searx/search"] > before
    assert watched.found() == {}


def test_streams_that_end_early_leave_nothing_behind(watched: Watched, origin: Origin) -> None:
    body = {"urls": [origin.url("/silent")]}
    stream_id = watched.ask("POST", "/streams", body).json["stream_id"]
    assert watched.ask("DELETE", f"/streams/{stream_id}").status == 200  # which nobody had read
    cancelled(watched, origin, "/silent")
    cancelled(watched, origin, "/drip", cache_mode="bypass")
    with Origin() as silent:
        silent.route("/robots.txt", HOSTILE["/silent"])
        cancelled(watched, silent, "/robots.txt", respect_robots=True)
    missing = [origin.url(f"/missing/{number}") for number in range(4)]
    frames = watched.crawl(*missing, stop_after_errors=2, concurrency=1)
    assert (frames[-2]["error"]["type"], frames[-1]["failed"]) == ("too_many_errors", 2)
    assert watched.crawl(origin.url("/silent"), stream={"deadline_s": 0.2})[-1]["status"] == "deadline"
    for path in ("/firehose/stream?frames=1000000", "/firehose/sse?frames=1000000"):
        with watched.connect() as peer:
            peer.send(peer.request("GET", path))
            peer.head()
    assert watched.found() == {}


def test_what_a_client_says_leaves_nothing_behind(watched: Watched, origin: Origin) -> None:
    assert watched.ask("GET", "/nowhere").status == 404
    assert watched.ask("POST", "/crawl/stream", b"{").status == 400
    assert watched.ask("GET", "/metrics").status == 200
    for wrong in (b"NO HTTP\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n"):
        with watched.connect() as peer:
            peer.send(wrong)
            assert peer.read().status == 400
    crawl = json.dumps({"type": "crawl", "id": "1", "urls": [origin.url("/not-there")]}).encode()
    for path, said in (
        ("/crawl/ws", frame(TEXT, crawl)),
        ("/crawl/ws", frame(TEXT, b"no JSON")),
        ("/crawl/ws", frame(TEXT, b"no", mask=None)),
        ("/firehose/ws?frames=1000000", frame(CLOSE)),
    ):
        with WebSocket(watched, path) as client:
            client.send(said)
            client.frame()  # an answer, or of the stream
    assert watched.found() == {}


def test_bodies_that_failed_give_their_memory_back(origin: Origin) -> None:
    size, count = 4_000_000, 40

    async def cut(request: Request) -> AsyncIterator[bytes]:
        yield head(200, {**HTML, "Content-Length": str(size + 1)})
        for _ in range(size // 100_000):
            yield b"x" * 100_000

    url = origin.route("/cut-late", cut)
    with Daemon(FETCH__ALLOW_NETWORKS=LOOPBACK, FETCH__TOTAL_BYTES=size, FETCH__RETRIES=0) as daemon:
        daemon.crawl(url)
        before = daemon.memory()
        urls = [f"{url}?{number}" for number in range(count)]
        failed = [frame for frame in daemon.crawl(*urls, concurrency=4) if frame["type"] == "result"]
        assert {frame["result"]["error"]["type"] for frame in failed} == {"connect"}
        # 160 MB failed; what the allocator keeps of one or two of them is no matter.
        assert daemon.memory() - before < 40_000_000


def test_what_the_collector_finds_is_told_and_is_nothing(origin: Origin) -> None:
    with Daemon(FETCH__ALLOW_NETWORKS=LOOPBACK, STREAM__RESUME_WINDOW_S=0) as daemon:

        def found() -> float:
            names = (
                f'fastmesh_collector_found_objects_total{{generation="{name}"}}' for name in ("young", "middle", "all")
            )
            return sum(daemon.metric(name) for name in names)

        urls = [origin.url(f"/not-there/{number}") for number in range(20)]
        daemon.crawl(*urls)
        before = found()
        assert before > 0  # what the start left
        # Each would leave 200 objects, and at 5,000 the collector looks for them.
        for _ in range(40):
            daemon.crawl(*urls, retries=0)
        assert found() == before


def test_what_a_request_brings_is_counted_while_its_stream_is_open() -> None:
    urls = [f"http://192.0.2.1/{number}/{'x' * 1000}" for number in range(300)]
    with Daemon(BUFFER__TOTAL_BYTES=2_000_000, STREAM__MAX_FRAME_BYTES=1_000_000) as daemon:
        opened = []
        while (answer := daemon.ask("POST", "/streams", {"urls": urls})).status == 201:
            opened.append(answer.json["stream_id"])
            assert len(opened) < 10
            # It is counted with the stream's first step.
            wait(lambda: daemon.metric("fastmesh_streaming_memory_usage_bytes") > len(opened) * 300_000)
        assert answer.json["error"]["type"] == "overloaded"
        assert len(opened) == 6
        for stream_id in opened:
            assert daemon.ask("DELETE", f"/streams/{stream_id}").status == 200
        wait(lambda: daemon.metric("fastmesh_streaming_memory_usage_bytes") < 20_000)
        assert daemon.ask("POST", "/streams", {"urls": urls}).status == 201
