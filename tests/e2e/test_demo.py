"""The demo as a person runs it: a process, a pipe, Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import pytest

from fastmesh.demo.samples import SAMPLES, batch, differences, url_of

SITE = "http://127.0.0.1:1"
URLS = [url_of(sample, SITE) for sample in SAMPLES]


def command(keep: bool = False) -> list[str]:
    return [sys.executable, "-c", f"from fastmesh.commands.demo import run; raise SystemExit(run({keep}))"]


@contextmanager
def running(keep: bool = False) -> Iterator[subprocess.Popen[str]]:
    """The demo in a pipe; it is ended when the test is."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command(keep), stdout=pipe, stderr=pipe, text=True, encoding="utf-8") as demo:
        try:
            yield demo
        finally:
            demo.kill()


@pytest.fixture(scope="module")
def finished() -> tuple[subprocess.CompletedProcess[str], float]:
    """The demo from start to end in a pipe, and how long it took."""
    begun = time.monotonic()
    env = {**os.environ, "FORCE_COLOR": "1", "FASTMESH_SERVER__PORT": "nonsense", "http_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(command(), capture_output=True, text=True, encoding="utf-8", timeout=60, env=env, check=False)
    return done, time.monotonic() - begun


def test_every_url_became_what_it_should(finished: tuple[subprocess.CompletedProcess[str], float]):
    done, took_s = finished
    assert done.stderr == ""
    assert done.returncode == 0
    assert took_s < 10


def test_a_pipe_gets_one_plain_row_a_url(finished: tuple[subprocess.CompletedProcess[str], float]):
    done, _ = finished
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    header = next(n for n, line in enumerate(lines) if line.split()[:3] == ["#", "URL", "result"])
    rows = lines[header + 1 : -2]
    shown = sorted((int(line.split()[0]), line.split()[1]) for line in rows)
    assert shown == [(index, sample.url) for index, sample in enumerate(SAMPLES)]
    by_index = {int(line.split()[0]): line for line in rows}
    for index, sample in enumerate(SAMPLES):
        assert (sample.error or str(sample.status)) in by_index[index].split()
    failed = sum(sample.error is not None for sample in SAMPLES)
    assert f"{len(SAMPLES) - failed} succeeded, {failed} failed" in lines[-2]
    assert lines[-1] == "the failures above are on purpose"


def test_ctrl_c_in_the_middle_ends_it_without_a_traceback():
    for number in (signal.SIGINT, signal.SIGTERM):
        with running() as demo:
            assert demo.stdout is not None
            for line in demo.stdout:
                if "onsen" in line:
                    break
            demo.send_signal(number)
            assert demo.wait(10) == 130
            assert demo.stderr is not None
            assert demo.stderr.read() == ""


def test_a_reader_that_leaves_ends_it():
    pipeline = f"{sys.executable} -m fastmesh.cli demo | head -n 5"
    done = subprocess.run(
        ["bash", "-c", f"{pipeline}; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (1, "")


def test_kept_both_stay_until_a_signal():
    with running(keep=True) as demo:
        assert demo.stdout is not None
        said = []
        for line in demo.stdout:
            said.append(line)
            if line.rstrip().endswith("/metrics"):
                break
        site = next(line.split()[-1] for line in said if line.startswith("  sample site"))
        daemon = next(line.split()[-1] for line in said if line.startswith("  daemon"))
        with urllib.request.urlopen(f"{site}batch.json", timeout=10) as answer:
            body = orjson.loads(answer.read())
        assert body == batch(site.rstrip("/"))
        request = urllib.request.Request(
            f"{daemon}/crawl/stream",
            orjson.dumps({"urls": [f"{site}articles/onsen"]}),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            frames = [orjson.loads(line) for line in answer]
        assert frames[1]["result"]["document"]["title"] == "山の温泉案内"
        demo.send_signal(signal.SIGINT)
        assert demo.wait(10) == 0
        assert demo.stderr is not None
        assert demo.stderr.read() == ""


# ── the check, which must be able to fail ────────────────────────────────────────────────


def as_expected() -> list[dict[str, Any]]:
    """The frames of a stream over the site as it should be."""
    results = [
        {
            "type": "result",
            "index": index,
            "result": {
                "url": url,
                "status": sample.status,
                "error": sample.error and {"type": sample.error},
                "document": None if sample.error else {"title": sample.title},
            },
        }
        for index, (sample, url) in enumerate(zip(SAMPLES, URLS, strict=True))
    ]
    failed = sum(sample.error is not None for sample in SAMPLES)
    totals = {"total_urls": len(SAMPLES), "successful": len(SAMPLES) - failed, "failed": failed, "cancelled": 0}
    summary = {"type": "summary", "status": "completed", "unfinished": [], **totals}
    return [{**frame, "seq": seq} for seq, frame in enumerate([{"type": "metadata"}, *results, summary], 1)]


def test_the_check_accepts_what_it_should():
    assert differences(as_expected(), URLS) == []
    assert differences([{"type": "heartbeat"}, *as_expected()], URLS) == []


def test_the_check_names_what_differs():
    frames = as_expected()
    frames[3]["result"]["document"]["title"] = "mojibake"
    frames[20]["result"]["error"] = {"type": "internal"}
    frames[-1]["failed"] -= 1
    assert differences(frames, URLS) == [
        "#2 /articles/samovar (windows-1251, said by its header):"
        " want title 'Чай в дороге: заметки о самоваре', got 'mojibake'",
        "#19 /circle (redirects in a circle): want error 'too_many_redirects', got 'internal'",
        "summary: want failed 13, got 12",
    ]


def test_the_check_counts_results_and_frames():
    frames = as_expected()
    assert differences([], URLS)[0] == "want metadata first and a summary last, got []"
    assert "#0: want one result, got 0" in differences(frames[:1] + frames[2:], URLS)
    twice = {**frames[1], "seq": len(frames)}
    assert "#0: want one result, got 2" in differences(
        [*frames[:-1], twice, {**frames[-1], "seq": len(frames) + 1}], URLS
    )
    assert differences(frames[:1] + frames[2:], URLS)[0].startswith("seq: want 1, 2, 3, …")
