"""The units, as systemd's own tools judge them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import need

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with a program that is there."""
    for name in ("fastmesh.service", "fastmesh.socket"):
        text = (DEPLOY / name).read_text()
        (tmp_path / name).write_text(text.replace("/opt/fastmesh/bin/fastmesh", sys.executable))
    return tmp_path


def analyzed(*arguments: str) -> str:
    done = subprocess.run([need("systemd-analyze"), *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_both_units_verify_without_a_word(units: Path) -> None:
    assert analyzed("verify", str(units / "fastmesh.service"), str(units / "fastmesh.socket")) == ""


def test_the_exposure_is_2_at_most(units: Path) -> None:
    said = analyzed("security", "--offline=true", "--threshold=20", str(units / "fastmesh.service"))
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found is not None
    assert float(found[1]) <= 2.0
