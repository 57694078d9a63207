"""How far extraction stands back behind the loop: as far as its pages still get done.

A worker that stands back, under SCHED_IDLE, leaves its core at once when the loop wants it, and gets next to nothing
where other programs keep all cores busy, or the loop its only one.  There niceness alone is right, which still leaves
the worker a quarter of a core.  A process cannot leave SCHED_IDLE again, so another must take its place then.
"""

from __future__ import annotations

import os
from typing import Final, NamedTuple

NICE_FOR_S: Final = 300.0
# A worker that had a core for less of the time that it wanted one starved; niceness 5 beside a busy process gets 25 %.
LEAST_SHARE: Final = 0.25
LEAST_WAIT_NS: Final = 100_000_000


class CoreTime(NamedTuple):
    """Nanoseconds that a process had a core so far, and that it waited for one."""

    had: int
    waited: int


class Standing:
    """Whether workers may be under SCHED_IDLE, if *allowed* at all.  Times are seconds of the caller's clock."""

    def __init__(self, *, allowed: bool = True) -> None:
        self._nice_until_s = float("-inf") if allowed else float("inf")

    def may_stand_back(self, now_s: float) -> bool:
        """Whether a worker that starts now may."""
        return now_s >= self._nice_until_s

    def put_back(self, pid: int, now_s: float) -> bool:
        """Put the worker *pid*, which has just started, under SCHED_IDLE if it may be; whether it is."""
        if not self.may_stand_back(now_s):
            return False
        if starves(CoreTime(0, 0), core_time(pid)):  # its start already waited for others
            self.starved(now_s)
            return False
        try:
            os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
        except (OSError, AttributeError):
            self._nice_until_s = float("inf")
            return False
        return True

    def starved(self, now_s: float) -> None:
        """A worker got hardly anything of a core: for a while niceness must do."""
        self._nice_until_s = max(self._nice_until_s, now_s + NICE_FOR_S)


def core_time(pid: int) -> CoreTime:
    """The time of the process *pid*; zeros where the kernel does not count it."""
    try:
        with open(f"/proc/{pid}/schedstat", "rb") as counted:
            had, waited, _ = counted.read().split()
    except (OSError, ValueError):
        return CoreTime(0, 0)
    return CoreTime(int(had), int(waited))


def starves(before: CoreTime, after: CoreTime) -> bool:
    """Whether a process that wanted a core hardly had one in between."""
    had, waited = after.had - before.had, after.waited - before.waited
    return waited >= LEAST_WAIT_NS and had < LEAST_SHARE * (had + waited)
