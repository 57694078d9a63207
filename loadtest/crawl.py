"""A crawl of real pages from a local nginx: pages a second, the loop's lag, and where the time goes."""

from __future__ import annotations

import argparse
import json
import re
import time
import urllib.request
from pathlib import Path
from statistics import median
from typing import Any

from rich.progress import track

from loadtest import report
from loadtest.cores import busy_s
from loadtest.metrics import buckets, metrics, minus, quantile
from loadtest.nginx import nginx
from loadtest.servers import Server, children, commands, cpu_s, running

PAGES, CONCURRENCY = 500, 64
WORKERS = (1, 2)
DAEMON_CPU, WORKER_CPU = "CPU of the daemon, ms a page", "CPU of the workers, ms a page"


def crawl(asked: argparse.Namespace) -> report.Table:
    """500 pages with concurrency 64, server and workers on both cores, by the number of workers."""
    with nginx(f"root {asked.docs};") as pages:
        body = asked_for(page_urls(asked.docs, pages))
        found = {count: _runs(body, count, asked.runs) for count in WORKERS}
    rows = [[name, *(f"{found[count][name]:.2f}" for count in WORKERS)] for name in found[WORKERS[0]]]
    columns = ["median of runs", *(f"{count} extraction worker{'s' * (count > 1)}" for count in WORKERS)]
    return report.Table(f"{PAGES} pages of Python's documentation from nginx", columns, rows)


def page(asked: argparse.Namespace) -> report.Table:
    """What one page of 80 to 96 KB costs the daemon and its worker, of a crawl of such pages."""
    with nginx(f"root {asked.docs};") as pages:
        found = _runs(asked_for(_large_urls(asked.docs, pages)), 1, asked.runs)
    rows = [[name, f"{found[name]:.2f}"] for name in (DAEMON_CPU, WORKER_CPU)]
    return report.Table("One page of 80 to 96 KB, fast grade", ["median of runs", "ms"], rows)


def _large_urls(docs: str, pages: Server) -> list[str]:
    """The URLs of 500 pages of such a size: of the few that there are, each more than once, by another query."""
    named = [path for path in sorted(Path(docs).rglob("*.html")) if 80_000 <= path.stat().st_size < 96_000]
    return [f"{pages.url}/{named[at % len(named)].relative_to(docs)}?{at}" for at in range(PAGES)]


def page_urls(docs: str, pages: Server) -> list[str]:
    """The URLs of 500 pages in the folder *docs*, as *pages* serves them."""
    names = sorted(str(path.relative_to(docs)) for path in Path(docs).rglob("*.html"))[:PAGES]
    if len(names) < PAGES:
        raise RuntimeError(f"{docs} has {len(names)} pages, {PAGES} are wanted")
    return [f"{pages.url}/{name}" for name in names]


def asked_for(urls: list[str], **options: str) -> dict[str, Any]:
    """The request for a crawl of *urls*."""
    return {"urls": urls, "options": {"concurrency": CONCURRENCY, "cache_mode": "bypass"} | options}


def _runs(body: dict[str, Any], workers: int, runs: int) -> dict[str, float]:
    """The medians of *runs* crawls, after one for warming up: imports, connections, the page cache."""
    figures: list[dict[str, float]] = []
    settings = {"FETCH__ALLOW_NETWORKS": "127.0.0.0/8", "WORKERS__EXTRACT": str(workers)}
    with running(commands(1)["fastmesh"], None, **settings) as server:
        for _ in track(range(runs + 1), f"crawl, {workers} workers", console=report.STDERR):
            lag, spent, busy, begun = buckets(server, "loop_lag_seconds"), _sums(server), busy_s(), time.monotonic()
            daemon_s, workers_s = cpu_s(server.pid), _workers_s(server)
            lines = frames(server, body)
            took_s = time.monotonic() - begun
            cores = (busy_s() - busy) / took_s
            daemon_s, workers_s = cpu_s(server.pid) - daemon_s, _workers_s(server) - workers_s
            delta = minus(buckets(server, "loop_lag_seconds"), lag)
            check(lines)
            figures.append(
                {
                    "pages a second": PAGES / took_s,
                    "cores busy, all processes": cores,
                    DAEMON_CPU: daemon_s / PAGES * 1000,
                    WORKER_CPU: workers_s / PAGES * 1000,
                    "loop lag, median, ms at most": quantile(delta, 0.5) * 1000,
                    "loop lag, 99th percentile, ms at most": quantile(delta, 0.99) * 1000,
                    "loop lag, the worst, ms at most": quantile(delta, 1.0) * 1000,
                    **{
                        f"{stage}, ms a page": (s - spent.get(stage, 0)) / PAGES * 1000
                        for stage, s in _sums(server).items()
                    },
                }
            )
    return {name: median(run[name] for run in figures[1:]) for name in figures[0]}


def _workers_s(server: Server) -> float:
    return sum(map(cpu_s, children(server.pid)))


def frames(server: Server, body: dict[str, Any]) -> list[bytes]:
    """The lines of a crawl; parsed only afterwards, since the client shares the cores."""
    request = urllib.request.Request(
        f"{server.url}/crawl/stream", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as response:
        return list(response)


def check(lines: list[bytes]) -> None:
    """Raises RuntimeError unless every page became a document."""
    found = [json.loads(line) for line in lines]
    indexes = sorted(frame["index"] for frame in found if frame["type"] == "result")
    if indexes != list(range(PAGES)) or found[-1]["successful"] != PAGES:
        raise RuntimeError(f"not every page was crawled: {found[-1]}")


def _sums(server: Server) -> dict[str, float]:
    found = re.findall(r'fastmesh_pipeline_stage_seconds_sum{stage="(\w+)"} (\S+)', metrics(server))
    return {stage: float(seconds) for stage, seconds in found}
