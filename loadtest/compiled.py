"""The load tests' programs in C, compiled when they are first wanted."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results"


@cache
def program(source: str) -> str:
    """The path of the program made of *source*, a file below this folder."""
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / Path(source).stem
    subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-o", target, HERE / source], check=True)
    return str(target)
