"""How far a crawl is, on stderr."""

from __future__ import annotations

from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class ProgressBar:
    """A bar while it runs, when stderr is a terminal; else nothing."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._failed = 0
        self._progress = Progress(
            TextColumn("pages"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[failed]} failed"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("pages", total=None, failed=0)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def take(self, frame: dict[str, Any]) -> None:
        """One more frame of the stream."""
        if frame["type"] == "metadata":
            self._progress.update(self._task, total=frame["total_urls"])
        elif frame["type"] == "result":
            self._failed += frame["result"]["error"] is not None
            self._progress.update(self._task, completed=frame["progress"]["completed"], failed=self._failed)
