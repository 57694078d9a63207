"""Whether a hundred greedy streams get the same."""

from __future__ import annotations

import argparse
from statistics import median

from rich.progress import track

from loadtest import client, report
from loadtest.metrics import noted_lag
from loadtest.servers import CLIENT_CORE, FASTMESH, SERVER_CORE, running

STREAMS, SECONDS = 100, 2


def fairness(asked: argparse.Namespace) -> report.Table:
    """Frames that the slowest of 100 streams has had after two seconds, to those of the fastest."""
    rows = []
    for protocol in client.FIREHOSES:
        ratios: list[float] = []
        lags: list[float] = []
        for _ in track(range(asked.runs), f"fairness, {protocol}", console=report.STDERR):
            with running(FASTMESH, {SERVER_CORE}, FIREHOSE__ENABLED="true") as server, noted_lag(server, lags):
                path, options = client.firehose(protocol=protocol), ("-t", protocol, "-s", SECONDS, "-w", 0)
                frames = client.measure("speed", server, path, STREAMS, CLIENT_CORE, *options)["connection_frames"]
            ratios.append(min(frames) / max(frames))
        rows.append([protocol, f"{median(ratios):.3f}", f"{min(ratios):.3f}", f"{median(lags):g}"])
    title = f"Frames delivered to {STREAMS} greedy streams after {SECONDS} s, the slowest to the fastest"
    return report.Table(title, ["protocol", "median", "worst round", "loop lag p99, ms at most"], rows)
