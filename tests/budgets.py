"""Budgets of steps: what grows with its input, and how fast.

CPU time of this thread, the least of several runs, since others only ever add to it.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

TIMES = 4
# For TIMES the input: work that is linear takes 4 times as long, that is quadratic 16 times.
MOST = 8.0
# Less is not worth a comparison: it is the clock's.
LEAST_S = 0.000_2


def cpu_s(work: Callable[[], Any], runs: int = 3) -> float:
    """CPU seconds of this thread that *work* takes."""
    took = []
    gc.disable()  # a collection in the middle is no step of it
    try:
        for _ in range(runs):
            begun = time.thread_time()
            work()
            took.append(time.thread_time() - begun)
    finally:
        gc.enable()
    return min(took)


def growth(work: Callable[[T], Any], make: Callable[[int], T], size: int) -> float:
    """How many times as long *work* takes for ``make(TIMES * size)`` as for ``make(size)``: MOST at most, if linear."""
    small, large = make(size), make(TIMES * size)
    work(small)  # what is loaded or compiled at its first use
    return cpu_s(lambda: work(large)) / max(LEAST_S, cpu_s(lambda: work(small)))
