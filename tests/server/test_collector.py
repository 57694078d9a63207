"""Python's collector in a daemon: told apart what is for good, and looking seldom through all."""

from __future__ import annotations

import subprocess
import sys

# In a process of its own, as what is frozen stays so.
SCRIPT = """
import gc
from fastmesh.server.host.gc import THRESHOLDS, settle_collector
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
for _ in range(100_000):
    Node()
    most = max(most, Node.alive)
assert gc.get_stats()[2]["collections"] == full
assert most <= THRESHOLDS[0], most
"""


def test_cycles_leave_young_and_nothing_is_looked_through_for_them() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
