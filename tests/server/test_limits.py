"""How many and how much: connections, files, streams, what waits behind a stream."""

from __future__ import annotations

import json
import os
import select
import socket
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from daemons import PATIENCE_S, Closed, Daemon, Peer, Response, own_address
from sockets import WebSocket

FOREVER = "/firehose/stream?frames=1000000000&rate=1"


def gone(peer: Peer) -> bool:
    """Whether the daemon closes the connection, with what was on its way before."""
    peer.rest()
    return True


class TestConnections:
    def test_one_too_many_is_told_503(self) -> None:
        with Daemon(SERVER__MAX_CONNECTIONS=3) as daemon:
            peers = [daemon.connect() for _ in range(3)]
            assert all(peer.ask("GET", "/livez").status == 200 for peer in peers)
            with daemon.connect() as refused:
                answer = refused.read()
                assert (answer.status, answer.json["error"]["type"]) == (503, "overloaded")
                assert int(answer.headers["retry-after"]) >= 1
                assert refused.closed()
            assert all(peer.ask("GET", "/livez").status == 200 for peer in peers)
            peers[0].sock.close()
            while daemon.connect().ask("GET", "/livez").status != 200:
                pass

    def test_one_too_many_of_a_peer_is_told_429(self) -> None:
        """Eight of them are; what is beyond is closed without a word; loopback has no limit; who leaves makes room."""
        address = own_address()
        with Daemon(
            SERVER__HOST="0.0.0.0",
            SERVER__ALLOWED_HOSTS="*",
            AUTH__INSECURE="true",
            SERVER__MAX_CONNECTIONS_PER_PEER=3,
        ) as daemon:

            def connected() -> Peer:
                return Peer(socket.create_connection((address, daemon.port), PATIENCE_S), "x")

            own = [daemon.connect() for _ in range(20)]
            peers = [connected() for _ in range(3)]
            assert all(peer.ask("GET", "/livez").status == 200 for peer in (*own, *peers))
            refused = connected()
            answer = refused.read()
            assert (answer.status, answer.json["error"]["type"]) == (429, "rate_limited")
            assert "SERVER__MAX_CONNECTIONS_PER_PEER" in answer.json["error"]["message"]
            others = [connected() for _ in range(20)]
            told = [other.rest()[:12] for other in others]
            assert 7 <= told.count(b"HTTP/1.1 429") <= 8
            assert told.count(b"") == 20 - told.count(b"HTTP/1.1 429")
            for peer in (refused, *others):
                peer.sock.close()
            with peers.pop() as leaving:
                assert leaving.ask("GET", "/livez").status == 200
            served = b""
            while b"200 OK" not in served:
                with connected() as again:
                    again.send(again.request("GET", "/livez", Connection="close"))
                    served = again.rest()
            for peer in peers:
                peer.sock.close()

    def test_an_old_connection_ends_between_requests(self) -> None:
        with Daemon(SERVER__MAX_AGE_S=0.5, STREAM__WS_PING_S=0.2, FIREHOSE__ENABLED="true") as daemon:
            idle, busy, reading = (daemon.connect() for _ in range(3))
            assert idle.ask("GET", "/livez").status == 200
            with WebSocket(daemon) as silent, WebSocket(daemon, "/firehose/ws?frames=10&rate=8") as socket_:
                reading.send(reading.request("GET", "/firehose/stream?frames=10&rate=8"))
                while busy.ask("GET", "/livez").headers.get("connection") != "close":
                    pass
                assert busy.closed()
                assert idle.closed()
                assert reading.read().frames[-1]["status"] == "completed"  # it takes longer than that
                assert reading.closed()
                while socket_.read()["type"] != "summary":
                    pass
                silent.ask("ping")  # a sign of life is no reason to stay
                socket_.ask("ping")
                assert silent.closed() == (1001, "the connection is old")
                assert socket_.closed() == (1001, "the connection is old")

    def test_the_limit_is_lowered_to_the_hard_file_limit_with_a_warning(self) -> None:
        with Daemon(prefix=("prlimit", "--nofile=500:500")) as daemon:
            (line,) = daemon.logs("settings.lowered")
            assert line["setting"] == "SERVER__MAX_CONNECTIONS"
            assert line["value"] == 10_000
            assert line["lowered_to"] < 500

    def test_the_soft_file_limit_is_raised(self) -> None:
        with Daemon(prefix=("prlimit", "--nofile=100:20000")) as daemon:
            limits = Path(f"/proc/{daemon.pid}/limits").read_text()
            soft = next(line for line in limits.splitlines() if line.startswith("Max open files")).split()[3]
            assert int(soft) > 10_000
            assert daemon.logs("settings.lowered") == []

    def test_without_files_it_pauses_and_recovers(self) -> None:
        """Its limit is taken away while it runs: it neither spins nor dies, and serves again when files are back."""
        with Daemon() as daemon:
            held = daemon.connect()
            assert held.ask("GET", "/livez").status == 200
            used = len(list(Path(f"/proc/{daemon.pid}/fd").iterdir()))
            subprocess.run(["prlimit", f"--pid={daemon.pid}", f"--nofile={used}:{used + 2000}"], check=True)
            waiting = [daemon.connect() for _ in range(5)]
            while not daemon.logs("listener.out_of_files"):
                assert held.ask("GET", "/livez").status == 200
            assert len(daemon.logs("listener.out_of_files")) < 20
            assert all(peer.closed() for peer in waiting)  # by the one file that was kept for that: none waits in vain
            subprocess.run(["prlimit", f"--pid={daemon.pid}", f"--nofile={used + 1000}"], check=True)
            assert daemon.connect().ask("GET", "/livez").status == 200
            for peer in (*waiting, held):
                peer.sock.close()

    def test_a_burst_of_clients_that_reset_leaks_nothing(self, daemon: Daemon) -> None:
        for _ in range(200):
            peer = daemon.connect()
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            peer.send(peer.request("GET", FOREVER))
            peer.sock.close()
        while daemon.ask("GET", "/healthz").json["dependencies"]["streaming"]["active_streams"]:
            pass
        assert daemon.metric('fastmesh_streaming_active_connections{protocol="ndjson"}') == 0


class TestStreams:
    def test_over_the_limit_of_all_is_503(self) -> None:
        with Daemon(STREAM__MAX_CONCURRENT=2, STREAM__RESUME_WINDOW_S=0, FIREHOSE__ENABLED="true") as daemon:
            peers = [daemon.connect() for _ in range(2)]
            for peer in peers:
                peer.send(peer.request("GET", FOREVER))
                assert peer.head().status == 200
            answer = daemon.ask("GET", "/firehose/stream?frames=1")
            assert (answer.status, answer.json["error"]["type"]) == (503, "overloaded")
            assert "retry-after" in answer.headers
            peers[0].sock.close()
            while daemon.ask("GET", "/firehose/stream?frames=1").status != 200:
                pass
            peers[1].sock.close()

    def test_loopback_is_not_counted_for_one_client(self) -> None:
        with Daemon(STREAM__MAX_PER_CLIENT=1, FIREHOSE__ENABLED="true") as daemon, daemon.connect() as first:
            first.send(first.request("GET", FOREVER))
            first.head()
            assert daemon.ask("GET", "/firehose/stream?frames=1").status == 200

    def test_too_many_urls_are_400_with_the_setting(self) -> None:
        with Daemon(STREAM__MAX_URLS=3) as daemon:
            error = daemon.ask("POST", "/crawl/stream", {"urls": ["x"] * 4}).json["error"]
            assert error["field"] == "urls"
            assert "STREAM__MAX_URLS" in error["message"]
            assert len(daemon.crawl("x", "x", "x")) == 5

    def test_more_than_64_kib_behind_a_stream_closes(self, daemon: Daemon) -> None:
        with daemon.connect() as peer:
            peer.send(peer.request("GET", FOREVER))
            peer.head()
            peer.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000)
            peer.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000)
            assert gone(peer)

    def test_what_waits_behind_a_stream_is_answered_after_it(self, daemon: Daemon) -> None:
        with daemon.connect() as peer:
            peer.send(peer.request("GET", "/firehose/stream?frames=3&rate=20"))
            peer.head()
            peer.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000)
            assert len(list(peer.frames())) == 5
            assert all(peer.read().status == 200 for _ in range(1000))

    def test_a_client_that_ends_its_side_during_a_stream_is_gone(self, daemon: Daemon) -> None:
        with daemon.connect() as peer:
            peer.send(peer.request("GET", FOREVER, X_Request_ID="fin-during-stream"))
            peer.head()
            peer.sock.shutdown(socket.SHUT_WR)
            assert gone(peer)

        def ended() -> list[str]:
            lines = daemon.logs("stream.closed")
            return [line["status"] for line in lines if line["request_id"] == "fin-during-stream"]

        while not ended():
            pass
        assert ended() == ["cancelled"]


class TestUnixSocket:
    def test_serves_and_leaves_no_file(self, tmp_path: Path) -> None:
        path = tmp_path / "fastmesh.sock"
        with Daemon(SERVER__UDS=path, FIREHOSE__ENABLED="true") as daemon:
            assert daemon.address == f"unix:{path}"
            assert stat.S_ISSOCK(path.stat().st_mode)
            assert daemon.ask("GET", "/firehose/stream?frames=100").frames[-1]["successful"] == 100
            assert daemon.ask("GET", "/livez", Host="evil.test").status == 421
        assert not path.exists()

    def test_replaces_what_a_dead_daemon_left_and_nothing_else(self, tmp_path: Path) -> None:
        path = tmp_path / "fastmesh.sock"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        with Daemon(SERVER__UDS=path) as daemon:
            assert daemon.ask("GET", "/livez").status == 200
            with pytest.raises(RuntimeError, match="Address already in use"):
                Daemon(SERVER__UDS=path)
        path.write_text("mine")
        with pytest.raises(RuntimeError, match="SERVER__UDS"):
            Daemon(SERVER__UDS=path)
        assert path.read_text() == "mine"

    def test_a_daemon_that_stops_leaves_its_successors_socket(self, tmp_path: Path) -> None:
        path = tmp_path / "fastmesh.sock"
        with Daemon(SERVER__UDS=path) as first:
            path.unlink()
            with Daemon(SERVER__UDS=path) as second:
                first.process.terminate()
                assert first.process.wait(PATIENCE_S) == 0
                assert second.ask("GET", "/livez").status == 200
        assert not path.exists()

    @pytest.mark.parametrize(("umask", "mode"), [("000", 0o660), ("002", 0o660), ("022", 0o640), ("077", 0o600)])
    def test_others_may_never_connect(self, tmp_path: Path, umask: str, mode: int) -> None:
        path = tmp_path / "fastmesh.sock"
        with Daemon(prefix=("sh", "-c", f'umask {umask}; exec "$@"', "sh"), SERVER__UDS=path):
            assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_port_in_use_is_told_by_the_settings_name(daemon: Daemon) -> None:
    with pytest.raises(
        RuntimeError, match=rf"SERVER__HOST='127.0.0.1' with SERVER__PORT={daemon.port} cannot be bound"
    ):
        Daemon("--port", str(daemon.port))


def test_the_port_that_is_set_is_bound() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with Daemon(SERVER__PORT=port) as daemon:
        assert daemon.address == f"http://127.0.0.1:{port}"
        assert daemon.ask("GET", "/livez").status == 200


def test_ipv6_loopback() -> None:
    with Daemon(SERVER__HOST="::1") as daemon:
        assert daemon.address.startswith("http://[::1]:")
        with socket.create_connection(("::1", daemon.port), PATIENCE_S) as sock:
            assert Peer(sock, daemon.host).ask("GET", "/livez").status == 200


def test_a_public_address_needs_the_word() -> None:
    with pytest.raises(RuntimeError, match=r"SERVER__HOST='0\.0\.0\.0' is not a loopback address"):
        Daemon("--host", "0.0.0.0")
    with Daemon("--host", "0.0.0.0", AUTH__INSECURE="true") as daemon:
        assert daemon.ask("GET", "/livez", Host="127.0.0.1").status == 200
        assert daemon.ask("GET", "/livez", Host="0.0.0.0").status == 421


def test_without_tokens_a_client_is_its_address() -> None:
    address = own_address()
    with Daemon(
        "--host", "0.0.0.0", AUTH__INSECURE="true", STREAM__RATE_LIMIT_RPS=0.001, STREAM__RATE_LIMIT_BURST=1
    ) as daemon:

        def outside(method: str, path: str, body: object = None) -> Response:
            with socket.create_connection((address, daemon.port), PATIENCE_S) as sock:
                return Peer(sock, f"{address}:{daemon.port}").ask(method, path, body)

        def local(method: str, path: str, body: object = None) -> Response:
            return daemon.ask(method, path, body, Host="127.0.0.1")

        body = {"urls": ["x"], "stream": {"detach": True}}
        theirs = outside("POST", "/streams", body).json["stream_id"]
        ours = local("POST", "/streams", body).json["stream_id"]
        assert outside("POST", "/streams", body).status == 429
        assert local("POST", "/streams", body).status == 201
        assert (outside("GET", f"/streams/{theirs}").status, outside("GET", f"/streams/{ours}").status) == (200, 404)
        assert local("GET", f"/streams/{theirs}").status == 404
        assert [stream["stream_id"] for stream in outside("GET", "/streams").json["streams"]] == [theirs]


def test_allowed_hosts() -> None:
    with Daemon(SERVER__ALLOWED_HOSTS="crawl.example,[::1]") as daemon:
        assert daemon.ask("GET", "/livez", Host="CRAWL.example:80").status == 200
        assert daemon.ask("GET", "/livez", Host="[::1]").status == 200
        assert daemon.ask("GET", "/livez", Host="localhost").status == 421
    with Daemon(SERVER__ALLOWED_HOSTS="*") as daemon:
        assert daemon.ask("GET", "/livez", Host="anything.example").status == 200


def test_header_and_body_limits() -> None:
    with Daemon(SERVER__MAX_HEADER_BYTES=300, SERVER__MAX_BODY_BYTES=20) as daemon:
        with daemon.connect() as peer:
            short = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: "
            peer.send(short + b"a" * (300 - len(short) - 4) + b"\r\n\r\n")
            assert peer.read().status == 200
            peer.send(short + b"a" * (301 - len(short) - 4) + b"\r\n\r\n")
            assert peer.read().status == 431
        assert daemon.ask("POST", "/crawl/stream", b'{"urls":["12345678"]}').status == 413
        assert daemon.ask("POST", "/crawl/stream", b'{"urls":["1234567"]}').status == 200


def test_the_firehose_is_off_by_default() -> None:
    with Daemon() as daemon:
        answer = daemon.ask("GET", "/firehose/stream?frames=1")
        assert answer.status == 404
        assert "FIREHOSE__ENABLED" in answer.json["error"]["message"]
    with Daemon(FIREHOSE__ENABLED="true") as daemon:
        assert daemon.ask("GET", "/firehose/stream?frames=1").frames[-1]["successful"] == 1


def test_no_process_is_left_when_it_is_killed() -> None:
    with Daemon() as daemon:
        children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
        assert children
        daemon.process.kill()
        daemon.process.wait()
        for child in children:
            # A pidfd turns readable when its process ends; one that has ended already has none.
            with suppress(ProcessLookupError):
                pidfd = os.pidfd_open(int(child))
                assert select.select([pidfd], [], [], PATIENCE_S)[0], "an extraction worker outlives its daemon"
                os.close(pidfd)


def test_a_worker_gives_way_to_the_daemon_in_time_and_when_memory_is_short() -> None:
    def out_of_memory_score(pid: int) -> int:
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())

    with Daemon(WORKERS__EXTRACT=2) as daemon:
        children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
        assert len(children) == 2
        for child in map(int, children):
            assert out_of_memory_score(child) == min(1000, out_of_memory_score(daemon.pid) + 500)
            assert os.getpriority(os.PRIO_PROCESS, child) > os.getpriority(os.PRIO_PROCESS, daemon.pid)


@pytest.mark.parametrize("module", ["fastmesh", "fastmesh.cli"])
def test_imports_without_side_effects(module: str) -> None:
    done = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""


def test_the_heartbeat_keeps_a_silent_stream_alive() -> None:
    with Daemon(STREAM__HEARTBEAT_S=0.2, FIREHOSE__ENABLED="true") as daemon, daemon.connect() as peer:
        peer.send(peer.request("GET", "/firehose/stream?frames=2&rate=0.5"))
        peer.head()
        frames = list(peer.frames())
        beats = [frame for frame in frames if frame["type"] == "heartbeat"]
        assert len(beats) >= 4
        assert all(set(beat) == {"type", "stream_id", "timestamp"} for beat in beats)
        assert [frame["seq"] for frame in frames if "seq" in frame] == [1, 2, 3, 4]


def test_the_deadline_ends_a_stream_with_its_summary() -> None:
    with Daemon(STREAM__DEADLINE_S=0.3, FIREHOSE__ENABLED="true") as daemon:
        summary = daemon.ask("GET", "/firehose/stream?frames=20&rate=5").frames[-1]
        assert summary["status"] == "deadline"
        assert summary["successful"] + summary["cancelled"] == 20
        assert summary["unfinished"] == [[summary["successful"], 19]]
        refused = daemon.ask("POST", "/crawl/stream", {"urls": ["x"], "stream": {"deadline_s": 0.4}})
        assert refused.json["error"]["field"] == "stream.deadline_s"


def test_a_body_nested_too_deep_is_400(daemon: Daemon) -> None:
    assert daemon.ask("POST", "/crawl/stream", b"[" * 100_000).status == 400
    assert daemon.ask("POST", "/crawl/stream", json.dumps({"urls": [[["x"]]]}).encode()).status == 400


def test_closed_is_the_end_for_the_reader(daemon: Daemon) -> None:
    with daemon.connect() as peer:
        peer.sock.shutdown(socket.SHUT_WR)
        with pytest.raises(Closed):
            peer.more()
