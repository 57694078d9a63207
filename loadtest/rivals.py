"""All rivals in one run and one table: the same frames, by each protocol and from one stream to many."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Mapping
from statistics import median

from rich.progress import track

from loadtest import client, fanout, report
from loadtest.servers import CLIENT_CORE, SERVER_CORE, commands, running, sse_commands, websocket_commands

CONNECTIONS = 10
OURS = "fastmesh"
GREEDY = {"ndjson": "NDJSON", "sse": "SSE", "ws": "WebSocket"}
FAN_OUT = f"SSE, one stream, {fanout.READERS:,} readers"


def peers(asked: argparse.Namespace) -> report.Table:
    """fastmesh's figure as a multiple of each rival's in the same round."""
    servers: dict[str, Mapping[str, list[str]]] = {
        "ndjson": commands(CONNECTIONS),
        "sse": sse_commands(),
        "ws": websocket_commands(),
    }
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _ in track(range(asked.runs), "peers", console=report.STDERR):
        for protocol, named in servers.items():
            for name, command in named.items():
                found[GREEDY[protocol], name].append(_frames_a_second(protocol, command, asked.seconds))
        for name, fan in fanout.FANS.items():
            found[FAN_OUT, name].append(_frames_a_cpu_second(fan, asked.seconds))
    rows = []
    for (what, name), figures in found.items():
        ratios = [mine / theirs for mine, theirs in zip(found[what, OURS], figures, strict=True)]
        unit = "delivered a CPU second" if what == FAN_OUT else "a second"
        rows.append(
            [
                what,
                name,
                f"{median(figures):,.0f} {unit}",
                f"{median(ratios):.2f}",
                f"{min(ratios):.2f}–{max(ratios):.2f}",
            ]
        )
    title = f"Frames of {fanout.FRAME_BYTES} bytes: {CONNECTIONS} greedy connections, and a fan-out"
    return report.Table(title, ["stream", "server", "frames", f"{OURS} to it", "least–most"], rows)


def _frames_a_second(protocol: str, command: list[str], seconds: float) -> float:
    with running(command, {SERVER_CORE}, FIREHOSE__ENABLED="true") as server:
        path = client.firehose(frame_bytes=fanout.FRAME_BYTES, protocol=protocol)
        run = client.measure("speed", server, path, CONNECTIONS, CLIENT_CORE, "-t", protocol, "-s", seconds, "-w", 1)
    return float(run["frames"] / run["seconds"])


def _frames_a_cpu_second(fan: Callable[[], fanout.Running], seconds: float) -> float:
    with fan() as (server, options):
        run = fanout.run(server, options, seconds)
    return float(run["frames"] / run["server_cpu_s"])
