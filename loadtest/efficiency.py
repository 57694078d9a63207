"""How much of a reading client's time its window takes from it."""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median

from rich.progress import track

from loadtest import client, report
from loadtest.metrics import noted_lag
from loadtest.servers import CLIENT_CORE, FASTMESH, SERVER_CORE, Server, running

# Sixteen times the most: far more than what these streams make while their readers pause.
NO_WINDOW = {
    f"BUFFER__{name}": str(value)
    for name, value in {
        **dict.fromkeys(("INITIAL_FRAMES_NDJSON", "INITIAL_FRAMES_SSE", "INITIAL_FRAMES_WEBSOCKET"), 10**6),
        "MAX_FRAMES": 10**6,
        "INITIAL_BYTES": 2**24,
        "MAX_BYTES": 2**24,
        "TOTAL_BYTES": 2**31,
    }.items()
}
DELAY_S, PAGE_BYTES, URLS, CONCURRENCY = 0.1, 16_384, 1000, 8
STREAMS = 4
PAUSE_MS, RECEIVE_BYTES = 200, 65_536


@dataclass(frozen=True)
class Case:
    """A kind of reader and its stream."""

    about: str
    protocol: str
    connections: int
    path: str
    options: tuple[object, ...] = ()


def efficiency(asked: argparse.Namespace) -> report.Table:
    """Frames a second with the windows as they adapt, to those with windows that never hold anything back.

    What is missing is the share of the reader's time in which its window, and neither the network nor the producer,
    held it back; both are the same with and without.
    """
    with _cases() as cases:
        rows = [_row(case, asked) for case in cases]
    columns = ["stream and reader", "frames/s", "without a window", "share lost", "least–most",
               "loop lag p99, ms at most"]  # fmt: skip
    return report.Table("What its window takes of a reading client's time", columns, rows)


def _row(case: Case, asked: argparse.Namespace) -> list[str]:
    rates: dict[str, list[float]] = defaultdict(list)
    lags: list[float] = []
    for _ in track(range(asked.runs), f"efficiency, {case.about}", console=report.STDERR):
        for name, windows in (("adapting", {}), ("none", NO_WINDOW)):
            settings = {"FIREHOSE__ENABLED": "true", "FETCH__ALLOW_NETWORKS": "127.0.0.0/8",
                        "FETCH__PER_HOST_CONCURRENCY": "256", **windows}  # fmt: skip
            with (
                running(FASTMESH, {SERVER_CORE}, **settings) as server,
                noted_lag(server, lags if name == "adapting" else None),
            ):
                options = ("-t", case.protocol, "-s", asked.seconds, "-w", 1, *case.options)
                run = client.measure("speed", server, case.path, case.connections, CLIENT_CORE, *options)
            rates[name].append(run["frames"] / run["seconds"])
    lost = [1 - mine / most for mine, most in zip(rates["adapting"], rates["none"], strict=True)]
    return [case.about, f"{median(rates['adapting']):,.0f}", f"{median(rates['none']):,.0f}", f"{median(lost):.1%}",
            f"{min(lost):.1%}–{max(lost):.1%}", f"{median(lags):g}"]  # fmt: skip


@contextmanager
def _cases() -> Iterator[list[Case]]:
    """Greedy readers of greedy streams, and those of streams whose pages take a while, reading on and off.

    Only the last can lose much: what was not started while it paused comes a page's delay after it reads again.
    """
    greedy = [Case(f"firehose by {protocol}, greedy", protocol, 10, client.firehose(protocol=protocol))
              for protocol in client.FIREHOSES]  # fmt: skip
    with running([sys.executable, "-m", "loadtest.peers.slow_origin", str(DELAY_S), str(PAGE_BYTES)], None) as origin:
        steady = Case(
            f"crawl of pages that take {DELAY_S * 1000:g} ms, greedy",
            "ndjson",
            STREAMS,
            "/crawl/stream",
            ("-d", _body(origin), "-b", RECEIVE_BYTES),
        )
        bursty = replace(
            steady,
            about=f"the same, reading {PAUSE_MS} ms and pausing {PAUSE_MS} ms",
            options=(*steady.options, "-z", PAUSE_MS),
        )
        yield [*greedy, steady, bursty]


def _body(origin: Server) -> str:
    urls = [f"{origin.url}/{n}" for n in range(URLS)]
    return json.dumps({"urls": urls, "options": {"concurrency": CONCURRENCY, "cache_mode": "bypass"}})
