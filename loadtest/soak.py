"""A daemon among clients and origins that do all that they should not, and a verdict.

    python -m loadtest.soak                   30 minutes of it, and then bodies that all fail
    python -m loadtest.soak --short           both in half a minute, with less of everything

Exit status 1 when a limit is passed; what each is, and the figure, stands in the table.  Clients and origins are
soak_clients and soak_origin.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from random import SystemRandom

import aiohttp
import orjson
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from loadtest import report
from loadtest.metrics import buckets, minus, quantile
from loadtest.servers import FASTMESH, Server, running
from loadtest.soak_clients import Clients
from loadtest.soak_origin import HOSTS, KINDS
from loadtest.vitals import MIB, Vitals, descriptors, figure, own_bytes

SAMPLE_S = 0.5
CALM_WITHIN_S = 60.0
# What is no body, no frame and no answer: connections, requests under way, what the allocator keeps in pieces.
BESIDE_MIB = 64
IDLE_MIB = 32
SLOPE_MIB_A_MINUTE = 1.0
AT_MOST = "memory at most, above that after the first page"
FAT = [name for name in KINDS if name.startswith("fat-")]


@dataclass(frozen=True)
class Load:
    """How much of everything; sizes are what the settings are set to."""

    minutes: float
    settle_minutes: float  # before memory is looked at for growth
    clients: int
    window_s: int
    buffer_mib: int
    fetch_mib: int
    cache_mib: int
    fat_urls: int
    fat_mb: int
    fat_timeout_ms: int
    back_within_s: int  # memory, after the last of them

    def settings(self) -> dict[str, str]:
        """Of the daemon."""
        return {
            "FETCH__ALLOW_NETWORKS": "127.0.0.0/8",
            "STREAM__RESUME_WINDOW_S": str(self.window_s),
            "BUFFER__TOTAL_BYTES": str(self.buffer_mib * MIB),
            "FETCH__TOTAL_BYTES": str(self.fetch_mib * MIB),
            "CACHE__MAX_BYTES": str(self.cache_mib * MIB),
            "LOG__LEVEL": "error",
        }


LONG = Load(
    minutes=30,
    settle_minutes=5,
    clients=240,
    window_s=20,
    buffer_mib=128,
    fetch_mib=64,
    cache_mib=16,
    fat_urls=240,
    fat_mb=20,
    fat_timeout_ms=15_000,
    back_within_s=60,
)
SHORT = Load(
    minutes=0.1,
    settle_minutes=0,
    clients=36,
    window_s=4,
    buffer_mib=48,
    fetch_mib=16,
    cache_mib=4,
    fat_urls=48,
    fat_mb=6,
    fat_timeout_ms=3_000,
    back_within_s=10,
)


@dataclass
class Verdict:
    """Limits and what was found; *passed* until one is not kept."""

    rows: list[list[object]] = field(default_factory=list)
    passed: bool = True

    def hold(self, what: str, found: float, limit: float, unit: str) -> None:
        """*found* may be *limit* at most."""
        kept = found <= limit
        self.passed = self.passed and kept
        self.rows.append([what, f"{found:.2f} {unit}", f"{limit:.2f} {unit}", "yes" if kept else "NO"])


def main() -> int:
    """Run what the command line asks for; the exit status."""
    parser = argparse.ArgumentParser(prog="loadtest.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--short", action="store_true", help="half a minute, with less of everything")
    parser.add_argument("--minutes", type=float, help="of the mixed load")
    parser.add_argument("--clients", type=int, help="of the mixed load")
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(1 << 32), help="of what the clients do")
    parser.add_argument("--part", choices=("mixed", "failing"), help="only this one")
    asked = parser.parse_args()
    load = SHORT if asked.short else LONG
    changed = {name: value for name in ("minutes", "clients") if (value := getattr(asked, name)) is not None}
    load = Load(**{**vars(load), **changed})
    tables, passed = [], True
    for name, part in (("mixed", mixed), ("failing", failing)):
        if asked.part in (None, name):
            verdict, table = asyncio.run(part(load, asked.seed))
            columns = ["", "found", "limit", "kept"]
            tables += [report.Table(f"Soak, {name}: seed {asked.seed}", columns, verdict.rows), table]
            passed = passed and verdict.passed
    report.publish("soak", tables)
    print("soak: passed" if passed else "soak: FAILED")
    return 0 if passed else 1


async def mixed(load: Load, seed: int) -> tuple[Verdict, report.Table]:
    """Every kind of client and origin at once; afterwards all must be as it was."""
    verdict = Verdict()
    with origin() as port, running(FASTMESH, None, **load.settings()) as server:
        await _first_page(server, port)
        first_bytes, first_files, first_tasks = own_bytes(server.pid), *_open(server)
        lag, waits = buckets(server, "loop_lag_seconds"), 60 * load.minutes
        clients, vitals = Clients(server.url, port, seed, window_s=load.window_s), Vitals(server.pid)
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(_watch(vitals, "mixed load", waits))
            await clients.run(load.clients, time.monotonic() + waits)
            watching.cancel()
        grown = vitals.slope_mib_a_minute(60 * load.settle_minutes)
        lag_ms = quantile(minus(buckets(server, "loop_lag_seconds"), lag), 0.99) * 1000
        files, tasks_left = await _until_forgotten(
            server, 2 * load.window_s + CALM_WITHIN_S, (first_files, first_tasks)
        )
        if load.settle_minutes:
            verdict.hold("growth of memory, once it has settled", grown, SLOPE_MIB_A_MINUTE, "MiB a minute")
        bounded = load.buffer_mib + load.fetch_mib + load.cache_mib + BESIDE_MIB
        verdict.hold(AT_MOST, (max(vitals.own) - first_bytes) / MIB, bounded, "MiB")
        idle = (own_bytes(server.pid) - first_bytes) / MIB
        verdict.hold("memory afterwards, above that and the cache", idle, IDLE_MIB + load.cache_mib, "MiB")
        verdict.hold("descriptors more than before", files - first_files, 0, "")
        verdict.hold("tasks more than before", tasks_left - first_tasks, 0, "")
        verdict.hold("streams not forgotten", figure(server, "streaming_kept_streams"), 0, "")
        verdict.hold("complaints of the clients", len(clients.complaints), 0, "")
    rows: list[list[object]] = [[name, count] for name, count in sorted(clients.counts.items())]
    rows += [["loop lag p99, ms at most", f"{lag_ms:g}"], ["largest worker, MiB", f"{max(vitals.workers) / MIB:.0f}"]]
    rows += [["complaint", text] for text in clients.complaints[:20]]
    return verdict, report.Table("What the clients did", ["", ""], rows)


async def failing(load: Load, _seed: int) -> tuple[Verdict, report.Table]:
    """Large bodies of which nothing comes: no more of them is held than may be, and none afterwards."""
    verdict = Verdict()
    with origin() as port, running(FASTMESH, None, **load.settings() | {"CACHE__MAX_BYTES": "0"}) as server:
        await _first_page(server, port)
        first, vitals = own_bytes(server.pid), Vitals(server.pid)
        urls = [
            f"http://{HOSTS[at // len(FAT) % len(HOSTS)]}:{port}/{FAT[at % len(FAT)]}?n={100 * at + load.fat_mb}"
            for at in range(load.fat_urls)
        ]
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(_watch(vitals, "bodies that fail", None))
            results = await crawled(server, urls, load.fat_timeout_ms)
            watching.cancel()
        ended = time.monotonic()
        await _until(lambda: own_bytes(server.pid) - first <= IDLE_MIB * MIB, load.back_within_s)
        bounded = load.fetch_mib + BESIDE_MIB
        verdict.hold(AT_MOST, (max(vitals.own) - first) / MIB, bounded, "MiB")
        verdict.hold(
            f"memory {load.back_within_s} s later at most, above that",
            (own_bytes(server.pid) - first) / MIB,
            IDLE_MIB,
            "MiB",
        )
        verdict.hold("URLs without a failed result", load.fat_urls - sum(results.values()), 0, "")
    rows = [[name, count] for name, count in sorted(results.items())]
    rows.append(["seconds until it was back", f"{time.monotonic() - ended:.0f}"])
    return verdict, report.Table(f"{load.fat_urls} bodies of {load.fat_mb} MB", ["", ""], rows)


@contextmanager
def origin() -> Iterator[int]:
    """The origins' port, as long as they run."""
    command = [sys.executable, "-m", "loadtest.soak_origin"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()


async def _first_page(server: Server, port: int) -> None:
    """One page of each host, so that worker, robots.txt and all that is made once are there."""
    await crawled(server, [f"http://{host}:{port}/ok?n=1" for host in HOSTS])
    await _until_forgotten(server, CALM_WITHIN_S)


async def crawled(server: Server, urls: list[str], timeout_ms: int = 15_000) -> dict[str, int]:
    """Crawl *urls*; how many failed, by the error's type."""
    failed: dict[str, int] = {}
    body = {"urls": urls, "options": {"timeout_ms": timeout_ms, "retries": 0, "concurrency": 256}}
    timeout = aiohttp.ClientTimeout(total=None, sock_read=100)
    async with (
        aiohttp.ClientSession(timeout=timeout, read_bufsize=1 << 22) as session,
        session.post(f"{server.url}/crawl/stream", json=body) as response,
    ):
        async for line in response.content:
            frame = orjson.loads(line)
            if frame["type"] == "result" and (error := frame["result"]["error"]) is not None:
                failed[error["type"]] = failed.get(error["type"], 0) + 1
    return failed


async def _until_forgotten(
    server: Server, within_s: float, wanted: tuple[float, float] = (inf, inf)
) -> tuple[int, int]:
    """Wait until no stream is kept and no connection but the asking one, and no more is `_open` than *wanted*.

    Connections to origins are kept for some seconds, so descriptors come back last.  It waits *within_s* at most, and
    returns what was open then.
    """
    busy = ("streaming_active_streams", "streaming_kept_streams", "pipeline_inflight")
    found = 0, 0

    def forgotten() -> bool:
        nonlocal found
        found = _open(server)
        calm = not any(figure(server, name) for name in busy) and figure(server, "server_connections") <= 1
        return calm and found[0] <= wanted[0] and found[1] <= wanted[1]

    await _until(forgotten, within_s)
    return found


async def _until(true: Callable[[], bool], within_s: float) -> None:
    """Wait until it is *true*, or *within_s* are over."""
    until = time.monotonic() + within_s
    while not true() and time.monotonic() < until:  # noqa: ASYNC110 - another process's state is no event here
        await asyncio.sleep(SAMPLE_S)


def _open(server: Server) -> tuple[int, int]:
    """Descriptors and tasks."""
    return descriptors(server.pid), int(figure(server, "loop_tasks"))


async def _watch(vitals: Vitals, what: str, seconds: float | None) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=report.STDERR) as progress:
        task = progress.add_task(what, total=seconds)
        while True:
            vitals.sample()
            progress.update(task, completed=vitals.at_s[-1], description=f"{what}, {vitals.own[-1] / MIB:.0f} MiB")
            await asyncio.sleep(SAMPLE_S)


if __name__ == "__main__":
    sys.exit(main())
