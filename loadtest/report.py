"""Tables for people, JSON for programs, and the machine that they were measured on."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from fastmesh.config.cores import usable_cores
from loadtest.compiled import RESULTS

PIPED_WIDTH = 200  # a pipe has no width: lines as long as a table may be
STDERR = Console(stderr=True)


@dataclass
class Table:
    """One benchmark's result."""

    title: str
    columns: list[str]
    rows: Sequence[Sequence[object]]

    def markdown(self) -> str:
        """As Markdown."""
        lines: list[Sequence[object]] = [self.columns, ["---"] * len(self.columns), *self.rows]
        return f"### {self.title}\n\n" + "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def machine() -> dict[str, str]:
    """What the figures depend on."""
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", info)
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    return {
        "processor": model[1] if model else platform.machine(),
        "cores": str(usable_cores()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": commit,
        **{name: version(name) for name in ("uvloop", "httptools", "orjson", "aiohttp", "turbohtml")},
    }


def publish(name: str, tables: list[Table]) -> None:
    """Print *tables*; write them to results/NAME.md and .json."""
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
    for table in tables:
        shown = RichTable(title=table.title)
        for column in table.columns:
            shown.add_column(column)
        for row in table.rows:
            shown.add_row(*map(str, row))
        console.print(shown)
    where = machine()
    about = ", ".join(f"{key} {value}" for key, value in where.items())
    RESULTS.mkdir(exist_ok=True)
    text = f"Measured on: {about}\n\n" + "\n".join(table.markdown() for table in tables)
    (RESULTS / f"{name}.md").write_text(text, "utf-8")
    (RESULTS / f"{name}.json").write_text(
        json.dumps({"machine": where, "tables": [asdict(t) for t in tables]}, indent=1)
    )
