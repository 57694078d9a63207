"""Standard output and error of a daemon: lines that nobody reads are lost, and hold up nobody.

A pipe, a socket or a terminal whose reader stands still takes no byte more, and the process that writes to it waits:
its loop, and SIGTERM with it.  (The descriptor could be made non-blocking, but then it would be so for every process
that has the same one.)  So a thread writes to what has a reader, and so much text may wait for it; lines beyond that
are counted.  A regular file is written at once, in the order of what happens.
"""

from __future__ import annotations

import atexit
import io
import os
import stat
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Final

MAX_WAITING: Final = 1_048_576  # characters; the text that is being written is as much again
LAST_WORDS_S: Final = 1.0  # for what waits when the process ends


class Unblocked(io.TextIOBase):
    """A text file that writes to *fd* and never makes its caller wait.

    Whole lines go out, in their order.  ``lost`` counts those that did not; once
    there is a reader again *report_lost* is called, in the thread, with their number.
    """

    def __init__(self, fd: int, report_lost: Callable[[int], object], max_waiting: int = MAX_WAITING) -> None:
        self.lost = 0  # lines, ever
        self._fd = fd
        self._report_lost = report_lost
        self._max_waiting = max_waiting
        # Reentrant: a collection of garbage may log something in the middle of this.
        self._lock = threading.RLock()
        self._begun = ""  # a line that has no end yet
        self._waiting: list[str] = []
        self._size = 0  # of the text that waits
        self._unreported = 0  # of the lost
        self._takes = True  # the last write was taken
        # None: there are lines.  A lock is let go of when all that waited before it is written.
        self._wanted: SimpleQueue[threading.Lock | None] = SimpleQueue()
        self._threaded = _has_reader(fd)
        if self._threaded:
            # A daemon thread: a reader that stands still must not keep the process from ending.
            threading.Thread(target=self._run, name=f"file-{fd}", daemon=True).start()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """What is written is UTF-8."""
        return "utf-8"

    def fileno(self) -> int:
        """The descriptor."""
        return self._fd

    def isatty(self) -> bool:
        """Whether a person may be at the other end."""
        return os.isatty(self._fd)

    def writable(self) -> bool:
        """Always, whether or not somebody reads it."""
        return True

    def write(self, text: str) -> int:
        """Take *text*; the last line waits for its end, if it has none yet."""
        with self._lock:
            lines, end, self._begun = f"{self._begun}{text}".rpartition("\n")
            if end:
                self._put(lines + end)
        return len(text)

    def drain(self, within_s: float) -> bool:
        """Wait until all is written that was given so far; False when *within_s* was not enough."""
        if not self._threaded:
            return True
        written = threading.Lock()
        written.acquire()
        self._wanted.put(written)
        return written.acquire(timeout=within_s)

    def _put(self, lines: str) -> None:
        if not self._threaded:
            self._write(lines)
        elif self._waiting and self._size + len(lines) > self._max_waiting:
            self._lose(lines)
        else:
            self._waiting.append(lines)
            self._size += len(lines)
            if len(self._waiting) == 1:
                self._wanted.put(None)

    def _lose(self, lines: str) -> None:
        with self._lock:
            count = lines.count("\n")
            self.lost += count
            self._unreported += count

    def _write(self, lines: str) -> None:
        """Write as much as the file takes; this may wait."""
        data = memoryview(lines.encode(errors="backslashreplace"))
        try:
            while data:
                data = data[os.write(self._fd, data) :]
            self._takes = True
        except OSError:  # a full disk, or the reader is gone
            self._takes = False
            self._lose(lines)

    def _run(self) -> None:
        while True:
            written = self._wanted.get()
            with self._lock:
                waited, self._waiting, self._size = self._waiting, [], 0
                lost = 0
                if self._takes:
                    # Lines were lost when these had filled the room: that is reported behind them.
                    lost, self._unreported = self._unreported, 0
            if lost:
                with suppress(Exception):  # or nobody would write any more
                    self._report_lost(lost)
            if waited:
                self._write("".join(waited))
                if self._takes and self._unreported:
                    self._wanted.put(None)
            if written is not None:
                written.release()


def _has_reader(fd: int) -> bool:
    """Whether somebody at the other end may stand still."""
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(fd)


_standard: list[Unblocked] = []


def unblock(report_lost: Callable[[int], object]) -> None:
    """From now on no write of Python's to ``sys.stdout`` and ``sys.stderr``, tracebacks too, waits for a reader."""
    sys.stdout.flush()
    sys.stderr.flush()
    sys.stdout = Unblocked(sys.stdout.fileno(), report_lost)
    sys.stderr = Unblocked(sys.stderr.fileno(), report_lost)
    _standard[:] = [sys.stdout, sys.stderr]
    atexit.register(_last_words)


def lost_lines() -> int:
    """How many lines were lost since the start."""
    return sum(file.lost for file in _standard)


def _last_words() -> None:
    for file in _standard:
        file.drain(LAST_WORDS_S)
