"""Plots of what was measured, from results/*.json into docs/plots/.

    python -m loadtest.plots

A benchmark of which there is no result keeps the plot that it has.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from loadtest.compiled import RESULTS
from loadtest.report import Table

PLOTS = Path(__file__).parent.parent / "docs" / "plots"
OURS, OTHERS = "#d6453d", "#7b8794"
SERIES = ("#d6453d", "#e59a3c", "#3d7dca", "#9aa5b1", "#5a6672")

# Text stays text, and the same figures make the same file.
matplotlib.rcParams.update(
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "fastmesh",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10,
        "figure.facecolor": "white",
    }
)

Tables = dict[str, Table]


def main() -> int:
    """Draw all that there are results of."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.plots", description=__doc__.partition("\n")[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the benchmarks' JSON")
    parser.add_argument("--out", type=Path, default=PLOTS, help="folder of the plots")
    asked = parser.parse_args()
    tables = dict(_tables(asked.results))
    asked.out.mkdir(parents=True, exist_ok=True)
    for name, draw in DRAWN.items():
        figure = draw(tables)
        if figure is None:
            print(f"{name}: no results", file=sys.stderr)
        else:
            figure.savefig(asked.out / f"{name}.svg", metadata={"Date": None}, bbox_inches="tight")
            print(asked.out / f"{name}.svg")
    return 0


def _tables(folder: Path) -> Iterator[tuple[str, Table]]:
    """All tables by their titles; of those that were measured twice the newest comes last."""
    for path in sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime):
        for table in json.loads(path.read_text("utf-8"))["tables"]:
            yield table["title"], Table(**table)


# ── the plots ────────────────────────────────────────────────────────────────────────────


def throughput(tables: Tables) -> Figure | None:
    """How many times the frames of each rival fastmesh sends."""
    table = _titled(tables, "10 greedy connections, and a fan-out")
    if table is None:
        return None
    rows = [(f"{row['server']} ({row['stream'].partition(',')[0]})", row) for row in _named(table)]
    bars = [(name, _number(row["fastmesh to it"]), OTHERS) for name, row in rows
            if row["server"] != "fastmesh" and "readers" not in row["stream"]]  # fmt: skip
    figure, axes = _figure(len(bars))
    _bars(axes, bars, "{:.2f}")
    axes.axvline(1, color=OURS, linewidth=1)
    axes.set_title("Frames a second of fastmesh, as a multiple of each by the same protocol")
    return figure


def bare_loop(tables: Tables) -> Figure | None:
    """What is left of the bare loop's rate."""
    table = _titled(tables, "Firehose NDJSON")
    if table is None:
        return None
    bars = [(f"{row['server']}, {row['connections']} connections", _number(row["to the bare loop"]), _colour(row))
            for row in _named(table) if row["server"] != "bare loop"]  # fmt: skip
    figure, axes = _figure(len(bars))
    _bars(axes, bars, "{:.2f}")
    axes.axvline(1, color="black", linewidth=1)
    axes.set_title("NDJSON frames a second, as a share of a loop that only builds and sends")
    return figure


def idle(tables: Tables) -> Figure | None:
    """Memory of connections that do nothing."""
    titles = {"Idle keep-alive": "keep-alive", "Idle SSE": "SSE", "Idle WebSocket": "WebSocket"}
    found = [(kind, table) for title, kind in titles.items() if (table := _titled(tables, title)) is not None]
    bars = [(f"{row['server']} ({kind})", _number(row["median"]) / 1024, _colour(row))
            for kind, table in found for row in _named(table)]  # fmt: skip
    if not bars:
        return None
    figure, axes = _figure(len(bars))
    _bars(axes, bars, "{:.1f}")
    axes.set_title("Resident memory of an idle connection, KiB")
    return figure


def fan_out(tables: Tables) -> Figure | None:
    """How late events come to a thousand readers."""
    table = _titled(tables, "SSE readers of one stream")
    if table is None:
        return None
    columns = ("late, median, ms", "99th percentile", "worst")
    groups = {row["server"]: [_number(row[column]) for column in columns] for row in _named(table)}
    figure = Figure(figsize=(7, 2.8))
    axes = figure.subplots()
    _groups(axes, groups, ("median", "99th percentile", "worst"), "{:.1f}")
    axes.set_title(f"How late an event comes, ms: {table.title}")
    return figure


def sizing(tables: Tables) -> Figure | None:
    """The rules for windows."""
    table = _titled(tables, "Sizing of a window")
    if table is None:
        return None
    rows = [row for row in _named(table) if not row["reader"].startswith("fast")]  # for whom all rules are the same
    readers = {row["reader"]: row["reader"].partition(":")[0] for row in rows}
    panels = {"KiB held, mean": "{:.0f}", "time lost": "{:.1f}", "received less": "{:.0f}"}
    units = {"KiB held, mean": "KiB held, mean", "time lost": "time lost, %", "received less": "received less, %"}
    figure = Figure(figsize=(11, 2.8))
    for axes, (column, pattern) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        groups: dict[str, list[float]] = {}
        for row in rows:
            groups.setdefault(row["rule"], []).append(_number(row[column]))
        _groups(axes, groups, tuple(readers.values()), pattern)
        axes.set_title(units[column])
        if column != "KiB held, mean":
            axes.get_legend().remove()
    figure.tight_layout()
    return figure


DRAWN: dict[str, Callable[[Tables], Figure | None]] = {
    "throughput": throughput,
    "bare-loop": bare_loop,
    "idle": idle,
    "fan-out": fan_out,
    "sizing": sizing,
}


# ── how they are drawn ───────────────────────────────────────────────────────────────────


def _figure(bars: int) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, 0.6 + 0.26 * bars))
    return figure, figure.subplots()


def _bars(axes: Axes, bars: list[tuple[str, float, str]], pattern: str) -> None:
    """One below the other, each with its figure."""
    names, values, colours = zip(*reversed(bars), strict=True)
    drawn = axes.barh(names, values, color=colours)
    axes.bar_label(drawn, [pattern.format(value) for value in values], padding=3)
    axes.margins(x=0.12)


def _groups(axes: Axes, groups: dict[str, list[float]], labels: tuple[str, ...], pattern: str) -> None:
    """A group of bars for each label, a colour for each of *groups*."""
    width = 0.8 / len(groups)
    for number, (name, values) in enumerate(groups.items()):
        places = [place + (number - (len(groups) - 1) / 2) * width for place in range(len(labels))]
        drawn = axes.bar(places, values, width * 0.92, label=name, color=SERIES[number % len(SERIES)])
        axes.bar_label(drawn, [pattern.format(value) if value else "" for value in values], padding=1, fontsize=6)
    axes.set_xticks(range(len(labels)), labels)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.legend(frameon=False, fontsize=8)


def _titled(tables: Tables, part: str) -> Table | None:
    """The newest table with *part* in its title."""
    return next((table for title, table in reversed(tables.items()) if part in title), None)


def _named(table: Table) -> list[dict[str, str]]:
    return [dict(zip(table.columns, map(str, row), strict=True)) for row in table.rows]


def _number(text: str) -> float:
    return float(text.replace(",", "").removesuffix("%"))


def _colour(row: dict[str, str]) -> str:
    return OURS if row["server"] == "fastmesh" else OTHERS


if __name__ == "__main__":
    sys.exit(main())
