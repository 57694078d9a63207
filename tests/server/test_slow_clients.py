"""A slow client costs the others nothing, and loses nothing itself."""

from __future__ import annotations

import socket
import struct
import threading
import time

import pytest
from daemons import PATIENCE_S, Daemon, Peer
from origins import Origin

MANY = 400
PAUSED = 'fastmesh_streaming_backpressure_events_total{event="pause",protocol="ndjson"}'


@pytest.fixture(scope="module")
def site():
    """Pages of 40 KB: 400 of them are far more than a window and the kernel take."""
    with Origin() as origin:
        for at in range(MANY):
            origin.page(f"/{at}", f"<title>Page {at}</title><p>" + "words and words " * 2500)
        yield origin


@pytest.fixture(scope="module")
def daemon():
    with Daemon(
        FETCH__ALLOW_NETWORKS="127.0.0.0/8", FETCH__PER_HOST_CONCURRENCY=64, STREAM__RESUME_WINDOW_S=0
    ) as running:
        yield running


def begin(daemon: Daemon, site: Origin) -> Peer:
    peer = daemon.connect(receive_buffer=4096)
    urls = [site.url(f"/{at}") for at in range(MANY)]
    peer.send(peer.request("POST", "/crawl/stream", {"urls": urls, "options": {"concurrency": 32}}))
    assert peer.head().status == 200
    return peer


def check(frames: list[dict]) -> None:
    """Every index once, no hole in seq, and totals that reconcile."""
    assert [frame["seq"] for frame in frames] == list(range(1, MANY + 3))
    assert sorted(frame["index"] for frame in frames[1:-1]) == list(range(MANY))
    assert all(frame["result"]["document"]["title"] == f"Page {frame['index']}" for frame in frames[1:-1])
    assert (frames[-1]["successful"], frames[-1]["failed"], frames[-1]["cancelled"]) == (MANY, 0, 0)


def test_head_and_metadata_leave_in_one_write(daemon: Daemon) -> None:
    # The connection accepts and never answers: nothing follows the metadata.
    with socket.create_server(("127.0.0.1", 0)) as silent, daemon.connect() as peer:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        peer.send(peer.request("POST", "/crawl/stream", {"urls": [url]}))
        first = peer.sock.recv(65536)
        assert first.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b'"type":"metadata"' in first
        (segments,) = struct.unpack_from("I", peer.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192), 152)
        assert segments == 1  # tcpi_data_segs_in: the kernel gives each write to loopback as one segment


def test_who_stops_reading_holds_its_own_producer_only(daemon: Daemon, site: Origin) -> None:
    paused = daemon.metric(PAUSED)
    with begin(daemon, site) as stuck:
        while daemon.metric(PAUSED) == paused:
            pass
        # Others go on, at full length, while it does not read; and its own fetches have stopped.
        other = begin(daemon, site)
        check(list(other.frames()))
        started = sum(site.hits[f"/{at}"] for at in range(MANY))
        check(list(begin(daemon, site).frames()))
        assert sum(site.hits[f"/{at}"] for at in range(MANY)) - started == MANY
        assert started < 2 * MANY
        assert daemon.metric("fastmesh_streaming_memory_usage_bytes") < 8 << 20
        check(list(stuck.frames()))


def test_who_vanishes_ends_its_own_stream(daemon: Daemon, site: Origin) -> None:
    peer = begin(daemon, site)
    frames = peer.frames()
    next(frames)
    next(frames)
    peer.sock.close()
    while daemon.metric("fastmesh_streaming_active_streams"):
        pass
    assert daemon.logs("stream.closed")[-1]["status"] == "cancelled"
    while daemon.metric("fastmesh_pipeline_inflight"):
        pass
    while daemon.metric("fastmesh_streaming_memory_usage_bytes"):  # until the resume window is over, which is 0 s here
        pass


def test_a_hundred_slow_and_fast_ones_together(site: Origin) -> None:
    """Slow ones pause now and then; everybody gets everything."""
    with Daemon(FIREHOSE__ENABLED="true") as daemon:
        wrong: list[str] = []

        def read(slow: bool) -> None:
            peer = daemon.connect(receive_buffer=4096 if slow else None)
            peer.send(peer.request("GET", "/firehose/stream?frames=300&bytes=1000"))
            peer.head()
            seqs = []
            for frame in peer.frames():
                seqs.append(frame["seq"])
                if slow and frame["seq"] % 50 == 0:
                    time.sleep(0.01)
            if seqs != list(range(1, 303)):
                wrong.append(f"slow={slow}: {len(seqs)} frames")

        threads = [threading.Thread(target=read, args=(at % 2 == 0,)) for at in range(60)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


def test_what_streams_held_goes_back_to_the_system() -> None:
    """64 readers, of each of which 1 MiB is kept in case it comes back; then all are gone."""
    with Daemon(FIREHOSE__ENABLED="true", STREAM__RESUME_WINDOW_S=0) as daemon:
        for _ in range(20):  # what the daemon needs once
            daemon.ask("GET", "/firehose/stream?frames=2000&bytes=1000")
        before = daemon.memory()
        peers = [daemon.connect() for _ in range(64)]
        for peer in peers:
            peer.send(peer.request("GET", "/firehose/stream?frames=1000000&bytes=1024"))
        for peer in peers:
            left = 2 << 20
            while left > 0:
                left -= len(peer.sock.recv(65_536))
        assert daemon.metric("fastmesh_streaming_memory_usage_bytes") > 60 << 20
        assert daemon.memory() - before > 60 << 20
        for peer in peers:
            peer.sock.close()
        until = time.monotonic() + PATIENCE_S
        while daemon.memory() - before > 24 << 20:
            assert time.monotonic() < until


@pytest.mark.long
@pytest.mark.parametrize("pause_s", [30, 50])
def test_a_pause_below_the_stall_timeout_loses_nothing(daemon: Daemon, site: Origin, pause_s: int) -> None:
    with begin(daemon, site) as peer:
        time.sleep(pause_s)
        check(list(peer.frames()))


@pytest.mark.long
def test_a_pause_of_90_s_ends_the_stream_and_says_so(daemon: Daemon, site: Origin) -> None:
    before = len(daemon.logs("connection.write_stall"))
    with begin(daemon, site) as peer:
        time.sleep(90)
        assert len(daemon.logs("connection.write_stall")) == before + 1
        assert b'"type":"summary"' not in peer.rest()
    assert daemon.logs("stream.closed")[-1]["status"] == "cancelled"
