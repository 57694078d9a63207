"""``fastmesh crawl --server``, as a user runs it."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from daemons import PATIENCE_S
from scripted import FRAMES, Script, ScriptThread, encoded, free_port, heartbeat, message, metadata, refusal, result
from scripted import summary as summed_up

from fastmesh.client.stream import PROTOCOLS

FASTMESH = [sys.executable, "-m", "fastmesh.cli", "crawl"]
each_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)

FINE = [metadata(), result(2), result(3), summed_up(4)]


def environ() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("FASTMESH_")}


def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*FASTMESH, *arguments], input=stdin.encode(), capture_output=True, timeout=PATIENCE_S, env=environ()
    )


def lines(frames: list[dict[str, object]]) -> bytes:
    return b"".join(encoded(frame) + b"\n" for frame in frames)


@each_protocol
class TestCrawl:
    def test_the_frames_are_printed_as_they_came(self, protocol: str) -> None:
        with ScriptThread(frames=FINE, told={3: [heartbeat()]}) as script:
            done = run("--server", script.address, "--protocol", protocol, "http://x/2", "http://x/3")
        assert (done.returncode, done.stdout, done.stderr) == (0, lines(FINE), b"")

    def test_some_failed_is_3(self, protocol: str) -> None:
        with ScriptThread() as script:
            done = run("--server", script.address, "--protocol", protocol, "http://x/2", "http://x/3")
        assert (done.returncode, done.stdout, done.stderr) == (3, lines(FRAMES), b"")

    def test_breaks_are_not_seen(self, protocol: str) -> None:
        with ScriptThread(cuts=[700, 900]) as script:
            done = run("--server", script.address, "--protocol", protocol, "http://x/2", "http://x/3")
            assert script.was_cut
        assert (done.returncode, done.stdout, done.stderr) == (3, lines(FRAMES), b"")

    def test_an_interrupt_cancels_and_ends_with_the_summary(self, protocol: str) -> None:
        frames = [metadata(), result(2), summed_up(3, status="cancelled")]
        with ScriptThread(frames=frames, hold_before=3) as script:
            command = [*FASTMESH, "--server", script.address, "--protocol", protocol, "http://x/2", "http://x/3"]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ()) as process:
                assert process.stdout is not None
                assert [process.stdout.readline() for _ in range(2)] == lines(frames[:2]).splitlines(keepends=True)
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=PATIENCE_S)
            assert script.cancelled == 1
        assert (process.returncode, out, err) == (130, lines(frames[2:]), b"")

    def test_a_second_interrupt_waits_for_nothing(self, protocol: str) -> None:
        with ScriptThread(silent_after=1) as script:
            command = [*FASTMESH, "--server", script.address, "--protocol", protocol, "http://x/2", "http://x/3"]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ()) as process:
                assert process.stdout is not None
                process.stdout.readline()
                process.send_signal(signal.SIGTERM)
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(0.3)
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, out, err) == (130, b"", b"")

    def test_nobody_there_is_1_and_told(self, protocol: str) -> None:
        port = free_port()
        done = run("--server", f"http://127.0.0.1:{port}", "--protocol", protocol, "x")
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr == f"fastmesh: nobody answers at http://127.0.0.1:{port}: Connection refused\n".encode()

    def test_what_the_daemon_finds_wrong_is_2(self, protocol: str) -> None:
        with ScriptThread(answers=[refusal(400, "validation_error")]) as script:
            done = run("--server", script.address, "--protocol", protocol, "x", "--concurrency", "0")
        assert (done.returncode, done.stdout, done.stderr) == (2, b"", b"fastmesh: because\n")

    def test_another_refusal_is_1(self, protocol: str) -> None:
        with ScriptThread(answers=[refusal(403, "forbidden")]) as script:
            done = run("--server", script.address, "--protocol", protocol, "x")
        assert (done.returncode, done.stderr) == (1, b"fastmesh: refused with 403 forbidden: because\n")


def test_ndjson_is_the_protocol_unless_it_is_named() -> None:
    with ScriptThread() as script:
        run("--server", script.address, "x")
        assert [asked.path for asked in script.asked] == ["/crawl/stream"]


def test_a_unix_socket(tmp_path: Path) -> None:
    done = run("--server", f"unix:{tmp_path}/none", "x")
    assert done.returncode == 1
    assert b"nobody answers at unix:" in done.stderr


def test_the_options_go_to_the_daemon(tmp_path: Path) -> None:
    file = tmp_path / "urls"
    file.write_text("b\n")
    with ScriptThread() as script:
        run("--server", script.address, "a", "--file", str(file), "--concurrency", "3", "--timeout-ms", "5",
            "--include", "text,html", "--header", "X-A: b", "--user-agent", "me", "--max-body-bytes", "9",
            "--deadline-s", "7")  # fmt: skip
    assert json.loads(script.asked[0].body) == {
        "urls": ["a", "b"],
        "options": {
            "concurrency": 3, "timeout_ms": 5.0, "include": ["text", "html"], "headers": {"X-A": "b"},
            "user_agent": "me", "max_body_bytes": 9,
        },
        "stream": {"deadline_s": 7.0},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["x", "--protocol", "sse"], "--protocol is how a running daemon is asked: it goes with --server only"),
        (["x", "--server", "http://127.0.0.1:1", "--protocol", "http"], "--protocol"),
        (["x", "--server", "http://127.0.0.1:1", "--allow-network", "::1"], "--allow-network is the daemon's own"),
        (["x", "--server", "http://127.0.0.1:1", "--config", "f"], "--config is the daemon's own"),
        (["x", "--server", "http://127.0.0.1:1", "--log-level", "info"], "--log-level is the daemon's own"),
        (["x", "--server", "http://127.0.0.1:1", "--log-format", "json"], "--log-format is the daemon's own"),
        (["x", "--server", "127.0.0.1:8080"], "--server: '127.0.0.1:8080' is no address"),
        (["--server", "http://127.0.0.1:1"], "no URL"),
    ],
)
def test_wrong_usage_is_2_and_says_what(arguments: list[str], word: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert word in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_a_table_for_reading() -> None:
    with ScriptThread() as script:
        done = run("--server", script.address, "--output", "table", "http://x/2", "http://x/3")
    assert done.returncode == 3
    assert b"dns" in done.stdout
    assert b"completed: 2 URLs in 0.0 s (1.0/s), 1 succeeded, 1 failed" in done.stdout


def test_the_bar_is_on_stderr_when_that_is_a_terminal() -> None:
    with ScriptThread() as script:
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [*FASTMESH, "--server", script.address, "x", "y"], stdout=subprocess.PIPE, stderr=theirs, env=environ()
        )
        os.close(theirs)
        out, _ = process.communicate(timeout=PATIENCE_S)
        shown = b""
        while True:
            try:
                data = os.read(ours, 65_536)
            except OSError:  # how a pty says that its other end is closed
                break
            shown += data
        os.close(ours)
    assert out == lines(FRAMES)
    assert b"1 failed" in shown


def many_frames() -> ScriptThread:
    text = "x" * 100_000
    return ScriptThread(frames=[metadata(), *(result(seq, text=text) for seq in range(2, 1002)), summed_up(1002)])


def test_a_reader_that_has_seen_enough_ends_it() -> None:
    with many_frames() as script:
        command = [*FASTMESH, "--server", script.address, "x"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ()) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.stdout.close()
            assert process.wait(PATIENCE_S) == 1
            assert process.stderr is not None
            assert process.stderr.read() == b""
        assert script.cancelled == 1


def test_a_pipe_that_nobody_reads_holds_the_daemon_back_and_not_the_end() -> None:
    with many_frames() as script:
        command = [*FASTMESH, "--server", script.address, "x"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environ()) as process:
            assert process.stdout is not None
            process.stdout.readline()
            before = -1
            while script.sent != before:  # until it has stopped for a while
                before = script.sent
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(0.3)
            assert script.sent < 300
            process.send_signal(signal.SIGINT)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.3)
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE_S) == 130


def test_a_full_disk_is_told() -> None:
    with ScriptThread() as script, open("/dev/full", "wb") as full:
        command = [*FASTMESH, "--server", script.address, "x"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=environ(), timeout=PATIENCE_S)
    assert done.returncode == 1
    assert done.stderr == b"fastmesh: standard output cannot be written: No space left on device\n"


def test_a_frame_is_one_line_whatever_stands_between_its_tokens() -> None:
    class Loose(Script):
        async def _frames(self, wire: Any, after: int) -> Any:
            await wire.send(message(1, json.dumps(metadata(), indent=1).replace("\n", "\r\n").encode()))
            yield summed_up(2)

    with ScriptThread(Loose) as script:
        done = run("--server", script.address, "--protocol", "ws", "x")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [metadata(), summed_up(2)]
