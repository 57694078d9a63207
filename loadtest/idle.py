"""What connections cost that do nothing: kept alive after an answer, WebSockets, readers of a silent stream."""

from __future__ import annotations

import argparse
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from statistics import median

from rich.progress import track

from loadtest import client, report
from loadtest.peers.frames import IDLE_SSE_PATH
from loadtest.servers import (
    CLIENT_CORE,
    SERVER_CORE,
    Server,
    commands,
    resident_bytes,
    running,
    sse_commands,
    websocket_commands,
)

CONNECTIONS = 5000

# A server's name and itself, to the path to ask for; while the connections are held what made the path stays.
PathOf = Callable[[str, Server], AbstractContextManager[str]]


def idle(asked: argparse.Namespace) -> report.Table:
    """Resident memory of a kept-alive connection that was answered once."""
    servers = {name: command for name, command in commands(CONNECTIONS).items() if name != "bare loop"}
    return _table(
        "Idle keep-alive connection", servers, "ndjson", lambda name, server: nullcontext("/livez"), asked.runs
    )


def idle_ws(asked: argparse.Namespace) -> report.Table:
    """Resident memory of a WebSocket that was welcomed, and over which nothing goes."""
    return _table(
        "Idle WebSocket", websocket_commands(), "ws", lambda name, server: nullcontext("/crawl/ws"), asked.runs
    )


def idle_sse(asked: argparse.Namespace) -> report.Table:
    """Resident memory of a subscriber of an event stream that had its first event."""
    return _table("Idle SSE subscriber", sse_commands(), "sse", _silent_stream, asked.runs)


def _table(title: str, servers: Mapping[str, list[str]], protocol: str, path_of: PathOf, runs: int) -> report.Table:
    found: dict[str, list[float]] = defaultdict(list)
    for _ in track(range(runs), title, console=report.STDERR):
        for name, command in servers.items():
            with running(command, {SERVER_CORE}, FIREHOSE__ENABLED="true") as server, path_of(name, server) as path:
                _held(server, path, protocol, 50)  # whatever is loaded once
                found[name].append(_held(server, path, protocol, CONNECTIONS) / CONNECTIONS)
    rows = [[name, f"{median(sizes):,.0f}", f"{max(sizes):,.0f}"] for name, sizes in found.items()]
    return report.Table(f"{title}, bytes resident, over {CONNECTIONS:,}", ["server", "median", "most"], rows)


def _held(server: Server, path: str, protocol: str, connections: int) -> int:
    """How many bytes resident memory grows while *connections* are held."""
    before = resident_bytes(server.pid)
    with client.held("idle", server, path, connections, CLIENT_CORE, "-t", protocol):
        return resident_bytes(server.pid) - before


@contextmanager
def _silent_stream(name: str, server: Server) -> Iterator[str]:
    """A stream whose first event comes at once and whose next in 1,000 seconds; its opener reads on."""
    if name != "fastmesh":
        yield IDLE_SSE_PATH
        return
    with urllib.request.urlopen(f"{server.url}{client.firehose(protocol='sse')}&rate=0.001") as opened:
        yield f"/streams/{opened.headers['X-Stream-ID']}/events"
