"""``fastmesh config``: every setting, as a table."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fastmesh.config import LoadedSettings, shown


def show_settings(loaded: LoadedSettings) -> None:
    """Print every setting with its value, source, unit and meaning; plain lines when it is no terminal."""
    rows = [(name, shown(value), source, unit, text) for name, value, source, unit, text in loaded.table()]
    console = Console()
    if not console.is_terminal:
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        for row in rows:
            print("  ".join((*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4])).rstrip())
        return
    table = Table(box=None, pad_edge=False)
    for title in ("setting", "value", "source", "unit", "meaning"):
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # as text: a value may look like markup
    console.print(table)
