"""The load test in its short form: the command of loadtest/README.md with fewer users and less time."""

from __future__ import annotations

import csv
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from daemons import Daemon

from fastmesh.api.access.tokens import line_of, new_token

ROOT = Path(__file__).parent.parent.parent
COMMAND = [sys.executable, "-m", "locust", "--config", "loadtest/locust.conf", "--stop-timeout", "20"]
# A shared machine may hold anybody up; a machine of one's own is measured by the long form.
SHORT = ["--users", "12", "--spawn-rate", "12", "--run-time", "5s", "--ttfb-p99-ms", "2000"]


@pytest.fixture(autouse=True)
def _with_locust() -> None:
    if find_spec("locust") is None:
        pytest.skip("locust is not installed")


def load(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *SHORT, *flags], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_users_of_all_protocols_stream_without_a_hole(tmp_path: Path):
    done = load("--html", str(tmp_path / "report.html"), "--csv", str(tmp_path / "load"))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("load test: passed") == 1
    assert "first byte" in (tmp_path / "report.html").read_text()
    with open(tmp_path / "load_stats.csv", newline="") as file:
        rows = {(row["Type"], row["Name"]): row for row in csv.DictReader(file)}
    for kind in ("NDJSON", "SSE", "WebSocket", "NDJSON, slow"):
        assert int(rows[kind, "first byte"]["Request Count"]) > 0
    assert {name for _, name in rows} <= {"first byte", "frames", "firehose", "crawl", "gap", "Aggregated"}
    assert all(row["Failure Count"] == "0" for row in rows.values())


def test_a_limit_that_is_passed_fails_the_command_and_is_named(tmp_path: Path):
    done = load("--run-time", "1s", "--ttfb-p99-ms", "0.001", "--html", str(tmp_path / "report.html"))
    assert done.returncode == 1
    assert "limit passed: NDJSON, time to first byte, p99: " in done.stderr


def test_a_daemon_with_tokens_is_shown_one(tmp_path: Path):
    token, tokens = new_token(), tmp_path / "tokens"
    tokens.write_text(line_of(token, None))
    with Daemon(AUTH__TOKENS_FILE=tokens, FIREHOSE__ENABLED="true") as daemon:
        flags = ["--run-time", "3s", "--host", daemon.address, "--html", str(tmp_path / "report.html")]
        done = load(*flags, "--token", token)
        assert done.returncode == 0, done.stderr
        assert load(*flags).returncode == 1


def test_streams_that_fail_are_counted(tmp_path: Path):
    nobody = "http://127.0.0.1:1"
    done = load("--host", nobody, "--html", str(tmp_path / "report.html"))
    assert done.returncode == 1
    assert "streams failed, allowed are 0.00%" in done.stderr
