"""Time to first byte of crawl streams that come one after the other, while many are open and both cores are busy."""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from itertools import cycle, islice
from pathlib import Path
from statistics import median

from rich.progress import track

from loadtest import client, report
from loadtest.cores import busy_s
from loadtest.metrics import lag_of
from loadtest.nginx import nginx
from loadtest.servers import FASTMESH, Server, running

OPEN, RATE = 1000, 100
ANSWER_WITHIN_S = 5  # of the last one
# Each of the open streams has one page under way and more than a run takes; together they keep the workers full.
URLS_OF_OPEN, PAGES = 100, 500
# In a shell, as it is an answer and no error when there is no chrt.
BEFORE_EVERYBODY = ["sh", "-c", 'exec chrt --fifo 1 "$@"', "sh"]
SETTINGS = {
    "FETCH__ALLOW_NETWORKS": "127.0.0.0/8",
    "FETCH__PER_HOST_CONCURRENCY": "256",
    "STREAM__MAX_CONCURRENT": "10000",
    "WORKERS__EXTRACT": "3",
}


def arrivals(asked: argparse.Namespace) -> report.Table:
    """100 new crawl streams a second beside 1,000 open ones: when their first byte of body comes."""
    docs = Path(asked.docs)
    names = sorted(str(path.relative_to(docs)) for path in docs.rglob("*.html"))[:PAGES]
    if not names:
        raise RuntimeError(f"{docs} has no pages")
    with nginx(f"root {docs};") as pages:
        urls = [f"{pages.url}/{name}" for name in names]
        runs = [
            _run(urls, asked.seconds) for _ in track(range(asked.runs), "time to first byte", console=report.STDERR)
        ]
    rows = [[name, f"{median(run[name] for run in runs):.2f}", f"{max(run[name] for run in runs):.2f}"]
            for name in runs[0]]  # fmt: skip
    return report.Table(
        f"{RATE} new crawl streams a second beside {OPEN:,} open ones", ["", "median", "worst round"], rows
    )


def _run(urls: list[str], seconds: float) -> dict[str, float]:
    with running(FASTMESH, None, **SETTINGS) as server:
        body = _body(list(islice(cycle(urls), URLS_OF_OPEN)), 1)
        with client.held("idle", server, "/crawl/sse", OPEN, None, "-t", "sse", "-d", body):
            busy, begun = busy_s(), time.monotonic()
            with lag_of(server) as lag:
                run = _arrive(server, urls, seconds)
            cores = (busy_s() - busy) / (time.monotonic() - begun)
    waits = sorted(run["first_body_ms"])
    return {
        "first byte, median, ms": _share(waits, 0.5),
        "first byte, 99th percentile, ms": _share(waits, 0.99),
        "first byte, the worst, ms": waits[-1],
        "client late with its requests, 99th percentile, ms": _share(sorted(run["late_ms"]), 0.99),
        "loop lag, 99th percentile, ms at most": lag.whole,
        "its own part of that": lag.own,
        "its waiting for a core": lag.starved,
        "cores busy, all processes": cores,
    }


def _arrive(server: Server, urls: list[str], seconds: float) -> dict[str, list[float]]:
    """What the client says, which goes before everybody: its own waiting for a core is not the daemon's.

    It reads a few kilobytes for each stream, so it takes next to nothing from the others.
    """
    count = max(1, round(RATE * seconds))
    options = ("-d", _body(urls[:1], 1), "-r", RATE, "-s", seconds + ANSWER_WITHIN_S)
    command = client.command("first", server, "/crawl/stream", count, None, *options)
    if subprocess.run([*BEFORE_EVERYBODY, "true"], stderr=subprocess.DEVNULL).returncode == 0:
        command = [*BEFORE_EVERYBODY, *command]
    run = client.answered(command, count)
    if None in run["first_body_ms"]:
        raise RuntimeError(
            f"{run['first_body_ms'].count(None)} of {count} streams had no byte within {ANSWER_WITHIN_S} s"
        )
    return run


def _share(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _body(urls: list[str], concurrency: int) -> str:
    return json.dumps({"urls": urls, "options": {"concurrency": concurrency, "cache_mode": "bypass"}})
