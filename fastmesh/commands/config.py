"""``fastmesh config``: every setting with its value, and the reference of all settings."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fastmesh.config import LoadedSettings, Setting, every_section, every_setting, shown
from fastmesh.telemetry.log import printable


def show_settings(loaded: LoadedSettings) -> None:
    """Print every setting with its value, source, unit and meaning; plain lines when it is no terminal."""
    rows = [
        (name, printable(shown(value)), printable(source), unit, text)
        for name, value, source, unit, text in loaded.table()
    ]
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


COLUMNS = ("setting", "default", "unit", "what it may be", "meaning", "reload")
IN_WORDS = {"-": "unset", "(empty)": "empty"}


def reference() -> str:
    """Every setting as Markdown, with what a reload takes: the tables of docs/settings.md."""
    return "\n".join(_table(section, about) for section, about in every_section())


def _table(section: str, about: str) -> str:
    rows = [_row(setting) for setting in every_setting() if setting.section == section]
    lines = [COLUMNS, ("---",) * len(COLUMNS), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"## {section.upper()}\n\n{about}\n\n{table}\n"


def _row(setting: Setting) -> tuple[str, ...]:
    taken = "yes" if setting.reload else "restart"
    default = IN_WORDS.get(setting.default, setting.default)
    return f"`{setting}`", default, setting.unit, setting.allowed, setting.meaning, taken
