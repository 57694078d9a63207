"""Compiles and runs client.c."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from loadtest.servers import Server

HERE = Path(__file__).parent
RESULTS = HERE / "results"
FOREVER = 1_000_000_000


@cache
def program() -> str:
    """The compiled client."""
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / "client"
    subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-o", target, HERE / "client.c"], check=True)
    return str(target)


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
    return [*pinned, program(), *map(str, arguments)]


def measure(mode: str, server: Server, path: str, connections: int, core: int | None, *more: object) -> dict[str, Any]:
    """What the client says of one run."""
    done = subprocess.run(
        command(mode, server, path, connections, core, *more), capture_output=True, text=True, check=True
    )
    result: dict[str, Any] = json.loads(done.stdout)
    if result["failed"]:
        raise RuntimeError(f"{result['failed']} of {connections} connections failed")
    return result


def firehose(frames: int = FOREVER, frame_bytes: int = 700) -> str:
    """The path of a firehose stream."""
    return f"/firehose/stream?frames={frames}&bytes={frame_bytes}"
