"""One stream and a thousand readers: what delivering costs the server, and how late the events come."""

from __future__ import annotations

import argparse
import json
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from rich.progress import track

from loadtest import client, report
from loadtest.compiled import program
from loadtest.metrics import noted_lag
from loadtest.nginx import nginx
from loadtest.peers.frames import messages
from loadtest.servers import CLIENT_CORE, FASTMESH, SERVER_CORE, Server, pinned, running

READERS, RATE, FRAME_BYTES = 1000, 100, 700
NCHAN_MODULES = ("/usr/lib/nginx/modules/ngx_nchan_module.so", "/usr/lib64/nginx/modules/ngx_nchan_module.so")
# The default store is the memory of the one worker; 16 messages are kept for readers that come or lag.
NCHAN = """location = /subscribe { nchan_subscriber eventsource; nchan_channel_id fan;
nchan_subscriber_first_message newest; }
location = /publish { nchan_publisher; nchan_channel_id fan; nchan_message_buffer_length 16; }"""
FLOOR = "write(2) in C, the floor"

# A server that runs, and what the program fanout is told of it.
Fan = tuple[Server, list[str]]
Running = AbstractContextManager[Fan]


def fanout(asked: argparse.Namespace) -> report.Table:
    """Frames delivered for a second of the server's CPU time, and how late the 99th of 100 is."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    lags: list[float] = []
    for _ in track(range(asked.runs), "fan-out", console=report.STDERR):
        for name, fan in FANS.items():
            with fan() as (server, options), noted_lag(server, lags if name == "fastmesh" else None):
                found[name].append(run(server, options, asked.seconds))
    per_cpu_s = {name: [run["frames"] / run["server_cpu_s"] for run in runs] for name, runs in found.items()}
    rows = []
    for name, runs in found.items():
        ratios = [mine / least for mine, least in zip(per_cpu_s[name], per_cpu_s[FLOOR], strict=True)]
        rows.append(
            [
                name,
                f"{median(per_cpu_s[name]):,.0f}",
                f"{median(ratios):.2f}",
                f"{min(ratios):.2f}–{max(ratios):.2f}",
                f"{median(run['frames'] / run['seconds'] for run in runs) / (READERS * RATE):.0%}",
                *(f"{median(run['late_ms'][share] for run in runs):.1f}" for share in ("p50", "p99", "worst")),
                f"{median(run['publisher_late_ms'] for run in runs):.1f}" if name == "nchan" else "",
                f"{median(run['server_cpu_s'] / run['seconds'] for run in runs):.0%}",
                f"{median(run['cpu_s'] / run['seconds'] for run in runs):.0%}",
                f"{median(lags):g}" if name == "fastmesh" else "",
            ]
        )
    columns = [
        "server",
        "frames delivered a CPU second",
        "to the floor",
        "least–most",
        "delivered in time",
        "late, median, ms",
        "99th percentile",
        "worst",
        "publisher late, worst",
        "server's CPU",
        "client's CPU",
        "loop lag p99, ms at most",
    ]
    return report.Table(f"{READERS:,} SSE readers of one stream, {RATE} frames a second", columns, rows)


def run(server: Server, options: list[str], seconds: float) -> dict[str, Any]:
    """What the program says; a run in which a reader missed a frame is none."""
    arguments = ["-h", server.host, "-p", server.port, "-c", READERS, "-r", RATE, "-i", server.pid, "-s", seconds]
    command = pinned([program("fanout.c"), *map(str, arguments), *options], {CLIENT_CORE})
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{server.url}: {done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout)
    if result["holes"]:
        raise RuntimeError(f"{server.url} left out frames: {result}")
    return result


@contextmanager
def _fastmesh() -> Iterator[Fan]:
    path = f"{client.firehose(frame_bytes=FRAME_BYTES, protocol='sse')}&rate={RATE}"
    with running(FASTMESH, {SERVER_CORE}, FIREHOSE__ENABLED="true") as server:
        yield server, ["-o", path, "-g", "/streams/{id}/events"]


@contextmanager
def _floor() -> Iterator[Fan]:
    with running([program("peers/fanout_floor.c"), str(READERS), str(RATE), _frame()], {SERVER_CORE}) as server:
        yield server, ["-g", "/"]


@contextmanager
def _nchan() -> Iterator[Fan]:
    module = next((path for path in NCHAN_MODULES if Path(path).exists()), None)
    if module is None:
        raise RuntimeError(f"nginx has no nchan: none of {', '.join(NCHAN_MODULES)} exists")
    with nginx(NCHAN, {SERVER_CORE}, f"load_module {module};") as server:
        yield server, ["-g", "/subscribe", "-b", "/publish", "-f", _frame()]


def _frame() -> str:
    return next(messages(1, FRAME_BYTES)).decode("ascii")


FANS: dict[str, Callable[[], Running]] = {"fastmesh": _fastmesh, FLOOR: _floor, "nchan": _nchan}
