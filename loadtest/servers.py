"""Servers under test: each a process of its own, pinned to a core, that says its address on standard output."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STOP_S = 10
CALM_STEP_S, CALM_SHARE, CALM_WITHIN_S = 0.5, 0.1, 60.0
SERVER_CORE, CLIENT_CORE = 0, 1
FASTMESH = [sys.executable, "-m", "fastmesh.cli", "serve", "--port", "0", "--log-level", "warning"]


@dataclass(frozen=True)
class Server:
    """A running server."""

    pid: int
    host: str
    port: int

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://{self.host}:{self.port}"


def commands(connections: int) -> dict[str, list[str]]:
    """How each server is started; the bare loop must know how many connections will come."""
    return {
        "fastmesh": FASTMESH,
        "bare loop": _peer("bare_loop", str(connections)),
        "uvicorn, raw ASGI": _peer("uvicorn_app"),
        "granian, RSGI": _peer("granian_app"),
        "aiohttp": _peer("aiohttp_app"),
    }


def sse_commands() -> dict[str, list[str]]:
    """How each server of event streams is started."""
    return {
        "fastmesh": FASTMESH,
        "uvicorn, raw ASGI": _peer("uvicorn_app"),
        "sse-starlette": _peer("sse_starlette_app"),
    }


def websocket_commands() -> dict[str, list[str]]:
    """How each WebSocket server is started."""
    return {
        "fastmesh": FASTMESH,
        "picows": _peer("picows_app"),
        "websockets": _peer("websockets_app"),
        "uvicorn with websockets": _peer("uvicorn_ws_app"),
    }


def pinned(command: Sequence[str], cores: set[int] | None) -> Sequence[str]:
    """The *command* on *cores*; None: on all."""
    return ["taskset", "-c", ",".join(map(str, sorted(cores))), *command] if cores else command


@contextmanager
def running(command: Sequence[str], cores: set[int] | None, **settings: str) -> Iterator[Server]:
    """Start *command* on *cores* (None: all), with fastmesh's *settings*; stopped at the end, by its pid."""
    environ = {f"FASTMESH_{name}": value for name, value in settings.items()}
    with started(pinned(command, cores), environ) as server:
        yield server


@contextmanager
def started(command: Sequence[str | Path], environ: Mapping[str, str], folder: Path | None = None) -> Iterator[Server]:
    """Start *command* in *folder* with *environ* beside this process's own; stopped at the end, by its pid."""
    environ = os.environ | environ
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, env=environ, text=True) as process:
        try:
            assert process.stdout is not None
            match = re.search(r"http://([\d.]+):(\d+)", process.stdout.readline())
            if match is None:
                raise RuntimeError(f"{command} did not say where it listens")
            yield Server(process.pid, match[1], int(match[2]))
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and its children."""
    total = 0
    for each in (pid, *children(pid)):
        with open(f"/proc/{each}/statm") as statm:
            total += int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return total


def cpu_s(pid: int) -> float:
    """User and system time of a process, in steps of 10 ms."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_until_calm(pid: int) -> None:
    """Return when the process has all but stopped working: it uses less than a tenth of a core for half a second."""
    until = time.monotonic() + CALM_WITHIN_S
    while time.monotonic() < until:
        used, begun = cpu_s(pid), time.monotonic()
        time.sleep(CALM_STEP_S)
        if cpu_s(pid) - used < CALM_SHARE * (time.monotonic() - begun):
            return
    raise RuntimeError(f"process {pid} is busy still after {CALM_WITHIN_S:g} s")


def children(pid: int) -> list[int]:
    """The pids of a process's own children."""
    with open(f"/proc/{pid}/task/{pid}/children") as found:
        return [int(child) for child in found.read().split()]


def _peer(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"loadtest.peers.{name}", *arguments]
