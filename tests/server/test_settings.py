"""Settings whose effect no other test shows."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from daemons import Daemon
from origins import Origin

ALLOW = {"FETCH__ALLOW_NETWORKS": "127.0.0.0/8"}
PAUSES = 'fastmesh_streaming_backpressure_events_total{event="pause",protocol="ndjson"}'


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


def test_the_water_marks_are_where_the_transport_pauses() -> None:
    def held(high: int) -> float:
        """What was written to a client that reads nothing."""
        with Daemon(
            FIREHOSE__ENABLED="true", BUFFER__HIGH_WATER_BYTES=high, BUFFER__LOW_WATER_BYTES=high // 4
        ) as daemon:
            peer = daemon.connect(receive_buffer=4096)
            peer.send(peer.request("GET", "/firehose/stream?frames=1000000"))
            while not daemon.metric(PAUSES):
                pass
            return daemon.metric('fastmesh_streaming_bytes_total{protocol="ndjson"}')

    assert held(1_000_000) > held(16_384) + 900_000


def test_a_slow_client_is_seen_after_slow_ms() -> None:
    with Daemon(FIREHOSE__ENABLED="true", BUFFER__SLOW_MS=10) as daemon:
        peer = daemon.connect(receive_buffer=4096)
        peer.send(peer.request("GET", "/firehose/stream?frames=1000000"))
        while not daemon.ask("GET", "/healthz").json["dependencies"]["streaming"]["slow_clients"]:
            pass
        peer.sock.close()


def test_fetch_concurrency_is_over_all_hosts() -> None:
    with Origin("0.0.0.0") as origin, Daemon(**ALLOW, FETCH__CONCURRENCY=2, FETCH__TIMEOUT_MS=300) as daemon:
        urls = [origin.url("/silent", host=f"127.0.0.{at}") for at in range(1, 5)]
        took_ms = daemon.crawl(*urls)[-1]["total_processing_time_ms"]
        assert took_ms >= 2 * 300


def test_connect_timeout(origin: Origin) -> None:
    """192.0.2.0/24 leads nowhere: a packet there is dropped or refused, and either is told in time."""
    with Daemon(FETCH__ALLOW_NETWORKS="192.0.2.0/24", FETCH__CONNECT_TIMEOUT_MS=200) as daemon:
        frames = daemon.crawl("http://192.0.2.1/")
        assert frames[1]["result"]["error"]["type"] in ("timeout", "connect")
        assert frames[-1]["total_processing_time_ms"] < 10_000


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


def test_the_windows_of_sse_and_websocket(origin: Origin) -> None:
    with Daemon(BUFFER__INITIAL_FRAMES_SSE=7, FIREHOSE__ENABLED="true") as daemon, daemon.connect() as peer:
        peer.send(peer.request("GET", "/firehose/sse?frames=1000&rate=0.01"))
        stream_id = peer.head().headers["x-stream-id"]
        (reader,) = daemon.ask("GET", f"/streams/{stream_id}").json["subscribers"]
        assert (reader["protocol"], reader["capacity_frames"]) == ("sse", 7)


def test_so_much_is_kept_behind_a_reader() -> None:
    for kept, most in ((0, 2000), (20_000, 22_000)):
        with Daemon(STREAM__JOURNAL_BYTES=kept, FIREHOSE__ENABLED="true") as daemon, daemon.connect() as peer:
            peer.send(peer.request("GET", "/firehose/stream?frames=100&rate=1000000"))
            frames = peer.head() and peer.frames()
            stream_id = next(frames)["stream_id"]
            for _ in range(80):
                next(frames)
            shown = daemon.ask("GET", f"/streams/{stream_id}")
            if shown.status == 200:
                assert shown.json["kept_bytes"] <= most + 45_000  # and what is not read yet


def test_retry_of_sse(daemon: Daemon) -> None:
    with Daemon(STREAM__SSE_RETRY_MS=123, FIREHOSE__ENABLED="true") as own:
        assert own.ask("GET", "/firehose/sse?frames=1").body.startswith(b"retry: 123\nevent: metadata\n")
