"""The picture that ``fastmesh top`` shows of two looks at a daemon.

No text of a daemon's is obeyed by the terminal.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fastmesh.commands.table import clean
from fastmesh.commands.top.sample import Json, Rates, Sample, number_in, text_in

PROTOCOLS: Final = ("ndjson", "sse", "websocket")
STYLES: Final = {"healthy": "green", "degraded": "yellow", "unhealthy": "red"}
HEAD_ROWS: Final = 16  # of a picture, above its streams
ID_CHARS: Final = 14
ROOMY: Final = 110  # cells in a line: in a narrower one a figure would be cut, so what says least is left out
SAYS_LEAST: Final = frozenset({"type", ">kept"})

# Of each dependency, the figure that says most; figures of the same unit are shown as one of the other.
TELLING: Final = {
    "streaming": ("error_rate", "drop_ratio"),
    "journals": ("bytes", "max_bytes"),
    "loop": ("lag_ms",),
    "pipeline": ("error_rate",),
    "extract_workers": ("alive", "wanted"),
    "cache": ("bytes", "max_bytes"),
    "dns": ("unanswered_rate",),
    "descriptors": ("open", "limit"),
    "search": ("error_rate",),
}


def picture(server: str, before: Sample, now: Sample, *, rows: int | None, columns: int) -> RenderableType:
    """All of it, in lines of *columns* cells, and about *rows* of them if that is said."""
    rate = Rates(before, now)
    most = len(now.streams) if rows is None else max(1, rows - HEAD_ROWS)
    ordered = sorted(now.streams, key=lambda stream: (-rate.frames(stream), text_in(stream, "stream_id")))
    parts: list[RenderableType] = [
        _head(server, now),
        _dependencies(now),
        _flow(rate, now, columns),
        _totals(rate, now),
        _streams(rate, ordered[:most], columns),
    ]
    if len(ordered) > most:
        parts.append(Text(f"and {len(ordered) - most} more", "dim"))
    return Group(*parts)


def _head(server: str, now: Sample) -> Text:
    status = text_in(now.health, "status")
    return Text.assemble(
        ("fastmesh ", "bold"),
        (f"{text_in(now.health, 'version')}  ", ""),
        (f"{clean(server)}  ", "bold"),
        (status, STYLES.get(status, "red")),
        f"  up {_lasted(number_in(now.health, 'uptime_s'))}",
        f"  {_count(now.total('server_connections'))} connections",
        f"  {_count(now.total('streaming_active_streams'))} streams open,",
        f" {_count(now.total('streaming_kept_streams'))} kept",
    )


def _dependencies(now: Sample) -> Text:
    line = Text()
    known = now.health.get("dependencies")
    for name, part in (known if isinstance(known, dict) else {}).items():
        if not isinstance(part, dict):
            continue
        status = text_in(part, "status")
        figures = "/".join(_figure(figure, part) for figure in TELLING.get(name, ()))
        line.append(clean(str(name)), STYLES.get(status, "red"))
        line.append(f" {figures}  " if figures else "  ", "dim")
    return line


def _flow(rate: Rates, now: Sample, columns: int) -> Table:
    names = ("protocol", ">readers", ">new/s", ">frames/s", ">bytes/s", ">dropped/s", ">pauses/s", ">first byte p99")
    table = _table(*names, columns=columns)
    for protocol in PROTOCOLS:
        bound = rate.quantile(0.99, "streaming_ttfb_seconds", protocol=protocol)
        table.add_row(
            protocol,
            _count(now.total("streaming_active_connections", protocol=protocol)),
            _rate(rate.of("streaming_connections_total", protocol=protocol)),
            _rate(rate.of("streaming_messages_sent_total", protocol=protocol)),
            _bytes(rate.of("streaming_bytes_total", protocol=protocol)),
            _rate(rate.of("streaming_messages_dropped_total", protocol=protocol)),
            _rate(rate.of("streaming_backpressure_events_total", protocol=protocol, event="pause")),
            "-" if bound is None else f"≤ {bound * 1000:g} ms",
        )
    return table


def _totals(rate: Rates, now: Sample) -> Table:
    lag = rate.quantile(0.99, "loop_lag_seconds")
    urls = rate.of("pipeline_urls_total")
    good = rate.of("pipeline_urls_total", outcome="success")
    cached = rate.of("cache_requests_total", outcome="hit")
    running, waiting = (_count(now.total("pipeline_fetches", state=state)) for state in ("running", "waiting"))
    table = Table.grid(padding=(0, 2))
    table.add_row(
        f"URLs {_rate(urls)}/s ({_rate(urls - good)} failed)",
        f"in flight {_count(now.total('pipeline_inflight'))}",
        f"fetches {running}/{_count(now.total('pipeline_fetches_limit'))}, {waiting} wait",
        f"cache hits {_rate(cached)}/s",
    )
    table.add_row(
        f"journals {_of(now.total('streaming_memory_usage_bytes'), now.total('streaming_memory_limit_bytes'))}",
        f"memory {_bytes(now.total('process_resident_memory_bytes'))}",
        f"CPU {100 * rate.of('process_cpu_seconds_total'):.0f} %",
        "loop lag p99 " + ("-" if lag is None else f"≤ {lag * 1000:g} ms"),
    )
    return table


STREAM: Final = ("stream", "type", "state", ">done", ">frames/s", ">kept")
READER: Final = ("reader", ">sent", ">unread", ">window", ">missed")


def _streams(rate: Rates, streams: Iterable[Json], columns: int) -> Table:
    shown = [name for name in (*STREAM, *READER) if columns >= ROOMY or name not in SAYS_LEAST]
    table = _table(*shown, columns=columns)
    for stream in streams:
        done = number_in(stream, "successful") + number_in(stream, "failed")
        total = stream.get("total_urls")
        status = text_in(stream, "status") or text_in(stream, "state")
        cells = (
            text_in(stream, "stream_id")[:ID_CHARS],
            text_in(stream, "stream_type"),
            status,
            f"{_count(done)}/{_count(number_in(stream, 'total_urls')) if total is not None else '?'}",
            _rate(rate.frames(stream)),
            _bytes(number_in(stream, "kept_bytes")),
        )
        row = dict(zip((*STREAM, *READER), (*cells, *_worst_reader(stream)), strict=True))
        table.add_row(*(row[name] for name in shown))
    return table


def _worst_reader(stream: Json) -> tuple[str, ...]:
    """Of a stream's readers the one that lags most; that there is none is said, too."""
    given = stream.get("subscribers")
    known = [reader for reader in given if isinstance(reader, dict)] if isinstance(given, list) else []
    if not known:
        return ("nobody", "", "", "", "")
    reader = max(known, key=lambda reader: number_in(reader, "unread_frames"))
    more = f" +{len(known) - 1}" if len(known) > 1 else ""
    return (
        f"{text_in(reader, 'protocol')}{' paused' if reader.get('paused') else ''}{more}",
        _bytes(number_in(reader, "sent_bytes")),
        _count(number_in(reader, "unread_frames")),
        _count(number_in(reader, "capacity_frames")),
        _count(number_in(reader, "missed_frames")),
    )


def _table(*names: str, columns: int) -> Table:
    """Columns by their names, those of numbers marked with >; closer together in a line of few *columns* cells."""
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False, collapse_padding=columns < ROOMY)
    for name in names:
        table.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left", no_wrap=True)
    return table


def _figure(name: str, part: Json) -> str:
    value = number_in(part, name)
    if name.endswith(("_rate", "_ratio")):
        return f"{100 * value:.1f}%"
    if name.endswith("bytes"):
        return _bytes(value)
    return f"{value:.1f}ms" if name.endswith("_ms") else _count(value)


def _count(value: float) -> str:
    return f"{value:.0f}"


def _rate(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _of(value: float, limit: float) -> str:
    share = f" ({100 * value / limit:.0f} %)" if limit else ""
    return f"{_bytes(value)}/{_bytes(limit)}{share}"


def _bytes(value: float) -> str:
    for unit in ("B", "K", "M", "G"):
        if value < 1000 or unit == "G":
            return f"{value:.0f}{unit}" if unit == "B" or value >= 100 else f"{value:.1f}{unit}"
        value /= 1024
    return ""


def _lasted(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}"
