"""A stream's input as its processor sees it: URLs that are not started yet, and the jobs that they become.

Two facts are apart: whether a URL is left, and whether the input has ended.  While it has not, others may be added.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from fastmesh.events import PageResult


class Job(Protocol):
    """One URL that was started."""

    @property
    def index(self) -> int:
        """Its place in the input."""

    @property
    def repeats(self) -> Sequence[tuple[int, str, str | None]]:
        """Where the same URL stands again, whose result is this one's: index, URL and id."""

    def run(self) -> Coroutine[Any, Any, PageResult]:
        """Fetch and extract it.  It does not raise: a failed page is a result."""

    def close(self) -> None:
        """It has ended, or never began: it holds nothing any more.  Once or more."""


class Backlog(Protocol):
    """The URLs that are not started yet."""

    @property
    def left(self) -> int:
        """How many these are."""

    @property
    def ended(self) -> bool:
        """Whether the input has ended: no URL is added any more."""

    @property
    def total(self) -> int:
        """How many URLs the input has so far: those that were started and those that repeat another too."""

    @property
    def memory(self) -> int:
        """The bytes of all these; they stay until the stream ends."""

    def add(self, inputs: Sequence[Any]) -> None:
        """The input has grown: its owner is woken."""

    def end_of_input(self) -> None:
        """The input has ended: its owner is woken."""

    def ready(self) -> bool:
        """Whether one of them may be started now.  After a no, its owner is woken when that changes."""

    @property
    def first(self) -> int:
        """The index that ``take`` would start, right after ``ready`` said yes."""

    def take(self) -> Job:
        """Start one, right after ``ready`` said yes."""

    def close(self) -> None:
        """None is started any more."""


MakeBacklog = Callable[[Callable[[], None]], Backlog]  # empty; given what wakes its owner
