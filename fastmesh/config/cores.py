"""How many cores this process may use: those that it may run on, and what its groups' quotas leave.  Not the machine's:
a container, a service with ``CPUQuota=`` or ``taskset`` may have two of 64."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

GROUPS: Final = Path("/proc/self/cgroup")
MOUNTED: Final = Path("/sys/fs/cgroup")
V1_FOLDERS: Final = ("cpu", "cpu,cpuacct", "cpuacct,cpu")


def usable_cores(groups: Path = GROUPS, mounted: Path = MOUNTED) -> int:
    """At least 1.  Of a quota only whole cores count: over it all threads stand still."""
    return max(1, int(min([len(os.sched_getaffinity(0)), *_quotas(groups, mounted)])))


def _quotas(groups: Path, mounted: Path) -> Iterator[float]:
    """What its groups for cores, and those above them, may use (cgroups(7)); what cannot be read bounds nothing."""
    for line in _read(groups).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:  # the one hierarchy of version 2
            for folder in _upwards(mounted, path):
                yield from _quota(*_read(folder / "cpu.max").split())
        elif "cpu" in controllers.split(","):
            for name in V1_FOLDERS:
                for folder in _upwards(mounted / name, path):
                    yield from _quota(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))


def _upwards(root: Path, path: str) -> Iterator[Path]:
    """The group's folder and those above.  In a container only *root* may be there, and is the group's own."""
    inside = PurePosixPath(path.lstrip("/"))
    yield root / inside
    for parent in inside.parents:
        if parent != inside:
            yield root / parent


def _quota(*said: str) -> Iterator[float]:
    try:
        quota, period = map(int, said)
    except ValueError:  # "max", or nothing
        return
    if quota > 0 and period > 0:  # version 1 says -1 for none
        yield quota / period


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
