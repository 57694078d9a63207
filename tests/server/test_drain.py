"""SIGTERM and SIGINT: nothing new, what runs may finish, and an end within the deadline whatever clients do."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from daemons import PATIENCE_S, Closed, Daemon, Peer
from origins import Origin, Request

FOREVER = "/firehose/stream?frames=1000000000"


def begin(peer: Peer, path: str) -> Iterator[dict[str, object]]:
    """Ask for a stream; return its frames, the first one read."""
    peer.send(peer.request("GET", path))
    assert peer.head().status == 200
    frames = peer.frames()
    assert next(frames)["type"] == "metadata"
    return frames


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_daemon_ends_at_once_with_0(number: int) -> None:
    with Daemon() as daemon, daemon.connect() as idle:
        assert idle.ask("GET", "/livez").status == 200
        begun = time.monotonic()
        daemon.process.send_signal(number)
        assert idle.closed()
        assert daemon.process.wait(PATIENCE_S) == 0
        assert time.monotonic() - begun < 15  # of a deadline of 30
        assert "Traceback" not in daemon.stderr()


def test_a_running_stream_finishes_and_new_ones_are_refused() -> None:
    with Daemon(FIREHOSE__ENABLED="true") as daemon, daemon.connect() as running, daemon.connect() as late:
        assert late.ask("GET", "/readyz").status == 200
        late.send(b"GET /readyz HTTP/1.1\r\n")  # under way, so it is not closed as idle
        frames = begin(running, "/firehose/stream?frames=20&rate=20")
        daemon.process.send_signal(signal.SIGTERM)
        while not daemon.logs("daemon.draining"):
            pass
        late.send(b"Host: localhost\r\n\r\n")
        answer = late.read()
        assert (answer.status, answer.json["error"]["type"]) == (503, "shutting_down")
        assert answer.headers["connection"] == "close"
        assert daemon.ask("GET", "/readyz").status == 503
        assert daemon.ask("GET", "/livez").status == 200
        refused = daemon.ask("POST", "/crawl/stream", {"urls": ["x"]})
        assert (refused.status, refused.json["error"]["type"]) == (503, "shutting_down")
        assert "retry-after" in refused.headers
        rest = list(frames)
        assert rest[-1]["status"] == "completed"
        assert [frame["seq"] for frame in rest] == list(range(2, 23))
        assert daemon.process.wait(PATIENCE_S) == 0


def test_a_stream_that_goes_on_is_told_shutdown() -> None:
    with Daemon(SERVER__DRAIN_TIMEOUT_S=1, FIREHOSE__ENABLED="true") as daemon, daemon.connect() as running:
        frames = begin(running, FOREVER + "&rate=50")
        begun = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        summary = list(frames)[-1]
        assert time.monotonic() - begun >= 0.8  # it had its time
        assert summary["status"] == "shutdown"
        assert summary["successful"] + summary["cancelled"] == 1_000_000_000
        assert daemon.process.wait(PATIENCE_S) == 0


def test_a_crawl_that_hangs_is_told_shutdown_and_what_it_left() -> None:
    asked: list[str] = []

    async def hang(request: Request):
        asked.append(request.path)
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
        await never()

    async def never() -> None:
        import asyncio

        await asyncio.Event().wait()

    with (
        Origin() as origin,
        Daemon(SERVER__DRAIN_TIMEOUT_S=1, FETCH__ALLOW_NETWORKS="127.0.0.0/8") as daemon,
        daemon.connect() as peer,
    ):
        origin.page("/ok", "<title>ok</title>")
        origin.route("/hang", hang)
        peer.send(peer.request("POST", "/crawl/stream", {"urls": [origin.url("/ok"), origin.url("/hang")]}))
        peer.head()
        frames = peer.frames()
        assert [next(frames)["type"] for _ in range(2)] == ["metadata", "result"]
        daemon.process.send_signal(signal.SIGTERM)
        (summary,) = frames
        assert (summary["status"], summary["successful"], summary["cancelled"]) == ("shutdown", 1, 1)
        assert summary["unfinished"] == [[1, 1]]
        assert daemon.process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("behaviour", ["never reads", "sends half a request", "never closes"])
def test_it_ends_within_the_deadline_whatever_clients_do(behaviour: str) -> None:
    with (
        Daemon(SERVER__DRAIN_TIMEOUT_S=2, FIREHOSE__ENABLED="true") as daemon,
        daemon.connect(receive_buffer=4096) as peer,
    ):
        if behaviour == "never reads":
            peer.send(peer.request("GET", FOREVER))
            while daemon.metric('fastmesh_streaming_backpressure_events_total{event="pause",protocol="ndjson"}') == 0:
                pass
        elif behaviour == "sends half a request":
            peer.send(b"POST /crawl/stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
            daemon.ask("GET", "/livez")
        else:
            assert peer.ask("GET", "/livez").status == 200
        begun = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(PATIENCE_S) == 0
        # Python's own end and a busy machine get a second.
        assert time.monotonic() - begun < 3
        assert "Traceback" not in daemon.stderr()


def test_a_second_signal_does_not_wait() -> None:
    with Daemon(FIREHOSE__ENABLED="true") as daemon, daemon.connect() as peer:
        frames = begin(peer, FOREVER + "&rate=5")
        daemon.process.send_signal(signal.SIGINT)
        while not daemon.logs("daemon.draining"):
            pass
        daemon.process.send_signal(signal.SIGINT)
        with suppress(Closed):
            list(frames)
        assert daemon.process.wait(10) == 0


def test_the_metrics_and_health_say_it() -> None:
    with Daemon(FIREHOSE__ENABLED="true") as daemon, daemon.connect() as peer:
        frames = begin(peer, "/firehose/stream?frames=10&rate=10")
        daemon.process.send_signal(signal.SIGTERM)
        while not daemon.logs("daemon.draining"):
            pass
        assert daemon.ask("GET", "/readyz").json["error"]["type"] == "shutting_down"
        assert daemon.metric("fastmesh_streaming_active_streams") == 1
        assert list(frames)[-1]["status"] == "completed"
