"""Bugs that are survived: an error in the work for one of many is logged and counted, and the others have their turn.
Without that, one connection, stream or figure that raises would end deadlines, heartbeats or a scrape for all."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar

from fastmesh.telemetry.log import get_logger
from fastmesh.telemetry.rates import RecentShare

log = get_logger()

T = TypeVar("T")

# An error of every round is logged so often a minute, and counted each time.
LINES_A_MINUTE: Final = 20


class Bugs:
    """All bugs that were survived, by the task in which they were met."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[str] = Counter()
        self._clock = clock
        self._recent = RecentShare()
        self._lines: dict[str, tuple[int, int]] = {}  # by task: the minute, and how many lines it had

    @property
    def recent(self) -> int:
        """How many bugs there were in the last minute."""
        return self._recent.bad(self._clock())

    def each(
        self,
        task: str,
        many: Iterable[T],
        do: Callable[[T], object],
        named: Callable[[T], Mapping[str, object]] = lambda one: {},
    ) -> None:
        """*do* the *task* for each of *many*, whichever raise; the log names these by what *named* gives."""
        for one in many:
            try:
                do(one)
            except Exception as error:  # noqa: BLE001 - that is what this is for
                self.met(task, error, **_safely(named, one))

    def survive(self, task: str, do: Callable[[], object], **named: object) -> bool:
        """*do* it; return whether it did not raise."""
        try:
            do()
        except Exception as error:  # noqa: BLE001 - that is what this is for
            self.met(task, error, **named)
            return False
        return True

    def met(self, task: str, error: BaseException, **named: object) -> None:
        """*error* was met in the *task*, of which there are few; the fields *named* say with what."""
        now = self._clock()
        self.counts[task] += 1
        self._recent.count(now, 1)
        minute, lines = self._lines.get(task, (0, 0))
        if minute != int(now / 60):
            minute, lines = int(now / 60), 0
        self._lines[task] = minute, lines + 1
        if lines < LINES_A_MINUTE:
            log.error("daemon.bug", task=task, bugs=self.counts[task], **named, exc_info=error)


def _safely(named: Callable[[T], Mapping[str, object]], one: T) -> Mapping[str, object]:
    try:
        return named(one)
    except Exception:  # noqa: BLE001 - its name may be what is broken
        return {"unnamed": type(one).__name__}
