"""``fastmesh top`` as a person sees it: on a pseudo terminal, in a pipe, and when its daemon goes away."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from daemons import PATIENCE_S, Daemon
from origins import Origin

from fastmesh.client.errors import ProtocolViolation
from fastmesh.commands.top.sample import sample_of

ALLOW = {"FETCH__ALLOW_NETWORKS": "127.0.0.0/8", "FIREHOSE__ENABLED": "true"}
COMMAND = [sys.executable, "-m", "fastmesh.cli", "top"]
OTHER_SCREEN, OLD_SCREEN = b"\x1b[?1049h", b"\x1b[?1049l"


def top(*arguments: str) -> subprocess.CompletedProcess[str]:
    """In a pipe."""
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, encoding="utf-8", timeout=PATIENCE_S)


class Terminal:
    """A pseudo terminal of 40 lines."""

    def __init__(self, *arguments: str, columns: int) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        environ = {**os.environ, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"}
        for name in ("COLUMNS", "LINES"):  # they would go before what the terminal says of itself
            environ.pop(name, None)
        self.process = subprocess.Popen([*COMMAND, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environ)
        os.close(theirs)
        self.seen = b""

    def read_until(self, pattern: str) -> str:
        """All that came, as soon as *pattern* is in it, colours aside."""
        end = time.monotonic() + PATIENCE_S
        while not re.search(pattern, text := re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.seen.decode(errors="replace"))):
            assert time.monotonic() < end, text
            if select.select([self._ours], [], [], 1)[0]:
                try:
                    self.seen += os.read(self._ours, 65_536)
                except OSError:  # its end
                    assert re.search(pattern, self.seen.decode()), self.seen
        return text

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@contextmanager
def terminal(*arguments: str, columns: int = 140) -> Iterator[Terminal]:
    opened = Terminal(*arguments, columns=columns)
    try:
        yield opened
    finally:
        opened.close()


def test_once_prints_one_picture_and_ends(origin: Origin) -> None:
    urls = [origin.page(f"/top/{at}", "<title>t</title>") for at in range(3)]
    with Daemon(**ALLOW) as daemon, daemon.connect() as reader:
        daemon.crawl(*urls)
        reader.send(reader.request("GET", "/firehose/stream?frames=100000&rate=50"))
        stream_id = reader.head().headers["x-stream-id"]
        done = top("--server", daemon.address, "--once")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert re.match(
        rf"fastmesh \S+  {re.escape(daemon.address)}  healthy  up 0:00:\d\d  \d+ connections  1 streams open, 1 kept",
        lines[0],
    )
    assert "extract_workers" in lines[1]
    (running,) = [line for line in lines if line.startswith(stream_id[:14])]
    assert re.search(r"firehose +active +\d+/100000 +\d\d\.\d .* ndjson ", running), running
    (ended,) = [line for line in lines if " crawl " in line]
    assert re.search(r"completed +3/3 +0\.0 .* nobody", ended), ended
    (ndjson,) = [line for line in lines if line.startswith("ndjson")]
    figures = ndjson.split()
    assert figures[1] == "1"
    assert 20 < float(figures[3]) < 80  # frames a second, of a stream of 50


def test_on_a_terminal_it_is_live_until_it_is_interrupted() -> None:
    with Daemon(**ALLOW) as daemon, terminal("--server", daemon.address, "--interval-s", "0.1") as screen:
        screen.read_until(r"0 streams open")
        assert OTHER_SCREEN in screen.seen
        with daemon.connect() as reader:
            reader.send(reader.request("GET", "/firehose/sse?frames=100000&rate=50"))
            stream_id = reader.head().headers["x-stream-id"]
            screen.read_until(rf"1 streams open[\s\S]*{stream_id[:14]}")
        screen.process.send_signal(signal.SIGINT)
        screen.read_until(r".")
        assert screen.process.wait(PATIENCE_S) == 0
        while OLD_SCREEN not in screen.seen:
            screen.seen += os.read(screen._ours, 65_536)


def test_in_80_columns_no_figure_is_cut() -> None:
    with Daemon(**ALLOW) as daemon, daemon.connect() as reader:
        reader.send(reader.request("GET", "/firehose/sse?frames=1000000&rate=50"))
        stream_id = reader.head().headers["x-stream-id"]
        with terminal("--server", daemon.address, "--interval-s", "0.1", columns=80) as screen:
            screen.seen = b""
            text = screen.read_until(
                rf"{stream_id[:14]} active +\d+/1000000 +\d\d\.\d +sse +[\d.]+K? +\d+ +128 +0 *\r?\n"
            )
    assert "first byte p99" in text
    assert "…" not in text


def test_a_daemon_that_goes_away_is_waited_for() -> None:
    with Daemon(**ALLOW) as daemon, terminal("--server", daemon.address, "--interval-s", "0.1") as screen:
        screen.read_until(r"0 streams open")
        daemon.process.kill()
        daemon.process.wait()
        screen.read_until(r"nobody answers at")
        with Daemon(**ALLOW, SERVER__PORT=daemon.port):
            screen.seen = b""
            screen.read_until(r"healthy  up 0:00:0")


def test_a_degraded_daemon_is_shown_as_such() -> None:
    with Daemon(SEARCH__PROVIDER="searxng", SEARCH__URL="http://127.0.0.1:1") as daemon:
        daemon.ask("POST", "/deepsearch/stream", {"query": "x"})
        assert daemon.ask("GET", "/healthz").status == 503
        done = top("--server", daemon.address, "--once")
    assert done.returncode == 0
    assert "  unhealthy  " in done.stdout.splitlines()[0]
    assert "streaming 100.0%/0.0%" in done.stdout


def test_a_unix_socket_is_asked_too(tmp_path) -> None:
    path = tmp_path / "s.sock"
    with Daemon(SERVER__UDS=path):
        done = top("--server", f"unix:{path}", "--once")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--server", "http://127.0.0.1:1", "--once"), 1, "nobody answers at http://127.0.0.1:1"),
        (("--server", "nonsense", "--once"), 2, "--server: 'nonsense' is no address"),
        (("--once", "--interval-s", "0"), 2, "--interval-s: want 0.1 to 60 seconds, got 0"),
        ((), 2, "standard output is no terminal: --once prints one picture"),
    ],
)
def test_what_cannot_be_shown_is_said(arguments: tuple[str, ...], status: int, said: str) -> None:
    done = top(*arguments)
    assert done.returncode == status
    assert done.stdout == ""
    assert said in done.stderr


def test_what_answers_and_is_no_daemon_is_said(origin: Origin) -> None:
    with Origin() as other:
        for path in ("/healthz", "/streams", "/metrics"):
            other.page(path, "<html>")
        done = top("--server", other.url("").rstrip("/"), "--once")
    assert (done.returncode, done.stderr) == (1, "fastmesh: what answers there is no fastmesh daemon\n")


@pytest.mark.parametrize(
    ("health", "streams"), [(b"[]", b'{"streams":[]}'), (b"{}", b"{}"), (b"{}", b'{"streams":{}}')]
)
def test_answers_of_another_shape_are_no_daemons(health: bytes, streams: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        sample_of(0.0, health, streams, b"")


def test_nothing_that_a_daemon_says_is_obeyed() -> None:
    evil = "\x1b[2J\x9b\u202e"
    stream = '{"stream_id":"%s","stream_type":"%s","state":null,"last_seq":"x","subscribers":[1,{"protocol":"%s"}]}'
    text = stream % (
        (evil.encode("unicode_escape").decode().replace("\\x1b", "\\u001b").replace("\\x9b", "\\u009b"),) * 3
    )
    with Origin() as other:
        other.page("/healthz", '{"status":"\\u001b[2J","dependencies":{"\\u001b[2J":{"status":1},"x":2}}')
        other.page("/streams", f'{{"streams":[{text},7]}}')
        other.page("/metrics", 'fastmesh_streaming_active_streams 1\nfastmesh_x{a="\x1b[2J"} 2\n')
        done = top("--server", other.url("").rstrip("/"), "--once")
    assert (done.returncode, done.stderr) == (0, "")
    assert not set(done.stdout) & {"\x1b", "\x9b", "\u202e"}


def test_a_daemon_with_tokens_is_shown_one(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("a-token-of-the-tests-0123456789abcdef\n")
    with Daemon(AUTH__TOKENS_FILE=tokens) as daemon:
        refused = top("--server", daemon.address, "--once")
        assert refused.returncode == 1
        assert refused.stdout == ""
        done = top("--server", daemon.address, "--once", "--token", "a-token-of-the-tests-0123456789abcdef")
    assert (done.returncode, done.stderr) == (0, "")
