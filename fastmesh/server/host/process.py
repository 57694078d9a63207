"""This process: memory, CPU time and open files, as the kernel counts them, and Python's collector of cycles.

The collector looks for cycles when nothing else is under way: a look through what 1,000 open crawls have holds the loop
for 30 to 100 ms, and at Python's defaults there is one every few seconds.  What was loaded at the start is for good, so
it is not looked at again; what streams and pages leave behind goes by its counts of references, however they end, so
that there is nothing to be found.  What is found nevertheless is counted: more than a few objects are a bug.
"""

from __future__ import annotations

import gc
import os
import resource
from contextlib import suppress
from pathlib import Path
from typing import Final

from fastmesh.config import Settings
from fastmesh.telemetry.log import get_logger
from fastmesh.telemetry.metrics import Metrics

log = get_logger()

# Beside connections and fetches: the interpreter, logs, workers' sockets, DNS, epoll.
OTHER_FILES = 64
# Of the collector: while streams are open the young alone are looked through, and only when so many more objects were
# made than left: a look takes 20 to 40 ms then, and cycles 20 MB at most.
THRESHOLDS: Final = (200_000, 1_000_000, 1_000_000)
# Fewer than so many new ones are not worth a look.
WORTH_A_LOOK: Final = 5_000
GENERATIONS: Final = ("young", "middle", "all")

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


def tell_found(metrics: Metrics) -> None:
    """Have *metrics* say how often was looked and what was found, the start's among it."""

    def of_each(figure: str) -> dict[str, float]:
        return {name: stats[figure] for name, stats in zip(GENERATIONS, gc.get_stats(), strict=True)}

    metrics.register("collector_runs", "Looks for cycles", lambda: of_each("collections"), "generation", counted=True)
    metrics.register(
        "collector_found_objects",
        "In cycles that nothing reached any more",
        lambda: of_each("collected"),
        "generation",
        counted=True,
    )


def settle_collector() -> None:
    """All that this process has now stays for good; from here on cycles are looked for seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


def look_for_cycles() -> None:
    """Look through all, unless next to nothing was made since the last look.  For when nothing is held up by it."""
    if gc.get_count()[0] >= WORTH_A_LOOK:
        gc.collect()
