"""A daemon under a service manager: sockets that outlive it, news that are true, a watchdog that is the loop's."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
from activation import Hearing, handing_over
from conftest import need
from daemons import PATIENCE_S, Closed, Daemon, Peer, own_address
from origins import Origin, silent

from fastmesh.server.host.systemd import Notifier, keep_informed
from fastmesh.telemetry.bugs import Bugs

WATCHDOG_S = 1.5


@contextmanager
def told(hearing: Hearing, **environ: str) -> Iterator[None]:
    """The variables that a service manager sets."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"NOTIFY_SOCKET": hearing.path, **environ}.items():
            patch.setenv(name, value)
        yield


@contextmanager
def watched(hearing: Hearing, *flags: str, **settings: Any) -> Iterator[Daemon]:
    """A daemon whose watchdog time is WATCHDOG_S."""
    with told(hearing, WATCHDOG_USEC=str(int(WATCHDOG_S * 1e6))), Daemon(*flags, **settings) as daemon:
        yield daemon


# ── news ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("abstract", [False, True])
def test_it_says_when_it_is_ready_what_it_does_and_when_it_stops(tmp_path: Path, abstract: bool) -> None:
    path = f"@fastmesh-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with Hearing(path) as hearing, told(hearing), Daemon(SERVER__DRAIN_TIMEOUT_S=5, FIREHOSE__ENABLED="true") as daemon:
        assert hearing.until(lambda text: "READY" in text) == "READY=1"
        assert hearing.said[0].startswith("STATUS=running: 0 streams, 0 connections")
        with daemon.connect() as peer:
            peer.send(peer.request("GET", "/firehose/stream?frames=100000&rate=20"))
            peer.head()
            hearing.until(lambda text: text.startswith("STATUS=running: 1 streams, 1 connections"))
            daemon.process.send_signal(signal.SIGTERM)
            stopping = hearing.until(lambda text: text.startswith("STOPPING=1"))
            assert 10e6 <= int(stopping.partition("EXTEND_TIMEOUT_USEC=")[2]) <= 15e6
            hearing.until(lambda text: text.startswith("STATUS=draining"))
        assert daemon.process.wait(PATIENCE_S) == 0
        assert not [text for text in hearing.said if "WATCHDOG" in text]  # nobody asked for it


@pytest.mark.parametrize("text", ["[stream]\nmax_urls = 5\n", "[stream]\nmax_url = 5\n"])
def test_a_reload_is_said_and_that_it_is_over_also_after_a_mistake(tmp_path: Path, text: str) -> None:
    path = tmp_path / "fastmesh.toml"
    path.write_text("")
    with Hearing(tmp_path / "notify") as hearing, told(hearing), Daemon("--config", str(path)) as daemon:
        hearing.until(lambda text: text == "READY=1")
        path.write_text(text)
        before = time.monotonic_ns() // 1000
        daemon.process.send_signal(signal.SIGHUP)
        reloading = hearing.until(lambda text: text.startswith("RELOADING=1"))
        said_at = int(reloading.removeprefix("RELOADING=1\nMONOTONIC_USEC="))
        assert before <= said_at <= time.monotonic_ns() // 1000
        hearing.until(lambda text: text == "READY=1")
        assert daemon.ask("GET", "/livez").status == 200


def test_an_end_that_hangs_is_given_no_more_time_for_ever(tmp_path: Path) -> None:
    async def stopping(left_s: float) -> str:
        notifier = Notifier({"NOTIFY_SOCKET": hearing.path})
        news = asyncio.create_task(keep_informed(notifier, lambda: "draining", lambda: left_s, Bugs()))
        try:
            return await asyncio.to_thread(hearing.until, lambda text: text.startswith("STOPPING=1"))
        finally:
            news.cancel()
            notifier.close()

    with Hearing(tmp_path / "notify") as hearing:
        for left_s, wanted_s in ((30.0, 40), (-4.0, 6), (-60.0, 0)):
            said = asyncio.run(stopping(left_s))
            assert said == f"STOPPING=1\nEXTEND_TIMEOUT_USEC={wanted_s * 1_000_000}"


def test_who_cannot_say_what_it_does_is_alive(tmp_path: Path) -> None:
    bugs = Bugs()

    def broken() -> NoReturn:
        raise KeyError("status")

    async def told() -> list[str]:
        notifier = Notifier({"NOTIFY_SOCKET": hearing.path, "WATCHDOG_USEC": "30000"})
        news = asyncio.create_task(keep_informed(notifier, broken, broken, bugs))
        try:
            return [await asyncio.to_thread(hearing.until, lambda text: text == "WATCHDOG=1") for _ in range(3)]
        finally:
            news.cancel()
            notifier.close()

    with Hearing(tmp_path / "notify") as hearing:
        asyncio.run(told())
    assert bugs.counts["news"] >= 2


def test_nobody_listening_harms_nobody(tmp_path: Path) -> None:
    with Hearing(tmp_path / "notify") as hearing:
        path = hearing.path
    os.unlink(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOTIFY_SOCKET", path)
        patch.setenv("WATCHDOG_USEC", "100000")
        with Daemon() as daemon:
            while len(daemon.logs("systemd.unheard")) < 3:
                assert daemon.ask("GET", "/livez").status == 200


def test_a_stuck_origin_keeps_no_watchdog_waiting_and_a_stuck_loop_does(tmp_path: Path) -> None:
    # A thread that holds the interpreter's lock is what a call that blocks the loop is: nothing else runs.
    (tmp_path / "sitecustomize.py").write_text(
        "import ctypes, os, threading\n"
        "def hold():\n"
        "    open(os.environ['HOLD']).read()\n"
        "    ctypes.PyDLL(None).usleep(6_000_000)\n"
        "if 'HOLD' in os.environ:\n"
        "    threading.Thread(target=hold, daemon=True).start()\n"
    )
    fifo = tmp_path / "hold"
    os.mkfifo(fifo)
    with Origin() as origin, Hearing(tmp_path / "notify") as hearing, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))
        patch.setenv("HOLD", str(fifo))
        with watched(hearing, FETCH__ALLOW_NETWORKS="127.0.0.0/8") as daemon, daemon.connect() as peer:
            url = origin.route("/stuck", silent)
            peer.send(peer.request("POST", "/crawl/stream", {"urls": [url], "options": {"respect_robots": False}}))
            frames = peer.frames()
            peer.head()
            next(frames)
            until = time.monotonic() + 2 * WATCHDOG_S
            while time.monotonic() < until:
                assert hearing.hear(WATCHDOG_S) is not None
            assert hearing.said.count("WATCHDOG=1") >= 4  # three in the time that it has for one
            fifo.write_text("now")
            gap = longest_silence(hearing, "WATCHDOG=1", times=4)
            assert gap > WATCHDOG_S


def longest_silence(hearing: Hearing, wanted: str, times: int) -> float:
    """The longest time between *times* of what is *wanted*, one of which comes after a pause."""
    longest, before = 0.0, time.monotonic()
    heard = 0
    while heard < times or longest < WATCHDOG_S:
        hearing.until(lambda text: text == wanted)
        now = time.monotonic()
        longest, before = max(longest, now - before), now
        heard += 1
    return longest


# ── sockets ──────────────────────────────────────────────────────────────────────────────


def listening(family: int, address: Any) -> socket.socket:
    sock = socket.socket(family)
    sock.bind(address)
    sock.listen()
    return sock


def test_it_listens_on_the_sockets_of_its_unit_and_leaves_them_there(tmp_path: Path) -> None:
    path = str(tmp_path / "fastmesh.sock")
    with listening(socket.AF_INET, ("127.0.0.1", 0)) as tcp, listening(socket.AF_UNIX, path) as unix:
        fds = [tcp.fileno(), unix.fileno()]
        for _ in range(2):
            with Daemon(prefix=handing_over(fds, "http:local"), fds=fds) as daemon:
                port = tcp.getsockname()[1]
                assert daemon.address == f"http://127.0.0.1:{port},unix:{path}"
                assert daemon.logs("daemon.started")[0]["inherited"] == ["http", "local"]
                for sock in (socket.create_connection(("127.0.0.1", port)), connected(path)):
                    sock.settimeout(PATIENCE_S)
                    with Peer(sock, "localhost") as peer:
                        assert peer.ask("GET", "/livez").status == 200
            assert Path(path).is_socket()


def test_on_a_socket_of_both_families_ipv4_is_what_it_is_elsewhere() -> None:
    """Loopback is not counted for one client, and the address that was asked at is a Host that is served."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as sock:
        fds, port = [sock.fileno()], sock.getsockname()[1]
        settings = {"AUTH__INSECURE": "true", "STREAM__MAX_PER_CLIENT": 1}
        with Daemon(prefix=handing_over(fds), fds=fds, **settings) as daemon:
            assert daemon.address == f"http://[::]:{port}"

            def ask(address: str) -> list[int]:
                with Peer(socket.create_connection((address, port), PATIENCE_S), f"{address}:{port}") as peer:
                    body = {"urls": ["nonsense"]}
                    return [peer.ask("POST", "/streams", body).status for _ in range(2)]

            assert ask("127.0.0.1") == [201, 201]
            assert ask(own_address()) == [201, 429]


def test_an_abstract_socket_of_its_unit_is_named_as_the_unit_names_it() -> None:
    name = f"fastmesh-test-{os.getpid()}"
    with listening(socket.AF_UNIX, f"\0{name}") as sock:
        fds = [sock.fileno()]
        with Daemon(prefix=handing_over(fds), fds=fds) as daemon:
            assert daemon.address == f"unix:@{name}"
            with Peer(connected(f"\0{name}"), "localhost") as peer:
                assert peer.ask("GET", "/livez").status == 200


def connected(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    return sock


def test_sockets_that_were_meant_for_another_process_are_left_alone(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LISTEN_PID", "1")
        patch.setenv("LISTEN_FDS", "1")
        with Daemon() as daemon:
            assert daemon.ask("GET", "/livez").status == 200


def idle() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: open(os.devnull), "descriptor 3 of the socket unit ('web') is no socket"),  # noqa: SIM115
        (lambda: socket.socket(type=socket.SOCK_DGRAM), "is an AF_INET socket of type SOCK_DGRAM: want ListenStream="),
        (idle, "does not listen: want Accept=no"),
        (lambda: listening(socket.AF_INET, ("0.0.0.0", 0)), "the socket unit's '0.0.0.0' is not a loopback address"),
    ],
)
def test_a_socket_that_will_not_do_stops_the_start(make: Any, message: str) -> None:
    with make() as given:
        fds = [given.fileno()]
        with pytest.raises(RuntimeError, match="did not start") as refused:
            Daemon(prefix=handing_over(fds, "web"), fds=fds)
    assert message in str(refused.value)
    assert "Traceback" not in str(refused.value)


def test_a_restart_under_load_refuses_no_connection_and_every_stream_gets_its_summary(tmp_path: Path) -> None:
    """systemd-socket-activate holds the socket and starts a daemon; a shell stands for the manager's restart."""
    activate = need("systemd-socket-activate")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    one = f'LISTEN_PID=$$ exec "{sys.executable}" -m fastmesh.cli serve'
    settings = {"FIREHOSE__ENABLED": "true", "SERVER__DRAIN_TIMEOUT_S": "1"}
    environ = [f"-EFASTMESH_{name}={value}" for name, value in settings.items()]
    command = [activate, "-l", f"127.0.0.1:{port}", *environ, "sh", "-c", f"{f'sh -c {one!r}; ' * 3}true"]
    log = tmp_path / "log"
    with log.open("w") as stderr:
        manager = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, start_new_session=True)
    statuses: list[str] = []
    faults: list[str] = []
    stop = threading.Event()

    def client(frames: int) -> None:
        while not stop.is_set():
            try:
                statuses.append(summary_status(port, frames))
            except (OSError, Closed, AssertionError, ValueError) as error:
                # The last daemon has no successor: one that it sends elsewhere finds nobody.
                if not (stop.is_set() and isinstance(error, ConnectionRefusedError)):
                    faults.append(repr(error))
                return

    try:
        clients = [threading.Thread(target=client, args=(5 if at % 2 else 100_000,)) for at in range(8)]
        wait_listening(port)
        for thread in clients:
            thread.start()
        assert manager.stdout is not None
        for generation in range(3):
            assert "listening on" in manager.stdout.readline()
            seen = len(statuses)
            while len(statuses) < seen + 16 and not faults:
                time.sleep(0.01)
            pid = [line for line in log.read_text().splitlines() if "daemon.started" in line][generation]
            if generation == 2:
                stop.set()  # the long streams end with this daemon
            os.kill(json.loads(pid)["pid"], signal.SIGTERM)
        for thread in clients:
            thread.join(PATIENCE_S)
        assert faults == []
        assert set(statuses) <= {"completed", "shutdown"}
        assert "shutdown" in statuses
        assert "completed" in statuses
    finally:
        stop.set()
        os.killpg(manager.pid, signal.SIGKILL)
        manager.wait()
        assert manager.stdout is not None
        manager.stdout.close()


def wait_listening(port: int) -> None:
    """Until the activator has its socket; from then on nothing may be refused."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    raise AssertionError("nothing listens")


def summary_status(port: int, frames: int) -> str:
    """One stream, read to its end; a 503 of a daemon that is on its way out is asked again elsewhere."""
    while True:
        sock = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        with Peer(sock, "localhost") as peer:
            peer.send(peer.request("GET", f"/firehose/stream?frames={frames}&rate=100"))
            try:
                head = peer.head()
            except Closed:
                continue  # accepted by the kernel when the daemon had ended accepting: nothing was asked of anybody
            if head.status == 503:
                continue
            status: str = list(peer.frames())[-1]["status"]
            return status
