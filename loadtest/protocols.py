"""The firehose by each protocol: what its framing costs, beside other servers of that protocol."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from statistics import median

from rich.progress import track

from loadtest import client, report
from loadtest.metrics import noted_lag
from loadtest.servers import CLIENT_CORE, FASTMESH, SERVER_CORE, running, sse_commands, websocket_commands

CONNECTIONS = 10
NAMES = {"ndjson": "NDJSON", "sse": "SSE", "ws": "WebSocket"}
BASE = ("ndjson", "fastmesh")


def protocols(asked: argparse.Namespace) -> report.Table:
    """Frames a second by protocol and server, and their ratio to fastmesh's NDJSON of the same round."""
    rates: dict[tuple[str, str], list[float]] = defaultdict(list)
    shares: dict[tuple[str, str], list[float]] = defaultdict(list)
    lags: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _ in track(range(asked.runs), "protocols", console=report.STDERR):
        for protocol, name, command in _servers():
            with (
                running(command, {SERVER_CORE}, FIREHOSE__ENABLED="true") as server,
                noted_lag(server, lags[protocol, name] if name == "fastmesh" else None),
            ):
                path, options = client.firehose(protocol=protocol), ("-t", protocol, "-s", asked.seconds, "-w", 1)
                run = client.measure("speed", server, path, CONNECTIONS, CLIENT_CORE, *options)
            rates[protocol, name].append(run["frames"] / run["seconds"])
            shares[protocol, name].append(run["cpu_s"] / run["seconds"])
    rows = []
    for (protocol, name), found in rates.items():
        ratios = [rate / base for rate, base in zip(found, rates[BASE], strict=True)]
        rows.append([NAMES[protocol], name, f"{median(found):,.0f}", f"{median(ratios):.3f}",
                     f"{min(ratios):.3f}–{max(ratios):.3f}", f"{median(shares[protocol, name]):.0%}",
                         f"{median(lags[protocol, name]):g}" if name == "fastmesh" else ""])  # fmt: skip
    columns = ["protocol", "server", "frames/s", "to fastmesh's NDJSON", "least–most", "client's CPU",
               "loop lag p99, ms at most"]  # fmt: skip
    return report.Table(f"Firehose by protocol, {CONNECTIONS} connections, 700-byte frames", columns, rows)


def _servers() -> Iterator[tuple[str, str, list[str]]]:
    yield (*BASE, FASTMESH)
    for name, command in sse_commands().items():
        yield "sse", name, command
    for name, command in websocket_commands().items():
        yield "ws", name, command
