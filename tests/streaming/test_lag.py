"""Lateness divided: what the loop did itself, and what it waited for a core."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
from house import in_loop

from fastmesh.streaming.lag import LoopLag, ThreadCores
from fastmesh.telemetry.metrics import Metrics


@pytest.mark.parametrize(
    ("lag", "busy", "starved", "own_ms", "starved_ms"),
    [
        (0.1, 0.1, 0.0, 100, 0),  # a long turn
        (0.1, 0.0, 0.1, 0, 100),  # others had the core
        (0.1, 0.075, 0.025, 75, 25),
        (0.1, 0.0, 0.0, 100, 0),  # nobody counts: it may be ours
        (0.1, 0.001, 0.004, 96, 4),  # never more than it stood without a core
        (0.0, 0.04, 0.01, 0, 0),
    ],
)
def test_a_timers_lateness_is_divided_as_the_threads_time_was(
    lag: float, busy: float, starved: float, own_ms: int, starved_ms: int
) -> None:
    metrics = Metrics()
    seen = LoopLag(metrics, lambda: 0.0)
    seen.seen(lag, (3.0, 2.0), (3.0 + busy, 2.0 + starved), 5.0)
    assert metrics.loop_lag.total == pytest.approx(lag)
    assert metrics.loop_own_lag.total == pytest.approx(own_ms / 1000)
    assert metrics.loop_starved_lag.total == pytest.approx(starved_ms / 1000)
    assert seen.worst_s == (lag, pytest.approx(starved_ms / 1000))
    assert seen.late_ms(5.0) == (int(lag * 1000), pytest.approx(starved_ms, abs=1))


@in_loop
async def test_the_worst_is_of_the_last_second() -> None:
    seen = LoopLag(Metrics(), lambda: 0.0)
    assert seen.worst_s[0] == 0.0
    seen.seen(0.3, (0.0, 0.0), (0.3, 0.0), 1.0)
    for _ in range(19):
        seen.seen(0.1, (0.0, 0.0), (0.1, 0.0), 1.0)
    assert seen.worst_s[0] == 0.3
    seen.seen(0.1, (0.0, 0.0), (0.1, 0.0), 1.0)
    assert seen.worst_s[0] == 0.1


def test_the_thread_that_asks_is_the_one_that_is_counted() -> None:
    """It keeps a core busy; another thread, which only waits, has next to nothing of that."""
    waiting, over = ThreadCores(), threading.Event()
    busy_s: list[float] = []

    def work() -> None:
        cores = ThreadCores()
        while (busy := cores()[0]) < 0.02:
            sum(range(10_000))
        busy_s.append(busy)
        cores.close()
        over.set()

    before = waiting()[0]
    threading.Thread(target=work).start()
    over.wait()
    assert busy_s[0] >= 0.02
    assert waiting()[0] - before < busy_s[0]
    waiting.close()
    assert waiting() == (0.0, 0.0)


def test_a_thread_without_a_core_is_seen_to_be_without_one() -> None:
    """Two processes on one core: each is ready and without it as long as the other has it."""
    core = min(os.sched_getaffinity(0))
    program = f"""if True:
        import os, sys
        os.sched_setaffinity(0, {{{core}}})
        from fastmesh.streaming.lag import ThreadCores
        cores = ThreadCores()
        while cores()[1] < 0.02:
            sum(range(10_000))
        print("starved")
    """
    busy = subprocess.Popen([sys.executable, "-c", f"import os\nos.sched_setaffinity(0, {{{core}}})\nwhile True: pass"])
    try:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
        assert done.stdout == "starved\n", done.stderr
    finally:
        busy.kill()
        busy.wait()
