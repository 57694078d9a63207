"""Servers under test: each a process of its own, pinned to a core, that says its address on standard output."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

START_S, STOP_S = 30, 10


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
    python = sys.executable
    return {
        "fastmesh": [python, "-m", "fastmesh.cli", "serve", "--port", "0", "--log-level", "warning"],
        "bare loop": [python, "-m", "loadtest.peers.bare_loop", str(connections)],
        "uvicorn, raw ASGI": [python, "-m", "loadtest.peers.uvicorn_app"],
        "granian, RSGI": [python, "-m", "loadtest.peers.granian_app"],
    }


@contextmanager
def running(command: Sequence[str], cores: set[int] | None, **settings: str) -> Iterator[Server]:
    """Start *command* on *cores* (None: all), with fastmesh's *settings*; stopped at the end, by its pid."""
    environ = os.environ | {f"FASTMESH_{name}": value for name, value in settings.items()}
    pinned = ["taskset", "-c", ",".join(map(str, sorted(cores))), *command] if cores else command
    with subprocess.Popen(pinned, stdout=subprocess.PIPE, env=environ, text=True) as process:
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
    for each in (pid, *_children(pid)):
        with open(f"/proc/{each}/statm") as statm:
            total += int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return total


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as children:
        return [int(child) for child in children.read().split()]
