"""The command, as a user runs it."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from daemons import PATIENCE_S
from origins import Origin

from fastmesh.cli import main
from fastmesh.config import every_setting
from fastmesh.server.daemon import RELOADABLE
from fastmesh.version import __version__

SETTINGS_DOC = Path(__file__).parents[2] / "docs" / "settings.md"
FASTMESH = [sys.executable, "-m", "fastmesh.cli"]
ALLOW = ["--allow-network", "127.0.0.0/8"]


def environ(**settings: str) -> dict[str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("FASTMESH_")}
    return clean | {f"FASTMESH_{name}": value for name, value in settings.items()}


def run(*arguments: object, stdin: str = "", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*FASTMESH, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=env or environ(),
    )


def frames(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_version() -> None:
    assert re.fullmatch(r"fastmesh \d+\.\d+\.\d+\n", run("--version").stdout)


@pytest.mark.parametrize("command", [[], ["serve"], ["crawl"], ["demo"], ["config"]])
def test_help_names_the_exit_status_or_the_flags(command: list[str]) -> None:
    done = run(*command, "--help")
    assert done.returncode == 0
    assert "usage: fastmesh" in done.stdout


class TestCrawl:
    def test_all_succeeded_is_0_and_stdout_holds_frames_alone(self, origin: Origin) -> None:
        origin.page("/a", "<title>A</title>")
        done = run("crawl", *ALLOW, origin.url("/a"), origin.url("/a"))
        assert done.returncode == 0, done.stderr
        assert [frame["seq"] for frame in frames(done)] == [1, 2, 3, 4]
        assert frames(done)[1]["result"]["document"]["title"] == "A"
        assert done.stderr == ""

    def test_some_failed_is_3(self, origin: Origin) -> None:
        done = run("crawl", *ALLOW, origin.url("/a"), origin.url("/missing"))
        assert done.returncode == 3
        assert frames(done)[-1]["failed"] == 1

    def test_reads_urls_from_files_and_standard_input(self, origin: Origin, tmp_path: Path) -> None:
        origin.page("/a", "<title>A</title>")
        file = tmp_path / "urls"
        file.write_text(f"\ufeff# a comment\n\n{origin.url('/a')}\n  {origin.url('/a')}  \n", "utf-8")
        done = run("crawl", *ALLOW, "--file", file, "--file", "-", origin.url("/a"), stdin=origin.url("/a") + "\n")
        assert frames(done)[0]["total_urls"] == 4
        assert done.returncode == 0

    def test_more_urls_than_a_request_may_have(self) -> None:
        done = run("crawl", "--file", "-", stdin="x\n" * 3000)
        assert frames(done)[-1]["failed"] == 3000

    @pytest.mark.parametrize(
        ("arguments", "word"),
        [
            ([], "no URL"),
            (["--file", "/nonexistent"], "/nonexistent"),
            (["x", "--concurrency", "0"], "options.concurrency"),
            (["x", "--include", "text,pictures"], "options.include"),
            (["x", "--timeout-ms", "999999999"], "options.timeout_ms"),
            (["x", "--header", "nocolon"], "nocolon"),
            (["x", "--header", "Host: a"], "Host"),
            (["x", "--header", "A: b", "--header", "A: c"], "more than once"),
            (["x", "--header", "A: b", "--header", "a: c"], "options.headers"),
            (["x", "--unknown"], "--unknown"),
            (["x", "--output", "xml"], "xml"),
        ],
    )
    def test_wrong_usage_is_2_and_says_what(self, arguments: list[str], word: str) -> None:
        done = run("crawl", *arguments)
        assert done.returncode == 2
        assert word in done.stderr
        assert done.stdout == ""
        assert "Traceback" not in done.stderr

    def test_wrong_settings_are_1(self) -> None:
        done = run("crawl", "x", env=environ(FETCH__CONCURRENCY="0"))
        assert done.returncode == 1
        assert "FETCH__CONCURRENCY='0' (environment)" in done.stderr

    def test_options_reach_the_fetch(self, origin: Origin) -> None:
        origin.page("/options", "<title>A</title><p>words")
        done = run("crawl", *ALLOW, origin.url("/options"), "--user-agent", "me/1", "--header", "X-Key: v",
                   "--include", "html")  # fmt: skip
        head = origin.heads["/options"][-1].lower()
        assert "user-agent: me/1" in head
        assert "x-key: v" in head
        document = frames(done)[1]["result"]["document"]
        assert document["html"] == "<title>A</title><p>words"
        assert document["text"] is None

    def test_the_grade_of_extraction_reaches_the_worker(self, origin: Origin) -> None:
        origin.page("/graded", f"<h1>Head</h1><p>{'Words, and some more of them. ' * 30}<img src=/i.png>")
        grades = {
            grade: frames(run("crawl", *ALLOW, origin.url("/graded"), *arguments))[1]["result"]["document"]["markdown"]
            for grade, arguments in {"fast": (), "quality": ("--extractor", "quality")}.items()
        }
        assert ("![](" in grades["fast"], "![](" in grades["quality"]) == (True, False)  # it leaves images out

    def test_an_interrupt_ends_with_the_summary_and_130(self, origin: Origin) -> None:
        with subprocess.Popen(
            [*FASTMESH, "crawl", *ALLOW, "nonsense", origin.url("/silent")],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ(),
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["type"] == "metadata"
            assert json.loads(process.stdout.readline())["type"] == "result"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 130
            assert json.loads(out)["status"] == "cancelled"
            assert err == ""

    def test_a_reader_that_has_seen_enough_ends_it(self, origin: Origin) -> None:
        origin.page("/large", "<p>" + "words " * 20_000)
        command = [*FASTMESH, "crawl", *ALLOW, *[origin.url("/large")] * 200]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ()) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.stdout.close()
            assert process.wait(PATIENCE_S) == 1
            assert process.stderr is not None
            assert process.stderr.read() == b""

    def test_a_pipe_that_nobody_reads_holds_the_fetches_back(self, origin: Origin) -> None:
        origin.page("/held", "<p>" + "words " * 20_000)
        command = [*FASTMESH, "crawl", *ALLOW, *[origin.url("/held")] * 500]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environ()) as process:
            assert process.stdout is not None
            process.stdout.readline()
            before = -1
            while origin.hits["/held"] != before:  # until it has stopped for a while
                before = origin.hits["/held"]
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(1)
            assert origin.hits["/held"] < 300
            lines = process.stdout.read().splitlines()
            assert json.loads(lines[-1])["successful"] == 500
            assert process.wait(PATIENCE_S) == 0

    def test_a_full_disk_is_told(self, origin: Origin) -> None:
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                [*FASTMESH, "crawl", "x"], stdout=full, stderr=subprocess.PIPE, env=environ(), timeout=PATIENCE_S
            )
        assert done.returncode == 1
        assert b"standard output cannot be written: No space left on device" in done.stderr

    def test_the_bar_is_on_stderr_when_that_is_a_terminal(self, origin: Origin) -> None:
        ours, theirs = pty.openpty()
        process = subprocess.Popen([*FASTMESH, "crawl", "x", "y"], stdout=subprocess.PIPE, stderr=theirs, env=environ())
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
        assert len(out.splitlines()) == 4
        assert b"2/2" in shown
        assert b"2 failed" in shown

    def test_a_table_for_reading(self, origin: Origin) -> None:
        origin.page("/a", "<title>The title</title>")
        done = run("crawl", *ALLOW, "--output", "table", origin.url("/a"), "nonsense")
        assert done.returncode == 3
        assert "The title" in done.stdout
        assert "invalid_url" in done.stdout
        assert "\x1b" not in done.stdout


class TestConfig:
    def test_what_a_terminal_would_obey_is_escaped(self) -> None:
        done = run("config", env=environ(SERVER__UDS="/s\x1b[2J\u202e"))
        assert (done.returncode, r"/s\x1b[2J\u202e" in done.stdout, "\x1b" in done.stdout) == (0, True, False)

    def test_shows_every_setting_with_value_source_and_unit(self, tmp_path: Path) -> None:
        """A file, the environment and flags in one start: the later wins, value by value."""
        file = tmp_path / "fastmesh.toml"
        file.write_text(
            "[server]\nport = 1\nuds = '/s'\n[fetch]\ntimeout_ms = 5\nallow_networks = ['10.0.0.0/8']\n"
            "[log]\nlevel = 'debug'\nformat = 'json'\n"
        )
        flags = ["--port", "3", "--allow-network", "127.0.0.0/8", "--allow-network", "::1/128", "--log-level", "error"]
        told = environ(STREAM__MAX_URLS="7", SERVER__PORT="2", LOG__FORMAT="console", LOG__LEVEL="info", TOKEN="t")
        by_variable = run("config", *flags, env=told | {"FASTMESH_CONFIG": str(file)})
        done = run("config", "--config", file, *flags, env=told | {"FASTMESH_CONFIG": "/nonexistent"})
        assert done.stdout == by_variable.stdout
        lines = {line.split()[0]: re.split("  +", line) for line in done.stdout.splitlines()}
        from_file = f"file {file}"
        assert {name: cells[1:3] for name, cells in lines.items() if cells[2] != "default"} == {
            "SERVER__PORT": ["3", "flag"],
            "SERVER__UDS": ["/s", from_file],
            "STREAM__MAX_URLS": ["7", "environment"],
            "FETCH__TIMEOUT_MS": ["5", from_file],
            "FETCH__ALLOW_NETWORKS": ["127.0.0.0/8,::1/128", "flag"],
            "LOG__LEVEL": ["error", "flag"],
            "LOG__FORMAT": ["console", "environment"],
        }
        assert lines["BUFFER__SLOW_MS"][1:4] == ["100", "default", "ms"]
        assert list(lines) == [str(setting) for setting in every_setting()]

    @pytest.mark.parametrize(
        ("flag", "wrong", "setting", "allowed"),
        [
            ("--port", "-1", "SERVER__PORT", "an integer from 0 to 65535"),
            ("--host", "", "SERVER__HOST", "an address of this machine, or localhost"),
            ("--uds", "", "SERVER__UDS", "a path"),
            ("--allow-network", "localhost", "FETCH__ALLOW_NETWORKS", "networks such as 127.0.0.0/8,::1/128"),
            ("--log-format", "xml", "LOG__FORMAT", "json or console"),
            ("--log-level", "", "LOG__LEVEL", "debug, info, warning or error"),
        ],
    )
    def test_a_wrong_flag_is_told(
        self, capsys: pytest.CaptureFixture[str], flag: str, wrong: str, setting: str, allowed: str
    ) -> None:
        assert main(["config", f"{flag}={wrong}"]) == 1
        assert capsys.readouterr() == ("", f"fastmesh: {setting}={wrong!r} (flag): want {allowed}\n")

    def test_check_is_0_or_names_the_first_wrong_one(self) -> None:
        assert run("config", "--check").returncode == 0
        done = run("config", "--check", env=environ(FETCH__MAX_REDIRECTS="-1", SERVER__PORT="99999"))
        assert done.returncode == 1
        assert "SERVER__PORT='99999' (environment)" in done.stderr

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            (
                {"BUFFER__TOTAL_BYTES": "5000"},
                "want 4194304 or more (BUFFER__TOTAL_BYTES from environment)",
            ),
            (
                {"AUTH__TOKENS_FILE": "/nonexistent"},
                "AUTH__TOKENS_FILE='/nonexistent': cannot be read: No such file or directory"
                " (AUTH__TOKENS_FILE from environment)",
            ),
            (
                {"SEARCH__PROVIDER": "static", "SEARCH__STATIC_FILE": "/nonexistent"},
                "SEARCH__STATIC_FILE='/nonexistent' cannot be read: No such file or directory"
                " (SEARCH__STATIC_FILE from environment)",
            ),
        ],
    )
    def test_check_refuses_what_a_start_refuses(self, settings: dict[str, str], message: str) -> None:
        for command in (["config", "--check"], ["serve", "--port", "0"]):
            done = run(*command, env=environ(LOG__LEVEL="error", **settings))
            assert done.returncode == 1
            assert done.stderr.startswith("fastmesh: ")  # and nothing else
            assert done.stderr.endswith(f"{message}\n")
            assert done.stdout == ""

    def test_the_docs_have_the_reference(self) -> None:
        done = run("config", "--reference", env=environ(SERVER__PORT="wrong"))  # it is about no values
        assert SETTINGS_DOC.read_text("utf-8").endswith(f"\n\n{done.stdout}"), (
            "put what `fastmesh config --reference` prints at the end of docs/settings.md"
        )
        for setting in every_setting():
            taken = "yes" if (setting.section, setting.name) in RELOADABLE else "restart"
            (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"| `{setting}` |")]
            assert line.endswith(f" | {setting.allowed} | {setting.meaning} | {taken} |")
        assert "| `WORKERS__EXTRACT` | cores that it may use − 1, at least 1 |" in done.stdout
        assert __version__ not in done.stdout


@pytest.mark.parametrize("flags", [["--port", "http"], ["--log-format", "xml"], ["--config", "/nonexistent.toml"]])
def test_serve_refuses_wrong_flags_without_a_traceback(flags: list[str]) -> None:
    done = run("serve", *flags)
    assert done.returncode == 1
    assert flags[1] in done.stderr
    assert "Traceback" not in done.stderr
