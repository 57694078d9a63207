"""Memory, CPU time and open files of this process, as the kernel counts them."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path

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
