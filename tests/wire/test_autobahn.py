"""Autobahn's cases, run by kosoku: nothing fails, nothing is less than strict."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# A process of its own: kosoku brings a module named autobahn, as this script is named.
SCRIPT = Path(__file__).with_name("autobahn.py")


def run(*flags: str, timeout_s: float) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_frames_pings_fragments_utf8_and_closes_are_as_rfc_6455_has_them() -> None:
    run(timeout_s=120)


@pytest.mark.long
def test_so_are_the_largest_messages_and_all_of_compression() -> None:
    run("--long", timeout_s=1800)
