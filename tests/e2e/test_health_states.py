"""Every state of /healthz and /readyz, reached by causing it; and what goes on while something is down."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from daemons import PATIENCE_S, Daemon, Peer, Response
from nameserver import Nameserver
from origins import Origin

ALLOW = {"FETCH__ALLOW_NETWORKS": "127.0.0.0/8", "FIREHOSE__ENABLED": "true"}


def until(true: Callable[[], Any]) -> Any:
    """What *true* says, once it is not nothing."""
    end = time.monotonic() + PATIENCE_S
    while not (said := true()):
        assert time.monotonic() < end, "it never came to be"
    return said


def health(daemon: Daemon) -> tuple[int, dict[str, str]]:
    """The status of the answer, and of each part that is not healthy."""
    answer = daemon.ask("GET", "/healthz")
    parts = {name: part["status"] for name, part in answer.json["dependencies"].items()}
    worst = max(parts.values(), key=["healthy", "degraded", "unhealthy"].index)
    assert answer.json["status"] == worst
    assert answer.status == (503 if worst == "unhealthy" else 200)
    return answer.status, {name: status for name, status in parts.items() if status != "healthy"}


def part(daemon: Daemon, name: str) -> dict[str, Any]:
    """One dependency's figures."""
    return daemon.ask("GET", "/healthz").json["dependencies"][name]


def closed_port() -> int:
    """A port of this machine where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def firehose(daemon: Daemon, frames: int = 1_000_000_000, rate: int = 20) -> Peer:
    """A stream that runs; its metadata is read."""
    peer = daemon.connect()
    peer.send(peer.request("GET", f"/firehose/stream?frames={frames}&rate={rate}"))
    assert peer.head().status == 200
    return peer


# ── streaming ────────────────────────────────────────────────────────────────────────────


def test_streams_that_fail_degrade_it_over_5_percent_and_make_it_unhealthy_over_10() -> None:
    with Daemon(**ALLOW, SEARCH__PROVIDER="searxng", SEARCH__URL=f"http://127.0.0.1:{closed_port()}") as daemon:
        for _ in range(15):
            assert daemon.crawl("nonsense")[-1]["status"] == "completed"
        assert health(daemon) == (200, {})

        def fail() -> float:
            frames = daemon.ask("POST", "/deepsearch/stream", {"query": "anything"}).frames
            assert [frame["type"] for frame in frames] == ["metadata", "error", "summary"]
            return part(daemon, "streaming")["error_rate"]

        assert fail() == round(1 / 16, 4)
        assert health(daemon) == (200, {"streaming": "degraded", "search": "degraded"})
        assert fail() == round(2 / 17, 4)
        assert health(daemon) == (503, {"streaming": "unhealthy", "search": "degraded"})
        assert part(daemon, "search")["error_rate"] == 1.0
        assert daemon.metric('fastmesh_search_requests_total{outcome="failed"}') == 2
        assert daemon.metric('fastmesh_streaming_errors_total{error_type="search_unavailable"}') == 2
        # Search is down; crawls are not.
        assert daemon.crawl("nonsense")[-1]["status"] == "completed"
        assert daemon.ask("GET", "/readyz").status == 200


def test_results_that_are_dropped_degrade_it_and_many_make_it_unhealthy(origin: Origin) -> None:
    urls = [origin.page(f"/health/{at}", "<p>" + "words and words " * 2500) for at in range(300)]
    settings = {"STREAM__JOURNAL_BYTES": 64 << 20, "FETCH__PER_HOST_CONCURRENCY": 64}
    with Daemon(**ALLOW, **settings) as daemon, daemon.connect(receive_buffer=4096) as stuck:
        stuck.send(stuck.request("POST", "/crawl/stream", {"urls": urls, "stream": {"on_slow": "drop"}}))
        until(lambda: health(daemon) == (503, {"streaming": "unhealthy"}))
        assert part(daemon, "streaming")["drop_ratio"] > 0.2
        until(lambda: daemon.metric("fastmesh_pipeline_inflight") == 0)
        # Results that are sent count against those that were dropped.
        frames = 6 * int(
            daemon.metric('fastmesh_streaming_messages_dropped_total{protocol="ndjson",reason="slow_client"}')
        )
        daemon.ask("GET", f"/firehose/stream?frames={frames}")
        until(lambda: health(daemon) == (200, {"streaming": "degraded"}))
        assert 0.1 < part(daemon, "streaming")["drop_ratio"] <= 0.2


def test_a_loop_that_stands_still_is_seen() -> None:
    with Daemon() as daemon:
        assert health(daemon) == (200, {})
        os.kill(daemon.pid, signal.SIGSTOP)
        stopped = threading.Event()
        stopped.wait(3.3)  # the very thing that is measured
        os.kill(daemon.pid, signal.SIGCONT)
        until(lambda: part(daemon, "loop")["late_ms"] > 3000)
        assert health(daemon) == (200, {"loop": "degraded"})
        assert daemon.metric('fastmesh_health_status{dependency="loop"}') == 1


# ── the journals ─────────────────────────────────────────────────────────────────────────

FULL = {
    "BUFFER__TOTAL_BYTES": 400_000,
    "BUFFER__INITIAL_BYTES": 300_000,
    "STREAM__MAX_FRAME_BYTES": 100_000,
    "STREAM__DETACHED_BYTES": 10_000_000,
}


def test_full_journals_refuse_new_streams_and_lose_nothing(origin: Origin) -> None:
    urls = [origin.page(f"/full/{at}", "<p>" + "words and words " * 2500) for at in range(60)]
    with Daemon(**ALLOW, **FULL) as daemon:
        running = firehose(daemon)
        frames = running.frames()
        stuck = []
        for _ in range(3):
            peer = daemon.connect(receive_buffer=4096)
            peer.send(peer.request("POST", "/crawl/stream", {"urls": urls}))
            stuck.append(peer)
        # What can be let go of still goes, so they are full for good only when all of it is waited for.
        until(lambda: daemon.ask("POST", "/crawl/stream", {"urls": ["nonsense"]}).status == 503)
        until(lambda: health(daemon) == (200, {"journals": "degraded"}))
        until(lambda: part(daemon, "journals")["bytes"] >= part(daemon, "journals")["max_bytes"] == 400_000)
        until(lambda: daemon.ask("GET", "/readyz").status == 503)
        ready = daemon.ask("GET", "/readyz")
        assert (ready.status, ready.json["error"]["type"]) == (503, "overloaded")
        refused = daemon.ask("POST", "/crawl/stream", {"urls": ["nonsense"]})
        assert (refused.status, refused.json["error"]["type"]) == (503, "overloaded")
        assert "retry-after" in refused.headers
        at = next(frames)["seq"]
        assert until(lambda: next(frames)["seq"] > at + 10)  # what runs goes on
        for peer in stuck:
            assert peer.head().status == 200
            results = [frame for frame in peer.frames() if frame["type"] == "result"]
            assert sorted(frame["index"] for frame in results) == list(range(len(urls)))
        running.sock.close()
        until(lambda: health(daemon) == (200, {}))
        assert daemon.ask("GET", "/readyz").status == 200


# ── pages ────────────────────────────────────────────────────────────────────────────────


def test_origins_that_refuse_degrade_the_pipeline_and_no_more() -> None:
    with Daemon(**ALLOW) as daemon:
        dead = [f"http://127.0.0.1:{closed_port()}/{at}" for at in range(20)]
        assert daemon.crawl(*dead[:1], retries=0)[-1]["failed"] == 1
        assert health(daemon) == (200, {})  # one dead link is no rate
        assert daemon.crawl(*dead, retries=0)[-1]["failed"] == 20
        assert health(daemon) == (200, {"pipeline": "degraded"})
        assert part(daemon, "pipeline")["error_rate"] == 1.0
        assert part(daemon, "pipeline")["bug_rate"] == 0.0
        assert daemon.ask("GET", "/readyz").status == 200


def test_pages_that_origins_refuse_to_give_are_answers(origin: Origin) -> None:
    with Daemon(**ALLOW) as daemon:
        assert daemon.crawl(*[origin.url(f"/not-there/{at}") for at in range(25)])[-1]["failed"] == 25
        assert health(daemon) == (200, {})


# ── extraction workers ───────────────────────────────────────────────────────────────────


def workers(daemon: Daemon) -> list[int]:
    """Its child processes."""
    return [int(pid) for pid in Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()]


def test_a_worker_that_died_is_seen_and_replaced(origin: Origin) -> None:
    page = origin.page("/after-a-death", "<title>alive</title>")
    with Daemon(**ALLOW, WORKERS__EXTRACT=2) as daemon:
        until(lambda: len(workers(daemon)) == 2)
        os.kill(workers(daemon)[0], signal.SIGKILL)
        until(lambda: part(daemon, "extract_workers")["deaths"] == 1)
        until(lambda: health(daemon) == (200, {}))
        for pid in workers(daemon):
            os.kill(pid, signal.SIGKILL)
        until(lambda: part(daemon, "extract_workers")["deaths"] == 3)
        assert daemon.crawl(page)[1]["result"]["document"]["title"] == "alive"
        assert len(daemon.logs("extract.worker_died")) == 3
        assert daemon.metric("fastmesh_extract_worker_deaths_total") == 3


@contextmanager
def killed_as_they_come(daemon: Daemon) -> Iterator[None]:
    """No extraction worker lives for long."""
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.002):
            for pid in workers(daemon):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_while_extraction_is_down_pages_fail_by_it_and_everything_else_goes_on(origin: Origin) -> None:
    page = origin.page("/no-workers", "<title>no workers</title>")
    with Daemon(**ALLOW, WORKERS__EXTRACT=1) as daemon:
        with killed_as_they_come(daemon):
            until(lambda: health(daemon) == (503, {"extract_workers": "unhealthy"}))
            running = firehose(daemon).frames()
            _, failed, missing, summary = daemon.crawl(page, origin.url("/not-there"))
            types = {frame["index"]: frame["result"]["error"]["type"] for frame in (failed, missing)}
            assert types == {0: "extract", 1: "http_status"}
            assert (summary["status"], summary["failed"]) == ("completed", 2)
            assert next(running)["type"] == "metadata"
            assert next(running)["type"] == "result"
        until(lambda: part(daemon, "extract_workers")["alive"] == 1)
        assert daemon.crawl(page)[1]["result"]["document"]["title"] == "no workers"
        if part(daemon, "extract_workers")["recent_deaths"] >= 5:
            assert health(daemon) == (200, {"extract_workers": "degraded"})  # it says so for a minute


# ── names ────────────────────────────────────────────────────────────────────────────────


def test_the_nameservers_that_are_set_are_asked(origin: Origin) -> None:
    origin.page("/named", "<title>named</title>")
    with (
        Nameserver({"page.test": [["127.0.0.1"]]}) as names,
        Daemon(**ALLOW, FETCH__NAMESERVERS=names.address) as daemon,
    ):
        frames = daemon.crawl(origin.url("/named", "page.test"), respect_robots=False)
        assert frames[1]["result"]["document"]["title"] == "named"
        assert names.asked == {"page.test": 1}
        assert daemon.metric('fastmesh_dns_lookups_total{outcome="found"}') == 1
        assert health(daemon) == (200, {})


def test_while_dns_is_down_names_fail_and_addresses_do_not(origin: Origin) -> None:
    page = origin.page("/by-address", "<title>by address</title>")
    with Daemon(**ALLOW, FETCH__NAMESERVERS=f"127.0.0.1:{closed_port()}") as daemon:
        names = [f"http://page{at}.test/" for at in range(4)]
        frames = daemon.crawl(*names, page, retries=0, respect_robots=False)
        results = {frame["index"]: frame["result"]["error"] for frame in frames if frame["type"] == "result"}
        assert results.pop(4) is None
        assert {error["type"] for error in results.values()} == {"dns"}
        assert health(daemon) == (200, {"dns": "degraded"})
        assert part(daemon, "dns")["unanswered_rate"] == 1.0
        assert daemon.metric('fastmesh_dns_lookups_total{outcome="failed"}') == 4


def test_names_that_do_not_exist_are_answers() -> None:
    with Nameserver({}) as names, Daemon(**ALLOW, FETCH__NAMESERVERS=names.address) as daemon:
        daemon.crawl(*[f"http://page{at}.test/" for at in range(6)], retries=0, respect_robots=False)
        assert health(daemon) == (200, {})
        assert daemon.metric('fastmesh_dns_lookups_total{outcome="absent"}') == 6


# ── descriptors ──────────────────────────────────────────────────────────────────────────


def cpu_s(daemon: Daemon) -> float:
    """What the daemon has used so far."""
    fields = Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_without_descriptors_it_neither_spins_nor_stops(origin: Origin) -> None:
    with Daemon(**ALLOW) as daemon:
        asking = daemon.connect()

        def ask(path: str) -> Response:
            return asking.ask("GET", path)

        assert ask("/readyz").status == 200
        running = firehose(daemon).frames()
        seq = next(running)["seq"]
        used = len(list(Path(f"/proc/{daemon.pid}/fd").iterdir()))
        subprocess.run(["prlimit", f"--pid={daemon.pid}", f"--nofile={used}:{used + 2000}"], check=True)
        waiting = [daemon.connect() for _ in range(20)]
        until(lambda: ask("/healthz").json["dependencies"]["descriptors"]["unaccepted"])
        answer = ask("/healthz")
        assert (answer.status, answer.json["status"]) == (200, "degraded")
        assert answer.json["dependencies"]["descriptors"]["status"] == "degraded"
        ready = ask("/readyz")
        assert (ready.status, ready.json["error"]["message"]) == (503, "no descriptors are left")
        begun, spent = time.monotonic(), cpu_s(daemon)
        assert until(lambda: next(running)["seq"] > seq + 30)  # 1.5 s of a stream that goes on
        assert cpu_s(daemon) - spent < (time.monotonic() - begun) / 2
        assert len(daemon.logs("listener.out_of_files")) == 1
        for peer in waiting:
            peer.sock.close()
        subprocess.run(["prlimit", f"--pid={daemon.pid}", f"--nofile={used + 1000}"], check=True)
        until(lambda: ask("/readyz").status == 200)
        assert daemon.ask("GET", "/livez").status == 200


# ── ready ────────────────────────────────────────────────────────────────────────────────


def test_while_it_starts_it_is_alive_and_not_ready() -> None:
    """It answers before its workers are there, which takes the longest."""
    port = closed_port()
    environ = os.environ | {"FASTMESH_SERVER__PORT": str(port), "FASTMESH_WORKERS__EXTRACT": "8"}
    command = [sys.executable, "-m", "fastmesh.cli", "serve"]
    process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        seen: list[tuple[int, str]] = []

        def ask() -> bool:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as sock:
                sock.settimeout(PATIENCE_S)
                peer = Peer(sock, f"127.0.0.1:{port}")
                if not seen:
                    assert peer.ask("GET", "/livez").status == 200
                    refused = peer.ask("POST", "/crawl/stream", {"urls": ["nonsense"]})
                answer = peer.ask("GET", "/readyz")
                said = answer.json["error"]["message"] if answer.status == 503 else answer.json["status"]
                if not seen:
                    assert refused.json["error"]["message"] == said
                seen.append((answer.status, said))
            return bool(seen) and seen[-1] == (200, "ready")

        until(ask)
        assert seen[0] == (503, "the daemon is starting")
    finally:
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"STREAM__MAX_CONCURRENT": 1, "STREAM__RESUME_WINDOW_S": 0}, "1 streams are open, no more are allowed"),
        ({"SERVER__MAX_CONNECTIONS": 2}, "2 connections are open, no more are allowed"),
    ],
)
def test_at_a_limit_it_is_not_ready(settings: dict[str, int], message: str) -> None:
    with Daemon(**ALLOW, **settings) as daemon, daemon.connect() as asking:
        assert asking.ask("GET", "/readyz").status == 200
        running = firehose(daemon)
        answer = asking.ask("GET", "/readyz")
        assert (answer.status, answer.json["error"]["message"]) == (503, message)
        assert "retry-after" in answer.headers
        running.sock.close()
        until(lambda: asking.ask("GET", "/readyz").status == 200)


def test_while_it_drains_it_is_not_ready() -> None:
    with Daemon(**ALLOW, SERVER__DRAIN_TIMEOUT_S=20) as daemon:
        running = firehose(daemon)
        asking = daemon.connect()
        asking.send(asking.request("GET", "/readyz")[:-2])  # under way, so that it stays
        until(lambda: daemon.metric("fastmesh_server_connections") == 3)
        daemon.process.send_signal(signal.SIGTERM)
        until(lambda: daemon.logs("daemon.draining"))
        asking.send(b"\r\n")
        answer = asking.read()
        assert (answer.status, answer.json["error"]["type"]) == (503, "shutting_down")
        running.sock.close()
