"""A crawl of real pages from a local nginx: pages a second, the loop's lag, and where the time goes."""

from __future__ import annotations

import argparse
import json
import re
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from rich.progress import track

from loadtest import report
from loadtest.servers import Server, commands, running

PAGES, CONCURRENCY = 500, 64
NGINX = """daemon off; master_process off; pid {temp}/pid; error_log {temp}/error.log;
events {{ worker_connections 1024; }}
http {{ access_log off; types {{ text/html html; }} client_body_temp_path {temp}/a; proxy_temp_path {temp}/b;
fastcgi_temp_path {temp}/c; uwsgi_temp_path {temp}/d; scgi_temp_path {temp}/e;
server {{ listen 127.0.0.1:{port} backlog=1024; root {root}; }} }}
"""

Buckets = dict[float, float]


def crawl(asked: argparse.Namespace) -> report.Table:
    """500 pages with concurrency 64, server and workers on both cores."""
    rates, p50, p99, most = [], [], [], []
    stages: dict[str, list[float]] = {}
    with _nginx(Path(asked.docs)) as base:
        names = sorted(str(path.relative_to(asked.docs)) for path in Path(asked.docs).rglob("*.html"))[:PAGES]
        if len(names) < PAGES:
            raise RuntimeError(f"{asked.docs} has {len(names)} pages, {PAGES} are wanted")
        body = {"urls": [f"{base}/{name}" for name in names], "options": {"concurrency": CONCURRENCY}}
        with running(commands(1)["fastmesh"], None, FETCH__ALLOW_NETWORKS="127.0.0.0/8") as server:
            for _ in track(range(asked.runs + 1), "crawl", console=report.STDERR):
                lag, spent = _buckets(server, "loop_lag_seconds"), _sums(server)
                begun = time.monotonic()
                _check(_frames(server, body))
                rates.append(PAGES / (time.monotonic() - begun))
                delta = _minus(_buckets(server, "loop_lag_seconds"), lag)
                p50.append(_quantile(delta, 0.5))
                p99.append(_quantile(delta, 0.99))
                most.append(_quantile(delta, 1.0))
                for stage, seconds in _sums(server).items():
                    stages.setdefault(stage, []).append((seconds - spent.get(stage, 0.0)) / PAGES * 1000)
    # The first crawl is for warming up: imports, connections, the page cache.
    rows = [
        ["pages a second", f"{median(rates[1:]):.0f}"],
        ["loop lag, median, ms at most", f"{median(p50[1:]) * 1000:.2f}"],
        ["loop lag, 99th percentile, ms at most", f"{median(p99[1:]) * 1000:.2f}"],
        ["loop lag, the worst, ms at most", f"{median(most[1:]) * 1000:.2f}"],
        *([f"{stage}, ms a page", f"{median(spent[1:]):.2f}"] for stage, spent in stages.items()),
    ]
    return report.Table(f"{PAGES} pages of Python's documentation from nginx", ["figure", "median of runs"], rows)


@contextmanager
def _nginx(root: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as temp:
        path = Path(temp, "nginx.conf")
        path.write_text(NGINX.format(temp=temp, port=port, root=root))
        with subprocess.Popen(["/usr/sbin/nginx", "-e", f"{temp}/error.log", "-c", str(path)]) as process:
            try:
                while process.poll() is None:
                    try:
                        socket.create_connection(("127.0.0.1", port), 1).close()
                        break
                    except ConnectionRefusedError:
                        time.sleep(0.01)
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()


def _frames(server: Server, body: dict[str, Any]) -> list[bytes]:
    """The lines of a crawl; parsed only afterwards, since the client shares the cores."""
    request = urllib.request.Request(
        f"{server.url}/crawl/stream", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as response:
        return list(response)


def _check(lines: list[bytes]) -> None:
    frames = [json.loads(line) for line in lines]
    indexes = sorted(frame["index"] for frame in frames if frame["type"] == "result")
    if indexes != list(range(PAGES)) or frames[-1]["successful"] != PAGES:
        raise RuntimeError(f"not every page was crawled: {frames[-1]}")


def _metrics(server: Server) -> str:
    with urllib.request.urlopen(f"{server.url}/metrics") as response:
        text: str = response.read().decode()
        return text


def _buckets(server: Server, name: str) -> Buckets:
    found = re.findall(rf'fastmesh_{name}_bucket{{le="([^"]+)"}} (\S+)', _metrics(server))
    return {float(bound): float(count) for bound, count in found}


def _sums(server: Server) -> dict[str, float]:
    found = re.findall(r'fastmesh_pipeline_stage_seconds_sum{stage="(\w+)"} (\S+)', _metrics(server))
    return {stage: float(seconds) for stage, seconds in found}


def _minus(after: Buckets, before: Buckets) -> Buckets:
    return {bound: count - before.get(bound, 0.0) for bound, count in after.items()}


def _quantile(buckets: Buckets, share: float) -> float:
    """The upper bound of the bucket in which *share* of all lies, in seconds: never less than the truth."""
    total = max(buckets.values())
    return min(bound for bound, count in buckets.items() if count >= share * total)
