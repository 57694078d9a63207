"""Runs client.c."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from loadtest.compiled import program
from loadtest.servers import Server

FOREVER = 1_000_000_000
FIREHOSES = {"ndjson": "/firehose/stream", "sse": "/firehose/sse", "ws": "/firehose/ws"}
OPEN_S = 60  # within which a holder must have all its answers


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
    return answered(command(mode, server, path, connections, core, *more), connections)


def answered(command: Sequence[str], connections: int) -> dict[str, Any]:
    """What the client says that *command* starts; one of whose connections failed has measured nothing."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    if result["failed"]:
        raise RuntimeError(f"{result['failed']} of {connections} connections failed")
    return result


@contextmanager
def held(mode: str, server: Server, path: str, connections: int, core: int | None, *more: object) -> Iterator[None]:
    """Connections that are all answered, and stay, in the client's mode idle or stall; none may be lost meanwhile."""
    holder = command(mode, server, path, connections, core, *more, "-s", OPEN_S)
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        answered = process.stdout.readline()
        if f'"answered": {connections},' not in answered:
            raise RuntimeError(f"{server.url}{path}: {answered}")
        yield
        process.stdin.close()
        if (closed := json.loads(process.stdout.readline())["closed"]) != 0:
            raise RuntimeError(f"{server.url}{path}: the server closed {closed} of {connections} connections")


def firehose(frames: int = FOREVER, frame_bytes: int = 700, protocol: str = "ndjson") -> str:
    """The path of a firehose stream."""
    return f"{FIREHOSES[protocol]}?frames={frames}&bytes={frame_bytes}"
