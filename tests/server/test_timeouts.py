"""Every wait has a deadline."""

from __future__ import annotations

import time

import pytest
from daemons import Closed, Daemon
from sockets import handshake

SHORT_S = 0.4


@pytest.fixture(scope="module")
def hasty():
    with Daemon(
        SERVER__HEADER_TIMEOUT_S=SHORT_S, SERVER__BODY_TIMEOUT_S=SHORT_S, SERVER__KEEPALIVE_TIMEOUT_S=SHORT_S
    ) as daemon:
        yield daemon


def test_who_sends_nothing_is_closed_without_a_word(hasty: Daemon) -> None:
    with hasty.connect() as peer:
        assert peer.closed()


BODY = b"POST /crawl/stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("start", "drop"),
    [
        (b"GET /livez HTTP/1.1\r\nX: ", b"a"),
        (b"", b"\r\n"),
        (BODY + b"Content-Length: 5000\r\n\r\n", b" "),
        (BODY + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    ],
    ids=["head", "line ends", "body", "chunks"],
)
def test_what_drips_is_told_408(hasty: Daemon, start: bytes, drop: bytes) -> None:
    """The deadline is absolute: a byte does not move it."""
    begun = time.monotonic()
    with hasty.connect() as peer:
        peer.sock.settimeout(0.05)
        peer.send(start)
        for _ in range(1000):
            try:
                peer.send(drop)
                peer.more()
            except TimeoutError:
                continue
            break
        assert peer.read().json["error"]["type"] == "request_timeout"
        assert peer.closed()
    assert SHORT_S <= time.monotonic() - begun < SHORT_S + 5


def test_the_second_head_has_its_own_time(hasty: Daemon) -> None:
    with hasty.connect() as peer:
        assert peer.ask("GET", "/livez").status == 200
        peer.send(b"GET /livez HTT")
        assert peer.read().status == 408
        assert peer.closed()


@pytest.mark.parametrize("coding", [b"Content-Length: 99\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n63\r\n{"])
def test_a_body_that_does_not_come_is_told_408(hasty: Daemon, coding: bytes) -> None:
    with hasty.connect() as peer:
        peer.send(b"POST /crawl/stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + coding)
        answer = peer.read()
        assert answer.status == 408
        assert answer.json["error"]["retryable"] is True
        assert peer.closed()


def test_an_idle_connection_is_closed(hasty: Daemon) -> None:
    with hasty.connect() as peer:
        assert peer.ask("GET", "/livez").status == 200
        assert peer.closed()


def test_a_stream_is_no_idle_connection() -> None:
    with Daemon(SERVER__KEEPALIVE_TIMEOUT_S=0.1, SERVER__HEADER_TIMEOUT_S=0.1, FIREHOSE__ENABLED="true") as daemon:
        frames = daemon.ask("GET", "/firehose/stream?frames=4&rate=4").frames
        assert frames[-1]["status"] == "completed"
        assert len(frames) == 6


@pytest.mark.parametrize("before", [0, 1], ids=["at once", "behind a request"])
def test_a_websocket_is_no_idle_connection(before: int) -> None:
    """No deadline of the request that opened it, or of one before it, is left."""
    with (
        Daemon(SERVER__KEEPALIVE_TIMEOUT_S=0.1, SERVER__HEADER_TIMEOUT_S=0.1, FIREHOSE__ENABLED="true") as daemon,
        daemon.connect() as peer,
    ):
        peer.send(peer.request("GET", "/livez") * before + handshake(peer, "/firehose/ws?frames=4&rate=4"))
        for _ in range(before):
            assert peer.read().status == 200
        assert peer.head().status == 101
        seen = b""
        while b'"type":"summary"' not in seen:
            seen += peer.exactly(1)


def test_who_takes_no_byte_for_the_write_stall_timeout_is_disconnected() -> None:
    with (
        Daemon(SERVER__WRITE_STALL_TIMEOUT_S=SHORT_S, STREAM__RESUME_WINDOW_S=0, FIREHOSE__ENABLED="true") as daemon,
        daemon.connect(receive_buffer=4096) as stuck,
    ):
        begun = time.monotonic()
        stuck.send(stuck.request("GET", "/firehose/stream?frames=1000000000"))
        with daemon.connect() as other:  # a fast client beside it is served all the while
            while not daemon.logs("connection.write_stall"):
                assert other.ask("GET", "/firehose/stream?frames=100").frames[-1]["status"] == "completed"
                assert time.monotonic() - begun < SHORT_S + 10
        with pytest.raises(Closed):
            for _ in stuck.chunks() if stuck.head() else ():
                pass
        while not (closed := [line for line in daemon.logs("stream.closed") if line["frames"] > 102]):
            pass
        assert [line["status"] for line in closed] == ["cancelled"]


def test_a_slow_reader_is_not_a_stalled_one() -> None:
    """It takes something within each timeout, though much less than it is sent."""
    with (
        Daemon(SERVER__WRITE_STALL_TIMEOUT_S=SHORT_S, FIREHOSE__ENABLED="true") as daemon,
        daemon.connect(receive_buffer=4096) as slow,
    ):
        slow.send(slow.request("GET", "/firehose/stream?frames=2000&bytes=2000"))
        slow.head()
        until = time.monotonic() + 4 * SHORT_S
        seqs = []
        for frame in slow.frames():
            seqs.append(frame["seq"])
            if time.monotonic() < until and len(seqs) % 20 == 0:
                daemon.ask("GET", "/livez")  # takes a moment
                time.sleep(SHORT_S / 10)
        assert seqs == list(range(1, 2003))
