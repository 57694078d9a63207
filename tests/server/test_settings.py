"""Settings whose effect no other test shows."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from daemons import PATIENCE_S, Daemon
from origins import Origin, Request, head
from sockets import WebSocket

ALLOW = {"FETCH__ALLOW_NETWORKS": "127.0.0.0/8"}
PAUSES = 'fastmesh_streaming_backpressure_events_total{event="pause",protocol="ndjson"}'
RESUMES = PAUSES.replace("pause", "resume")


def until(true: Callable[[], Any]) -> None:
    """Wait for what must become true in another process."""
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, "it never came to be"


def test_max_frame_bytes_shortens_documents(origin: Origin) -> None:
    origin.page("/long", "<title>Long</title>" + "<p>words and words" * 3000)
    with Daemon(**ALLOW, STREAM__MAX_FRAME_BYTES=20_000) as daemon:
        frames = daemon.crawl(origin.url("/long"))
        document = frames[1]["result"]["document"]
        assert document["truncated"] is True
        assert document["title"] == "Long"
        assert 10_000 < len(json.dumps(frames[1])) <= 21_000
        answer = daemon.ask("GET", "/firehose/stream?frames=1&bytes=20001")
        assert answer.status == 404  # the firehose is off, whatever is asked of it
    with Daemon(FIREHOSE__ENABLED="true", STREAM__MAX_FRAME_BYTES=20_000) as daemon:
        error = daemon.ask("GET", "/firehose/stream?frames=1&bytes=20001").json["error"]
        assert error["field"] == "bytes"
        assert "STREAM__MAX_FRAME_BYTES" in error["message"]


def test_the_window_is_how_far_a_stream_runs_ahead(origin: Origin) -> None:
    origin.page("/w", "<p>" + "words " * 20_000)
    started = []
    for frames in (4, 40):
        with Daemon(
            **ALLOW,
            BUFFER__INITIAL_FRAMES_NDJSON=frames,
            BUFFER__INITIAL_BYTES=100_000_000,
            BUFFER__MAX_BYTES=100_000_000,
        ) as daemon:
            before = origin.hits["/w"]
            peer = daemon.connect(receive_buffer=4096)
            peer.send(
                peer.request("POST", "/crawl/stream", {"urls": [f"{origin.url('/w')}?{at}" for at in range(200)]})
            )
            while daemon.metric("fastmesh_pipeline_inflight") or not daemon.metric(PAUSES):
                pass
            started.append(origin.hits["/w"] - before)
    assert started[0] + 30 <= started[1] <= started[0] + 45


def test_the_high_mark_is_where_the_transport_pauses() -> None:
    def held(high: int) -> float:
        """What was written to a client that reads nothing."""
        with Daemon(FIREHOSE__ENABLED="true", BUFFER__HIGH_WATER_BYTES=high) as daemon:
            peer = daemon.connect(receive_buffer=4096)
            peer.send(peer.request("GET", "/firehose/stream?frames=1000000"))
            while not daemon.metric(PAUSES):
                pass
            return daemon.metric('fastmesh_streaming_bytes_total{protocol="ndjson"}')

    least = held(16_384)
    assert held(1_000_000) > least + 900_000
    assert least < 500_000  # without a low mark of its own the kernel takes megabytes before anything pauses


def test_the_low_mark_is_where_it_goes_on() -> None:
    with Daemon(
        FIREHOSE__ENABLED="true", BUFFER__HIGH_WATER_BYTES=1_000_000, BUFFER__LOW_WATER_BYTES=900_000
    ) as daemon:
        peer = daemon.connect(receive_buffer=4096)
        peer.send(peer.request("GET", "/firehose/stream?frames=1000000"))
        until(lambda: daemon.metric(PAUSES))
        peer.exactly(600_000)  # far from all that it holds
        until(lambda: daemon.metric(RESUMES))


def test_a_client_that_reads_nothing_is_seen_to_be_slow() -> None:
    with Daemon(FIREHOSE__ENABLED="true") as daemon:
        peer = daemon.connect(receive_buffer=4096)
        peer.send(peer.request("GET", "/firehose/stream?frames=1000000"))
        while not daemon.ask("GET", "/healthz").json["dependencies"]["streaming"]["slow_clients"]:
            pass
        peer.sock.close()


def test_fetch_concurrency_is_over_all_hosts() -> None:
    with Origin("0.0.0.0") as origin, Daemon(**ALLOW, FETCH__CONCURRENCY=2, FETCH__TIMEOUT_MS=300) as daemon:
        urls = [origin.url("/silent", host=f"127.0.0.{at}") for at in range(1, 5)]
        took_ms = daemon.crawl(*urls)[-1]["total_processing_time_ms"]
        assert 2 * 300 <= took_ms < 10_000


def test_connect_timeout() -> None:
    """A listener that nobody accepts from: TCP connects, TLS is never answered."""
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        Daemon(**ALLOW, FETCH__CONNECT_TIMEOUT_MS=300) as daemon,
    ):
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/"
        (result,) = [f["result"] for f in daemon.crawl(url, retries=0, respect_robots=False) if f["type"] == "result"]
        assert result["error"]["type"] == "timeout"
        assert 300 <= result["processing_time_ms"] < 2500


def test_over_the_total_of_bodies_reading_waits(origin: Origin) -> None:
    """The first body is over it by itself and goes on; a second one waits, and its time stands still meanwhile."""
    whole = threading.Event()

    async def large(request: Request) -> AsyncIterator[bytes]:
        yield head(200, {"Content-Type": "text/plain"}) + b"x" * 200_000
        while not whole.is_set():
            yield b"x" * 8192
            await asyncio.sleep(0.02)

    origin.route("/large-body", large)
    small = origin.page("/small-body", "<title>Small</title>")
    options = {"respect_robots": False, "cache_mode": "bypass"}
    with (
        Daemon(**ALLOW, FETCH__TOTAL_BYTES=100_000) as daemon,
        daemon.connect() as first,
        daemon.connect() as second,
    ):
        first.send(first.request("POST", "/crawl/stream", {"urls": [origin.url("/large-body")], "options": options}))
        until(lambda: daemon.metric("fastmesh_fetch_body_bytes") > 200_000)
        hurried = {**options, "timeout_ms": 200, "retries": 0}
        second.send(second.request("POST", "/crawl/stream", {"urls": [small], "options": hurried}))
        until(lambda: daemon.metric("fastmesh_fetch_waiting_bodies") == 1)
        until(lambda: daemon.metric("fastmesh_fetch_body_bytes") > 600_000)  # longer than it may take
        assert daemon.metric("fastmesh_fetch_waiting_bodies") == 1
        whole.set()
        assert first.read().frames[-1]["successful"] == 1
        assert second.read().frames[-1]["successful"] == 1


def test_max_redirects(origin: Origin) -> None:
    with Daemon(**ALLOW, FETCH__MAX_REDIRECTS=2) as daemon:
        two, three = (frame["result"]["error"] for frame in sorted(
            daemon.crawl(origin.url("/redirects?n=2"), origin.url("/redirects?n=3"))[1:-1], key=lambda f: f["index"]
        ))  # fmt: skip
        assert two is None
        assert three["type"] == "too_many_redirects"


@pytest.mark.parametrize("count", [1, 3])
def test_so_many_workers_extract(count: int) -> None:
    with Daemon(WORKERS__EXTRACT=count) as daemon:
        children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
        assert len(children) == count
        assert daemon.ask("GET", "/healthz").json["dependencies"]["extract_workers"]["wanted"] == count


def test_a_worker_that_dies_costs_its_page_alone(origin: Origin) -> None:
    with Daemon(**ALLOW, WORKERS__EXTRACT=1) as daemon:
        children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        while not daemon.ask("GET", "/healthz").json["dependencies"]["extract_workers"]["deaths"]:
            pass
        origin.page("/after", "<title>After</title>")
        assert daemon.crawl(origin.url("/after"))[1]["result"]["document"]["title"] == "After"


class TestLogs:
    def test_every_line_of_a_request_has_its_id(self) -> None:
        with Daemon(LOG__LEVEL="debug") as daemon:
            daemon.ask("POST", "/crawl/stream", {"urls": ["x"]}, X_Request_ID="the-id")
            daemon.ask("GET", "/livez", X_Request_ID="the-id")  # the stream's last lines are written before this
            lines = [json.loads(line) for line in daemon.stderr().splitlines()]
        of_request = [line for line in lines if line["event"].startswith(("stream.", "request."))]
        assert {line["event"] for line in of_request} == {
            "stream.opened", "stream.attached", "stream.state", "stream.closed", "request.answered",
        }  # fmt: skip
        assert {line["request_id"] for line in of_request} == {"the-id"}

    def test_the_level_hides_what_is_below_it(self) -> None:
        with Daemon(LOG__LEVEL="error") as daemon:
            daemon.crawl("x")
            assert daemon.stderr() == ""

    def test_console_is_for_people_and_obeys_no_page(self) -> None:
        with Daemon(LOG__FORMAT="console", LOG__LEVEL="debug") as daemon:
            daemon.ask("GET", "/livez")
            daemon.ask("GET", "/livez")  # the first one's line is written before this is answered
            assert "request.answered" in daemon.stderr()
            assert "\x1b" not in daemon.stderr()
            assert not daemon.stderr().startswith("{")


def test_the_windows_of_sse_and_websocket() -> None:
    with (
        Daemon(
            BUFFER__INITIAL_FRAMES_SSE=7,
            BUFFER__INITIAL_FRAMES_WEBSOCKET=9,
            BUFFER__INITIAL_BYTES=50_000,
            FIREHOSE__ENABLED="true",
        ) as daemon,
        daemon.connect() as peer,
        WebSocket(daemon, "/firehose/ws?frames=1000&rate=0.01"),
    ):
        peer.send(peer.request("GET", "/firehose/sse?frames=1000&rate=0.01"))
        assert peer.head().status == 200
        readers = [
            reader for stream in daemon.ask("GET", "/streams").json["streams"] for reader in stream["subscribers"]
        ]
        assert {(r["protocol"], r["capacity_frames"], r["capacity_bytes"]) for r in readers} == {
            ("sse", 7, 50_000),
            ("websocket", 9, 50_000),
        }


def test_a_file_the_environment_and_flags_mixed(tmp_path: Path) -> None:
    file = tmp_path / "fastmesh.toml"
    file.write_text('[stream]\nmax_urls = 2\n[server]\nmax_body_bytes = 300\n[log]\nlevel = "error"\n')
    with Daemon("--config", str(file), "--log-level", "debug", STREAM__MAX_URLS=3) as daemon:
        assert daemon.ask("POST", "/crawl/stream", {"urls": ["x"] * 3}).status == 200
        assert daemon.ask("POST", "/crawl/stream", {"urls": ["x"] * 4}).json["error"]["field"] == "urls"
        assert daemon.ask("POST", "/crawl/stream", {"urls": ["x" * 300]}).status == 413
        assert daemon.logs("request.answered")


def test_retry_of_sse() -> None:
    with Daemon(STREAM__SSE_RETRY_MS=123, FIREHOSE__ENABLED="true") as own:
        assert own.ask("GET", "/firehose/sse?frames=1").body.startswith(b"retry: 123\nevent: metadata\n")
