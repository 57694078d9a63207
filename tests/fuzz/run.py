"""Targets in a process of their own: what became of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .child import HANG_S, HEAD, STATE_BYTES

ROOT = Path(__file__).parents[2]
ENGINES = {"chance": "tests.fuzz.child", "coverage": "tests.fuzz.guided"}
SHOWN_BYTES, SHOWN_LINES = 200, 12
# A child that is neither done nor ended by its own alarm is one that waits for something.
SLACK_S = 120.0


@dataclass(frozen=True)
class Found:
    """The figures, or the *target* and its input that is a *fault*."""

    target: str
    fault: bytes | None
    said: str

    def __str__(self) -> str:
        if self.fault is None:
            return self.said
        return f"{self.target}: {self.said}\n  input of {len(self.fault)} bytes: {self.fault[:SHOWN_BYTES]!r}"


def run(
    names: Sequence[str], *, seconds: float, inputs: int, seed: int, engine: str = "chance", slower: float = 1.0
) -> Found:
    """Run each target for *seconds* or so many *inputs* beside its seeds; the first fault ends it."""
    with tempfile.TemporaryDirectory(prefix="fastmesh-fuzz-") as folder:
        state = Path(folder, "state")
        state.write_bytes(bytes(STATE_BYTES))
        given = [",".join(names), str(state), str(seconds), str(inputs), str(seed), str(slower)]
        command = [sys.executable, "-X", "faulthandler", "-m", ENGINES[engine], *given]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
        try:
            ran = subprocess.run(
                command,
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=len(names) * seconds + SLACK_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Found(*_at(state), f"waits, and is not done {SLACK_S:g} s after its time")
        figures = [line for line in ran.stdout.splitlines() if line.startswith('{"target"')]
        if ran.returncode == 0 and len(figures) == len(names):
            return Found("", None, "\n".join(figures))
        said = "\n".join(ran.stderr.splitlines()[-SHOWN_LINES:])
        if ran.returncode == -signal.SIGPROF:
            said = f"an input took more than {HANG_S:g} s of CPU"
        return Found(*_at(state), said or f"ended with {ran.returncode}")


def _at(state: Path) -> tuple[str, bytes]:
    """The target and the input that were run last."""
    data = state.read_bytes()
    name, length = HEAD.unpack_from(data)
    return name.rstrip(b"\0").decode(), data[HEAD.size : HEAD.size + length]
