"""The benchmarks that the project keeps.

    python -m loadtest.bench all
    python -m loadtest.bench throughput --runs 5 --seconds 4

Server on one core, client on the other; the servers' runs are interleaved, so
that what the machine does meanwhile falls on all of them; medians.
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections import defaultdict
from collections.abc import Callable
from statistics import median

from rich.progress import track

from loadtest import (
    arrivals,
    client,
    crawl,
    crawlers,
    efficiency,
    fairness,
    fanout,
    idle,
    protocols,
    report,
    rivals,
    sizing,
    stalled,
)
from loadtest.metrics import noted_lag
from loadtest.servers import CLIENT_CORE, SERVER_CORE, commands, running

GREEDY_STREAMS = 100


def throughput(asked: argparse.Namespace) -> report.Table:
    """Frames a second at 10 and 100 connections, and their ratio to the bare loop's of the same round."""
    rows = []
    for connections in (10, 100):
        rates: dict[str, list[float]] = defaultdict(list)
        shares: dict[str, list[float]] = defaultdict(list)
        lags: list[float] = []
        for _ in track(range(asked.runs), f"throughput, {connections} connections", console=report.STDERR):
            for name, command in commands(connections).items():
                with (
                    running(command, {SERVER_CORE}, FIREHOSE__ENABLED="true") as server,
                    noted_lag(server, lags if name == "fastmesh" else None),
                ):
                    run = client.measure(
                        "speed", server, client.firehose(), connections, CLIENT_CORE, "-s", asked.seconds, "-w", 1
                    )
                rates[name].append(run["frames"] / run["seconds"])
                shares[name].append(run["cpu_s"] / run["seconds"])
        bare = rates["bare loop"]
        for name, found in rates.items():
            ratios = [rate / base for rate, base in zip(found, bare, strict=True)]
            rows.append([connections, name, f"{median(found):,.0f}", f"{median(ratios):.3f}",
                         f"{min(ratios):.3f}–{max(ratios):.3f}", f"{median(shares[name]):.0%}",
                         f"{median(lags):g}" if name == "fastmesh" else ""])  # fmt: skip
    columns = ["connections", "server", "frames/s", "to the bare loop", "least–most", "client's CPU",
               "loop lag p99, ms at most"]  # fmt: skip
    return report.Table("Firehose NDJSON, 700-byte frames", columns, rows)


def first_byte(asked: argparse.Namespace) -> report.Table:
    """When the slowest of 100 greedy streams, opened at once, has its first body byte."""
    slowest: dict[str, list[float]] = defaultdict(list)
    lags: list[float] = []
    for _ in track(range(asked.runs), "first byte", console=report.STDERR):
        for name, command in commands(GREEDY_STREAMS).items():
            if name == "bare loop":  # it serves nobody before all are there
                continue
            with (
                running(command, {SERVER_CORE}, FIREHOSE__ENABLED="true") as server,
                noted_lag(server, lags if name == "fastmesh" else None),
            ):
                run = client.measure("first", server, client.firehose(), GREEDY_STREAMS, CLIENT_CORE, "-s", 30)
            slowest[name].append(max(run["first_body_ms"]))
    rows = [[name, f"{median(found):.1f}", f"{max(found):.1f}", f"{median(lags):g}" if name == "fastmesh" else ""]
            for name, found in slowest.items()]  # fmt: skip
    columns = ["server", "median", "worst run", "loop lag p99, ms at most"]
    return report.Table(f"First byte of the slowest of {GREEDY_STREAMS} greedy streams, ms", columns, rows)


BENCHMARKS: dict[str, Callable[[argparse.Namespace], report.Table]] = {
    "throughput": throughput,
    "first-byte": first_byte,
    "idle": idle.idle,
    "protocols": protocols.protocols,
    "peers": rivals.peers,
    "fanout": fanout.fanout,
    "idle-ws": idle.idle_ws,
    "idle-sse": idle.idle_sse,
    "crawl": crawl.crawl,
    "page": crawl.page,
    "crawlers": crawlers.crawlers,
    "stalled": stalled.stalled,
    "memory": stalled.memory,
    "fairness": fairness.fairness,
    "efficiency": efficiency.efficiency,
    "ttfb": arrivals.arrivals,
    "sizing": sizing.sizing,
}


def main() -> int:
    """Run what was asked for; print it and write it into results/."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.bench", description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=(*BENCHMARKS, "all"))
    parser.add_argument("--runs", type=int, default=5, help="rounds; figures are their medians")
    parser.add_argument("--seconds", type=float, default=4.0, help="of one measured run")
    parser.add_argument("--docs", default="/usr/share/doc/python3.11/html", help="pages for the crawl")
    parser.add_argument("--crawlers-python", help="the interpreter that has Scrapy and Crawl4AI, if not this one")
    asked = parser.parse_args()
    # Every server inherits it: thousands of connections are more than the usual soft limit.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    names = list(BENCHMARKS) if asked.name == "all" else [asked.name]
    report.publish(asked.name, [BENCHMARKS[name](asked) for name in names])
    return 0


if __name__ == "__main__":
    sys.exit(main())
