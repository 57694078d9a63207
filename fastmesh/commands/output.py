"""Frames on their way out of a command: lines on standard output, or a view of them, beside the loop."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, Self

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fastmesh.commands.table import ResultTable


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


class Output:
    """Takes batches of lines for a *view*, and for standard output when it has a file descriptor *fd*."""

    def __init__(self, view: ResultTable | ProgressBar, fd: int | None) -> None:
        self._summary: dict[str, Any] | None = None
        self._view = view
        self._fd = fd

    @property
    def summary(self) -> dict[str, Any]:
        """The last frame, once it was taken."""
        assert self._summary is not None
        return self._summary

    def take(self, lines: bytes) -> None:
        """Write *lines* and show them.  Raises OSError."""
        if self._fd is not None:
            write_all(self._fd, lines)
        for line in lines.splitlines():
            frame = orjson.loads(line)
            self._view.take(frame)
            if frame["type"] == "summary":
                self._summary = frame


@contextmanager
def output(*, table: bool) -> Iterator[Output]:
    """Standard output as a table for people; or as NDJSON, with a progress bar on standard error."""
    with ResultTable() if table else ProgressBar() as view:
        yield Output(view, None if table else sys.stdout.fileno())


class OutputThread:
    """Calls *take* with each batch, one at a time, so that the loop never waits for it."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._batches: SimpleQueue[tuple[bytes, asyncio.Future[None]]] = SimpleQueue()
        # A daemon thread: a pipe that nobody reads must not keep the process from ending.
        threading.Thread(target=self._run, name="output", daemon=True).start()

    def put(self, lines: bytes) -> asyncio.Future[None]:
        """Have *lines* taken; the future says when that is done, or what it raised.  After that nothing is taken."""
        taken = self._loop.create_future()
        self._batches.put((lines, taken))
        return taken

    def _run(self) -> None:
        failed: Exception | None = None
        while failed is None:
            lines, taken = self._batches.get()
            try:
                self._take(lines)
            except Exception as error:  # noqa: BLE001 - whatever it is, the future says it
                failed = error
            try:
                self._loop.call_soon_threadsafe(_settle, taken, failed)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return


def _settle(taken: asyncio.Future[None], failed: Exception | None) -> None:
    if taken.done():
        return
    if failed is None:
        taken.set_result(None)
    else:
        taken.set_exception(failed)


def write_all(fd: int, data: bytes) -> None:
    """Write all of *data* to the file descriptor *fd*, which may block.  Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
