"""Memory, CPU time and open files of this process, as the kernel counts them, and how many files it may open."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path

from fastmesh.config import Settings
from fastmesh.telemetry.log import get_logger

log = get_logger()

# Beside connections and fetches: the interpreter, logs, workers' sockets, DNS, epoll.
OTHER_FILES = 64
_PAGE_BYTES = resource.getpagesize()


def resident_bytes() -> int:
    """Its resident memory now."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * _PAGE_BYTES
    except OSError:  # not Linux, or no file left to read it with
        return 0


def cpu_seconds() -> float:
    """CPU time that it has used, workers apart."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def open_files() -> int:
    """How many descriptors are open."""
    with suppress(OSError):
        # Linux says it in one call since 6.2; listing 10,000 of them would hold the loop for milliseconds.
        if counted := os.stat("/proc/self/fd").st_size:
            return counted
    try:
        lowest = os.dup(2)  # the lowest that is free: as many are open, or a few more
    except OSError:
        return file_limit()
    os.close(lowest)
    return lowest


def file_limit() -> int:
    """How many descriptors may be open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def raise_file_limit(settings: Settings) -> int:
    """Raise the soft limit to what is needed; return the connections that fit, fewer than wanted with a warning."""
    wanted = settings.server.max_connections
    others = OTHER_FILES + settings.fetch.concurrency + 2 * settings.workers.extract
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + others
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    if hard != resource.RLIM_INFINITY and hard < needed:
        fits = max(1, hard - others)
        log.warning(
            "settings.lowered", setting="SERVER__MAX_CONNECTIONS", value=wanted, lowered_to=fits, hard_file_limit=hard
        )
        needed, wanted = hard, fits
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    return wanted
