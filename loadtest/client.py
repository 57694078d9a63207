"""Runs client.c."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Any

from loadtest.compiled import program
from loadtest.servers import Server

FOREVER = 1_000_000_000
FIREHOSES = {"ndjson": "/firehose/stream", "sse": "/firehose/sse", "ws": "/firehose/ws"}


def command(mode: str, server: Server, path: str, connections: int, core: int | None, *more: object) -> list[str]:
    """The client's command line, pinned to *core*."""
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    arguments: Sequence[object] = (
        "-m",
        mode,
        "-h",
        server.host,
        "-p",
        server.port,
        "-g",
        path,
        "-c",
        connections,
        *more,
    )
    return [*pinned, program("client.c"), *map(str, arguments)]


def measure(mode: str, server: Server, path: str, connections: int, core: int | None, *more: object) -> dict[str, Any]:
    """What the client says of one run."""
    done = subprocess.run(
        command(mode, server, path, connections, core, *more), capture_output=True, text=True, check=True
    )
    result: dict[str, Any] = json.loads(done.stdout)
    if result["failed"]:
        raise RuntimeError(f"{result['failed']} of {connections} connections failed")
    return result


def firehose(frames: int = FOREVER, frame_bytes: int = 700, protocol: str = "ndjson") -> str:
    """The path of a firehose stream."""
    return f"{FIREHOSES[protocol]}?frames={frames}&bytes={frame_bytes}"
