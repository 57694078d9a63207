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
    return _compiled(source, Path(source).stem)


@cache
def library(source: str) -> str:
    """The path of the shared library made of *source*, to be loaded before a program's own."""
    return _compiled(source, f"{Path(source).stem}.so", "-shared", "-fPIC")


def _compiled(source: str, name: str, *more: str) -> str:
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / name
    subprocess.run(["cc", "-O2", "-Wall", "-Wextra", *more, "-o", target, HERE / source], check=True)
    return str(target)
