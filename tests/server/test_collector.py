"""Python's collector in a daemon: told apart what is for good, and looking seldom through all."""

from __future__ import annotations

import subprocess
import sys

from daemons import Daemon

# In a process of its own, as what is frozen stays so.
SCRIPT = """
import gc
from fastmesh.server.host.process import THRESHOLDS, look_for_cycles, settle_collector
import fastmesh.server.daemon

settle_collector()
assert gc.get_freeze_count() > 10_000, gc.get_freeze_count()
assert gc.get_threshold() == THRESHOLDS
full = gc.get_stats()[2]["collections"]


class Node:
    alive = 0

    def __init__(self):
        self.self = self
        Node.alive += 1

    def __del__(self):
        Node.alive -= 1


kept = [[] for _ in range(300_000)]
most = 0
for _ in range(550_000):
    Node()
    most = max(most, Node.alive)
assert gc.get_stats()[2]["collections"] == full
assert 0 < Node.alive < most <= THRESHOLDS[0], (Node.alive, most)
look_for_cycles()
assert Node.alive == 0, Node.alive
looks = gc.get_stats()[2]["collections"]
assert looks > full
Node()
look_for_cycles()
assert gc.get_stats()[2]["collections"] == looks
assert Node.alive == 1, Node.alive
"""


def test_cycles_are_bounded_while_it_works_and_leave_when_it_rests() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_daemon_looks_when_its_streams_have_ended() -> None:
    with Daemon(STREAM__RESUME_WINDOW_S=3600) as daemon:
        before = looks(daemon)
        while looks(daemon) == before:  # what is kept of each ended stream is some objects more
            assert daemon.metric("fastmesh_streaming_kept_streams") < 2000
            for _ in range(50):
                daemon.crawl("nonsense")


def looks(daemon: Daemon) -> float:
    return daemon.metric('fastmesh_collector_runs_total{generation="all"}')
