"""A stream's frames as a table for people.

On a terminal finished rows scroll up above one live line (progress and rate), so
a batch of any length costs the terminal one row a page and nothing is left out.
Elsewhere the same rows are plain lines as they come, and no text is cut.
"""

from __future__ import annotations

import sys
import unicodedata
from dataclasses import dataclass
from typing import Any, Final, Self

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, Task, TextColumn
from rich.text import Text

Frame = dict[str, Any]

PLAIN_COLUMNS: Final = 120

INDEX, OUTCOME, WORDS, SIZE, TOOK = 3, 19, 6, 8, 5  # cells of a column; more push the rest of their row
FIXED_CELLS: Final = INDEX + OUTCOME + WORDS + SIZE + TOOK + 6  # and the spaces between

GOOD, BAD, QUIET, HEAD = "green", "red", "dim", "bold"

# Controls, halves of surrogate pairs, private use, what is no character: each shown as U+FFFD.
REPLACED: Final = frozenset({"Cc", "Cs", "Co", "Cn"})
# Marks that turn the direction, soft hyphens, joiners; variation selectors, which change a width that was measured.
DROPPED: Final = "Cf"
SELECTORS: Final = frozenset(map(chr, range(0xFE00, 0xFE10)))
MARKS: Final = frozenset({"Mn", "Me"})
MAX_CHARS: Final = 500  # of a title or a URL; what is longer than a line is cut by its width anyway
MAX_MARKS: Final = 2  # on one character: more of them grow over the lines above and below


def clean(text: str) -> str:
    """*text*, which anybody wrote, as one line that a terminal shows and does not obey: whatever it would obey, or what
    turns or hides the text around it, is taken out before anything is measured."""
    shown: list[str] = []
    marks = 0
    for character in text[:MAX_CHARS]:
        category = unicodedata.category(character)
        if category == DROPPED or character in SELECTORS:
            continue
        marks = marks + 1 if category in MARKS else 0
        if character.isspace():
            shown.append(" ")
        elif category in REPLACED:
            shown.append("\ufffd")
        elif marks <= MAX_MARKS:
            shown.append(character)
    return "".join(shown)


@dataclass(frozen=True, slots=True)
class Row:
    """What is shown of one result."""

    index: str
    url: str
    outcome: str
    title: str
    words: str
    size: str
    took: str


HEADER: Final = Row("#", "URL", "result", "title", "words", "bytes", "ms")


class ResultTable:
    """Shows every frame it is given, until it is left.  *base* is the beginning that all URLs share, if they do: rows
    leave it out.  Without *console* it is standard output."""

    def __init__(self, console: Console | None = None, *, base: str = "") -> None:
        # FORCE_COLOR must not put escapes into a pipe, so the file itself says whether it is a terminal.
        self._console = console or Console(force_terminal=sys.stdout.isatty(), highlight=False)
        self._base = base
        self._failed = 0
        self._progress: Progress | None = None
        if self._console.is_terminal:
            self._progress = Progress(
                SpinnerColumn(),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[failed]} failed"),
                _RateColumn(""),
                console=self._console,
                transient=True,
            )
            self._task = self._progress.add_task("pages", total=None, failed=0)

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def take(self, frame: Frame) -> None:
        """Show one more frame; a kind that is not for people is passed over.  Raises OSError as its file does."""
        match frame["type"]:
            case "metadata":
                self._begin(frame["total_urls"])
            case "result":
                self._add(frame)
            case "gap":
                self._say(f"frames {frame['from_seq']} to {frame['to_seq']} were not sent here: {frame['reason']}")
            case "error":
                self._say(f"the stream failed: {frame['error']['type']}: {frame['error']['message']}", BAD)
            case "summary":
                if self._progress is not None:
                    self._progress.stop()
                self._say(summed_up(frame), HEAD)

    def _begin(self, total: int | None) -> None:
        if self._progress is not None:
            self._progress.update(self._task, total=total)
        self._print(HEADER, HEAD, HEAD)

    def _add(self, frame: Frame) -> None:
        failed = frame["result"]["error"] is not None
        self._failed += failed
        self._print(row_of(frame, self._base), BAD if failed else GOOD, "")
        if self._progress is not None:
            self._progress.update(self._task, completed=frame["progress"]["completed"], failed=self._failed)

    def _print(self, row: Row, outcome_style: str, style: str) -> None:
        url, title = row.url, row.title
        url_cells, title_cells = self._widths()
        if self._progress is not None:
            url, title = _without_middle(url, url_cells), _without_end(title, title_cells)
        line = Text.assemble(
            (f"{row.index:>{INDEX}}", style or QUIET),
            (f" {_padded(url, url_cells)}", style),
            (f" {row.outcome:<{OUTCOME}}", outcome_style),
            (f" {_padded(title, title_cells)}", style),
            (f" {row.words:>{WORDS}} {row.size:>{SIZE}} {row.took:>{TOOK}}", style),
        )
        self._write(line)

    def _say(self, sentence: str, style: str = "") -> None:
        self._write(Text(clean(sentence), style))

    def _write(self, line: Text) -> None:
        encoding = self._console.encoding
        plain = line.plain.encode(encoding, "replace").decode(encoding)
        if self._progress is None:
            # Not through rich, which answers a reader that went away with SystemExit.
            self._console.file.write(plain.rstrip() + "\n")
            self._console.file.flush()
        else:
            line.plain = plain
            self._console.print(line, no_wrap=True, overflow="crop", crop=True)

    def _widths(self) -> tuple[int, int]:
        """Cells of the URL and of the title: they share what the figures leave of a line."""
        columns = self._console.width if self._progress is not None else PLAIN_COLUMNS
        rest = max(20, columns - FIXED_CELLS)
        url = rest // 2
        return url, rest - url


class _RateColumn(TextColumn):
    """URLs a second since the start."""

    def render(self, task: Task) -> Text:
        rate = task.completed / task.elapsed if task.elapsed else 0.0
        return Text(f"{rate:.1f}/s")


def row_of(frame: Frame, base: str = "") -> Row:
    """The row of a ``result`` frame, its texts cleaned."""
    result = frame["result"]
    document, error = result["document"], result["error"]
    return Row(
        index=str(frame["index"]),
        url=clean(result["url"].removeprefix(base) if base else _without_scheme(result["url"])),
        outcome=clean(_outcome(result["status"], error)),
        title=clean((document or {}).get("title") or ""),
        words=str(document["word_count"]) if document else "-",
        size=str(result["bytes"]) if document else "-",
        took=f"{result['processing_time_ms']:.0f}",
    )


def summed_up(frame: Frame) -> str:
    """A ``summary`` frame as one line."""
    took_s = frame["total_processing_time_ms"] / 1000
    parts = [
        f"{frame['total_urls']} URLs in {took_s:.1f} s ({frame['throughput_per_second']:.1f}/s)",
        f"{frame['successful']} succeeded",
        f"{frame['failed']} failed",
    ]
    if frame["cancelled"]:
        parts.append(f"{frame['cancelled']} not fetched")
    return f"{frame['status']}: " + ", ".join(parts)


def _outcome(status: int, error: Frame | None) -> str:
    if error is None:
        return str(status)
    return f"{status} {error['type']}" if error["type"] == "http_status" else str(error["type"])


def _without_scheme(url: str) -> str:
    return url.removeprefix("http://").removeprefix("https://")


def _padded(text: str, cells: int) -> str:
    return text + " " * (cells - cell_len(text))


def _without_end(text: str, cells: int) -> str:
    """As much of *text* as fits."""
    return text if cell_len(text) <= cells else _beginning(text, cells - 1) + "…"


def _without_middle(url: str, cells: int) -> str:
    """The host and the end of a URL say most."""
    if cell_len(url) <= cells:
        return url
    head = _beginning(url, cells // 2)
    return f"{head}…{_beginning(url[::-1], cells - cells // 2 - 1)[::-1]}"


def _beginning(text: str, cells: int) -> str:
    """The most characters of *text* that take no more than *cells*; some take two, some none."""
    while cell_len(text) > cells:
        text = text[:-1]
    return text
