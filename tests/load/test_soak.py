"""The soak in its short form: for some seconds clients and origins do what they should not; the same limits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.vitals import slope

ROOT = Path(__file__).parent.parent.parent


def soaked(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "loadtest.soak", *flags]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FASTMESH_")}
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=240)


def test_among_all_kinds_of_clients_and_origins_nothing_is_lost_and_nothing_is_left():
    done = soaked("--short", "--part", "mixed", "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr


def test_bodies_of_which_nothing_comes_are_bounded_and_let_go_of():
    done = soaked("--short", "--part", "failing")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_slope_is_that_of_the_line_of_least_squares():
    assert slope([0.0, 1.0, 2.0], [1.0, 3.0, 5.0]) == pytest.approx(2.0)
    assert slope([0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 1.0, 2.0]) == pytest.approx(0.6)
    assert slope([1.0], [5.0]) == slope([1.0, 1.0], [1.0, 9.0]) == 0.0
