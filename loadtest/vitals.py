"""What the kernel says of a process: memory, descriptors, threads; and how a figure goes on over time."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.metrics import metrics
from loadtest.servers import Server, children, resident_bytes

MIB = 1 << 20


def own_bytes(pid: int) -> int:
    """Resident memory of the process itself, its children apart."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0


def descriptors(pid: int) -> int:
    """How many descriptors it has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def figure(server: Server, name: str) -> float:
    """A daemon's figure without labels, from its /metrics."""
    found = re.search(rf"^fastmesh_{name} (\S+)$", metrics(server), re.MULTILINE)
    return float(found[1]) if found else 0.0


@dataclass
class Vitals:
    """Samples of a daemon: seconds since the first, its own resident bytes, its workers', its descriptors."""

    pid: int
    begun: float = field(default_factory=time.monotonic)
    at_s: list[float] = field(default_factory=list)
    own: list[int] = field(default_factory=list)
    workers: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    def sample(self) -> None:
        """Look once."""
        self.at_s.append(time.monotonic() - self.begun)
        self.own.append(own_bytes(self.pid))
        self.workers.append(max((resident_bytes(child) for child in children(self.pid)), default=0))
        self.files.append(descriptors(self.pid))

    def slope_mib_a_minute(self, from_s: float) -> float:
        """By how much the daemon's own memory grows, from *from_s* on, by least squares."""
        chosen = [(at, size) for at, size in zip(self.at_s, self.own, strict=True) if at >= from_s]
        return 60 * slope([at for at, _ in chosen], [size / MIB for _, size in chosen])


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Of the line of least squares; 0 for fewer than two points."""
    if len(xs) < 2:
        return 0.0
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - x_mean) ** 2 for x in xs)
    return sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True)) / spread if spread else 0.0
