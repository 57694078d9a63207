"""TLS on the daemon's own socket: the same answers, the same bounds, and nobody else's certificate."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from certificates import Pair, made
from daemons import PATIENCE_S, Closed, Daemon
from origins import Origin
from sockets import WebSocket

from fastmesh.api.access.tokens import line_of, new_token
from fastmesh.errors import ConfigError
from fastmesh.server.tls import Certificate

TOKEN = new_token()
PAUSES = 'fastmesh_streaming_backpressure_events_total{event="pause",protocol="ndjson"}'
FIREHOSE = "/firehose/stream?frames=1000000&bytes=1000"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return made(tmp_path_factory.mktemp("tls"), "own")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return made(tmp_path_factory.mktemp("tls"), "foreign")


@pytest.fixture(scope="module")
def daemon(pair: Pair) -> Iterator[Daemon]:
    with Daemon(
        cacert=pair.cert,
        **pair.settings,
        FIREHOSE__ENABLED="true",
        FETCH__ALLOW_NETWORKS="127.0.0.0/8",
        SERVER__HEADER_TIMEOUT_S=1,
    ) as running:
        assert running.address.startswith("https://127.0.0.1:")
        yield running
        clean(running)


def clean(daemon: Daemon) -> None:
    """Nothing was said but what the daemon itself logs: no warning of a library's, no traceback, no bug."""
    lines = [json.loads(line) for line in daemon.stderr().splitlines()]
    assert {line["level"] for line in lines} <= {"info"}, lines


def raw(daemon: Daemon) -> socket.socket:
    """A connection on which nobody speaks TLS yet."""
    sock = socket.create_connection(("127.0.0.1", daemon.port))
    sock.settimeout(PATIENCE_S)
    return sock


def context(pair: Pair) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=pair.cert)


def test_the_certificate_that_is_set_is_shown(pair: Pair) -> None:
    with Daemon(cacert=pair.cert, TLS__CERT=pair.cert, TLS__KEY=pair.key) as daemon, daemon.connect() as peer:
        assert isinstance(peer.sock, ssl.SSLSocket)
        assert peer.sock.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(pair.cert.read_text())
        assert peer.ask("GET", "/livez").status == 200


# ── the same as without ──────────────────────────────────────────────────────────────────


def test_many_requests_and_streams_on_one_connection(daemon: Daemon) -> None:
    with daemon.connect() as peer:
        assert isinstance(peer.sock, ssl.SSLSocket)
        assert peer.sock.version() == "TLSv1.3"
        for _ in range(3):
            assert peer.ask("GET", "/livez").body == b'{"status":"alive"}'
            frames = peer.ask("GET", "/firehose/stream?frames=3000&bytes=1000").frames
            assert [frame["seq"] for frame in frames] == list(range(1, 3003))


def test_pipelined_requests_and_a_large_body(daemon: Daemon) -> None:
    with daemon.connect() as peer:
        body = {"urls": ["nonsense"], "options": {"headers": {"x": "y" * 4000}}}
        peer.send(peer.request("GET", "/livez") * 200 + peer.request("POST", "/crawl/stream", body))
        assert {peer.read().status for _ in range(200)} == {200}
        assert peer.read().frames[-1]["failed"] == 1


def test_sse_and_websocket(daemon: Daemon, origin: Origin) -> None:
    origin.page("/tls", "<title>TLS</title>")
    assert b"event: summary" in daemon.ask("POST", "/crawl/sse", {"urls": [origin.url("/tls")]}).body
    with WebSocket(daemon) as socket_:
        stream_id = socket_.ask("crawl", urls=[origin.url("/tls")])["stream_id"]
        frames = list(socket_.stream(stream_id))
        assert frames[1]["result"]["document"]["title"] == "TLS"
        assert socket_.ask("ping")["type"] == "pong"


def test_a_stream_that_ends_its_connection_is_whole(daemon: Daemon) -> None:
    """The end of the data is the end of TLS: a client tells it from a connection that was cut."""
    with daemon.connect() as peer:
        peer.send(b"GET /firehose/stream?frames=5000&bytes=1000 HTTP/1.0\r\n\r\n")
        peer.head()
        data = b""
        while chunk := peer.sock.recv(65_536):  # raises SSLEOFError where close_notify is missing
            data += chunk
        lines = (peer._buffer + data).splitlines()
        assert json.loads(lines[-1])["type"] == "summary"
        assert len(lines) == 5002


def test_a_client_that_leaves_ends_its_stream(daemon: Daemon) -> None:
    with daemon.connect() as peer:
        peer.send(peer.request("GET", "/firehose/stream?frames=1000000&rate=100"))
        stream_id = peer.head().headers["x-stream-id"]
        assert isinstance(peer.sock, ssl.SSLSocket)
        peer.sock.settimeout(None)
        peer.sock.shutdown(socket.SHUT_WR)
        while daemon.ask("GET", f"/streams/{stream_id}").json["subscribers"]:
            pass


# ── bounds ───────────────────────────────────────────────────────────────────────────────


def test_clients_that_do_not_read_hold_their_streams_and_little_memory(pair: Pair) -> None:
    with Daemon(cacert=pair.cert, **pair.settings, FIREHOSE__ENABLED="true") as daemon:
        for _ in range(20):  # what the daemon needs once
            daemon.ask("GET", "/firehose/stream?frames=2000&bytes=1000")
        before = daemon.memory()
        peers = [daemon.connect(receive_buffer=4096) for _ in range(50)]
        for peer in peers:
            peer.send(peer.request("GET", FIREHOSE))
        while daemon.metric(PAUSES) < len(peers):
            pass
        sent = -1.0
        while (now := daemon.metric('fastmesh_streaming_bytes_total{protocol="ndjson"}')) != sent:
            sent = now
            time.sleep(0.1)  # between two looks at something that must stand still
        streams = daemon.ask("GET", "/streams").json["streams"]
        assert len(streams) == 50
        assert all(reader["paused"] for stream in streams for reader in stream["subscribers"])
        assert all(stream["last_seq"] < 2000 for stream in streams)
        assert daemon.memory() - before < 50 * 1_000_000
        # And each goes on where it was, without a hole, when its client reads.
        for peer in peers[:5]:
            assert peer.head().status == 200
            frames = peer.frames()
            assert [next(frames)["seq"] for _ in range(5000)] == list(range(1, 5001))


def test_a_client_that_takes_nothing_is_cut_off(pair: Pair) -> None:
    with Daemon(
        cacert=pair.cert, **pair.settings, FIREHOSE__ENABLED="true", SERVER__WRITE_STALL_TIMEOUT_S=0.5
    ) as daemon:
        peer = daemon.connect(receive_buffer=4096)
        peer.send(peer.request("GET", FIREHOSE))
        stream_id = peer.head().headers["x-stream-id"]
        while daemon.ask("GET", f"/streams/{stream_id}").json["subscribers"]:
            pass
        while not daemon.logs("connection.write_stall"):
            pass
        clean(daemon)


def test_a_handshake_has_a_deadline(daemon: Daemon) -> None:
    with raw(daemon) as sock:
        sock.sendall(b"\x16\x03\x01")
        assert sock.recv(1) == b""


def test_who_says_goodbye_is_let_go_and_who_does_not_is_cut_off(daemon: Daemon) -> None:
    with daemon.connect() as peer:
        assert isinstance(peer.sock, ssl.SSLSocket)
        peer.ask("GET", "/livez")
        peer.sock.unwrap()
    with daemon.connect() as peer:  # the daemon ends it, and the client goes on writing
        assert peer.ask("GET", "/livez", Connection="close").status == 200
        with suppress(OSError):
            while True:
                peer.send(b"x" * 1000)


def test_a_drain_waits_for_no_handshake(pair: Pair) -> None:
    with (
        Daemon(cacert=pair.cert, **pair.settings, SERVER__HEADER_TIMEOUT_S=600) as daemon,
        raw(daemon),
        daemon.connect() as peer,
    ):
        assert peer.ask("GET", "/livez").status == 200
        daemon.process.terminate()
        assert daemon.process.wait(PATIENCE_S) == 0


def test_a_shutdown_tells_those_who_read_and_waits_for_nobody_else(pair: Pair) -> None:
    with Daemon(cacert=pair.cert, **pair.settings, FIREHOSE__ENABLED="true", SERVER__DRAIN_TIMEOUT_S=2) as daemon:
        stuck = [daemon.connect(receive_buffer=4096) for _ in range(10)]
        for peer in stuck:
            peer.send(peer.request("GET", FIREHOSE))
        while daemon.metric(PAUSES) < len(stuck):
            pass
        readers = [daemon.connect() for _ in range(10)]
        for peer in readers:
            peer.send(peer.request("GET", "/firehose/stream?frames=100000&rate=20"))
            peer.head()
        sockets = [WebSocket(daemon, "/firehose/ws?frames=100000&rate=20") for _ in range(5)]
        daemon.process.terminate()
        for peer in readers:
            assert list(peer.frames())[-1]["status"] == "shutdown"
        for websocket in sockets:
            while (frame := websocket.read())["type"] != "summary":
                pass
            assert frame["status"] == "shutdown"
        assert daemon.process.wait(PATIENCE_S) == 0
        clean(daemon)


# ── whose certificate, and which TLS ─────────────────────────────────────────────────────


def test_who_trusts_somebody_else_sends_nothing(daemon: Daemon, foreign: Pair) -> None:
    with raw(daemon) as sock, pytest.raises(ssl.SSLCertVerificationError, match="self-signed certificate"):
        context(foreign).wrap_socket(sock, server_hostname="127.0.0.1")
    assert daemon.ask("GET", "/livez").status == 200


def test_who_wants_another_name_sends_nothing(daemon: Daemon, pair: Pair) -> None:
    with raw(daemon) as sock, pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        context(pair).wrap_socket(sock, server_hostname="crawl.test")


def test_who_speaks_no_tls_is_told_nothing(daemon: Daemon) -> None:
    with raw(daemon) as sock:
        sock.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        said = b""
        try:
            while data := sock.recv(1000):
                said += data
        except ConnectionError:
            pass
        assert len(said) <= 7  # TLS's own alert
        assert b"HTTP" not in said


@pytest.mark.parametrize(
    ("version", "fits"), [("TLSv1", False), ("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)]
)
def test_tls_1_2_is_the_oldest(daemon: Daemon, pair: Pair, version: str, fits: bool) -> None:
    client = context(pair)
    client.set_ciphers("DEFAULT@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the old ones
        client.minimum_version = client.maximum_version = ssl.TLSVersion[version]
    with raw(daemon) as sock:
        if fits:
            client.wrap_socket(sock, server_hostname="127.0.0.1").close()
        else:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                client.wrap_socket(sock, server_hostname="127.0.0.1")


# ── files ────────────────────────────────────────────────────────────────────────────────


def test_files_that_cannot_be_used_stop_the_start(pair: Pair, foreign: Pair, tmp_path: Path) -> None:
    text, none = tmp_path / "text", tmp_path / "none"
    text.write_text("hello")
    locked = made(tmp_path, "locked", password="secret")
    for cert, key, words in (
        (none, pair.key, f"TLS__CERT='{none}' cannot be read: No such file or directory"),
        (pair.cert, none, f"TLS__KEY='{none}' cannot be read: No such file or directory"),
        (text, pair.key, f"TLS__CERT='{text}' with TLS__KEY='{pair.key}': want one certificate and its key as PEM"),
        (pair.cert, text, f"TLS__CERT='{pair.cert}' with TLS__KEY='{text}': want one certificate and its key as PEM"),
        (pair.cert, foreign.key, "the key is not the certificate's"),
        (locked.cert, locked.key, f"TLS__KEY='{locked.key}' wants a password"),
    ):
        with pytest.raises(ConfigError) as error:
            Certificate(str(cert), str(key))
        assert words in str(error.value)
    with pytest.raises(RuntimeError, match="the key is not the certificate's"):
        Daemon(TLS__CERT=pair.cert, TLS__KEY=foreign.key)


def test_a_reload_takes_the_new_files_or_keeps_the_old(tmp_path: Path) -> None:
    first, second = made(tmp_path, "a"), made(tmp_path, "b")
    certificate = Certificate(str(first.cert), str(first.key))
    before = certificate.context
    first.cert.write_text(second.cert.read_text())
    with pytest.raises(ConfigError, match="the key is not the certificate's"):
        certificate.reload()
    assert certificate.context is before
    first.key.write_text(second.key.read_text())
    certificate.reload()
    assert certificate.context is not before


# ── its own client ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("protocol", ["ndjson", "sse", "ws"])
def test_the_command_line_over_tls_with_a_token(pair: Pair, foreign: Pair, tmp_path: Path, protocol: str) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(line_of(TOKEN, None))
    environ = {key: value for key, value in os.environ.items() if not key.startswith("FASTMESH_")}

    def crawl(*flags: str, **more: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "fastmesh.cli", "crawl", "nonsense", "--server", daemon.address]
        done = subprocess.run(
            [*command, "--protocol", protocol, *flags],
            env=environ | more,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert TOKEN not in done.stdout + done.stderr
        return done.returncode, done.stderr if done.returncode == 1 else done.stdout.splitlines()[-1]

    with Daemon(cacert=pair.cert, **pair.settings, AUTH__TOKENS_FILE=tokens) as daemon:
        trust, token = ["--cacert", str(pair.cert)], {"FASTMESH_TOKEN": TOKEN}
        for flags, more in (([*trust, "--token", TOKEN], {}), (trust, token)):
            status, summary = crawl(*flags, **more)
            assert (status, json.loads(summary)["failed"]) == (3, 1)
        status, said = crawl(*trust)
        assert (status, "401 unauthorized" in said) == (1, True)
        for flags in ([], ["--cacert", str(foreign.cert)]):
            status, said = crawl(*flags, **token)
            assert (status, "shows no certificate that is trusted: self-signed certificate" in said) == (1, True), said


def test_flags_that_go_with_a_server_only() -> None:
    for flag in ("--token", "--cacert"):
        done = subprocess.run(
            [sys.executable, "-m", "fastmesh.cli", "crawl", "x", flag, "y"], capture_output=True, text=True
        )
        assert (done.returncode, flag in done.stderr) == (2, True)
    for path, words in (("/nonexistent", "cannot be read"), (__file__, "holds no certificates")):
        done = subprocess.run(
            [sys.executable, "-m", "fastmesh.cli", "crawl", "x", "--server", "https://127.0.0.1:1", "--cacert", path],
            capture_output=True,
            text=True,
        )
        assert (done.returncode, words in done.stderr) == (2, True)


def test_fastmesh_token_new_prints_a_token_and_its_line() -> None:
    def made_by(*flags: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "fastmesh.cli", "token", "new", *flags], capture_output=True, text=True
        )

    token, line = made_by("--name", "reports").stdout.splitlines()
    assert line == line_of(token, "reports")
    assert made_by().stdout.splitlines()[0] != token
    assert made_by("--name", "two names").returncode == 2


def test_a_connection_over_the_limit_is_told_so(pair: Pair) -> None:
    with (
        Daemon(cacert=pair.cert, **pair.settings, SERVER__MAX_CONNECTIONS=1) as daemon,
        daemon.connect() as first,
        daemon.connect() as second,
    ):
        assert first.ask("GET", "/livez").status == 200
        assert second.read().status == 503
        with pytest.raises(Closed):
            second.more()
