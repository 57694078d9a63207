"""Readers beside clients that never read: what the second cost the first, and what they cost in memory."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from statistics import median

from rich.progress import track

from loadtest import client, report
from loadtest.metrics import noted_lag
from loadtest.servers import CLIENT_CORE, FASTMESH, SERVER_CORE, Server, resident_bytes, running, wait_until_calm

STALLED = 1000
READERS = (100, 1000)
STALLED_FRAME_BYTES = 1024
TOTAL_BYTES = 128 * 2**20
WARM_UP = 50  # connections that load whatever is loaded once
SETTINGS = {
    "FIREHOSE__ENABLED": "true",
    "STREAM__MAX_CONCURRENT": "5000",
    "SERVER__WRITE_STALL_TIMEOUT_S": "600",  # they stay for the whole measurement
}


def stalled(asked: argparse.Namespace) -> report.Table:
    """Frames a second of reading clients with 1,000 beside them that never read, and without."""
    rates: dict[tuple[int, int], list[float]] = defaultdict(list)
    lags: dict[tuple[int, int], list[float]] = defaultdict(list)
    for _ in track(range(asked.runs), "stalled", console=report.STDERR):
        for readers in READERS:
            for others in (0, STALLED):
                with (
                    running(FASTMESH, {SERVER_CORE}, **SETTINGS) as server,
                    _stalled(server, others),
                    noted_lag(server, lags[readers, others]),
                ):
                    options = ("-s", asked.seconds, "-w", 1)
                    run = client.measure("speed", server, client.firehose(), readers, CLIENT_CORE, *options)
                rates[readers, others].append(run["frames"] / run["seconds"])
    rows = []
    for (readers, others), found in rates.items():
        ratios = [rate / alone for rate, alone in zip(found, rates[readers, 0], strict=True)]
        rows.append([readers, others, f"{median(found):,.0f}", f"{median(ratios):.3f}",
                     f"{min(ratios):.3f}–{max(ratios):.3f}", f"{median(lags[readers, others]):g}"])  # fmt: skip
    columns = ["reading", "never reading", "frames/s", "to none beside", "least–most", "loop lag p99, ms at most"]
    return report.Table("Readers beside clients that never read", columns, rows)


def memory(asked: argparse.Namespace) -> report.Table:
    """Resident memory that clients add which never read, and with as many beside them that do."""
    found: dict[int, list[float]] = defaultdict(list)
    lags: dict[int, list[float]] = defaultdict(list)
    for _ in track(range(asked.runs), "memory", console=report.STDERR):
        for readers in (0, STALLED):
            with running(FASTMESH, {SERVER_CORE}, **SETTINGS, BUFFER__TOTAL_BYTES=str(TOTAL_BYTES)) as server:
                path = client.firehose(frame_bytes=STALLED_FRAME_BYTES)
                client.measure("speed", server, path, WARM_UP, CLIENT_CORE, "-s", 0.5)
                wait_until_calm(server.pid)
                before = resident_bytes(server.pid)
                with noted_lag(server, lags[readers]), _stalled(server, STALLED):
                    if readers:
                        client.measure("speed", server, path, readers, CLIENT_CORE, "-s", asked.seconds)
                    found[readers].append((resident_bytes(server.pid) - before) / 2**20)
    rows = [[readers, STALLED, f"{median(sizes):,.0f}", f"{max(sizes):,.0f}", f"{median(lags[readers]):g}"]
            for readers, sizes in found.items()]  # fmt: skip
    columns = ["reading", "never reading", "MiB, median", "most", "loop lag p99, ms at most"]
    title = f"Resident memory added, firehose of 1-KiB frames each, BUFFER__TOTAL_BYTES {TOTAL_BYTES // 2**20} MiB"
    return report.Table(title, columns, rows)


def _stalled(server: Server, count: int) -> AbstractContextManager[None]:
    """*count* clients of a stream each that have not read a byte; the server has done for them all that it will."""
    return _settled(server, count) if count else nullcontext()


@contextmanager
def _settled(server: Server, count: int) -> Iterator[None]:
    path = client.firehose(frame_bytes=STALLED_FRAME_BYTES)
    with client.held("stall", server, path, count, CLIENT_CORE):
        wait_until_calm(server.pid)
        yield
