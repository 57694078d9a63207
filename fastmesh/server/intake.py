"""Whose input is worked off next: connections that read more than one slice of work stand in line here.

A read of 256 KB may hold 42,000 chunks or 10,000 requests.  A connection works off a slice of it and pauses its
reading; the rest waits in one line for all connections, of which a turn of the loop works off a bounded part.  So the
bytes of one client cost another a few milliseconds, however many connections it opens; a client that sends one request
at a time never waits here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from fastmesh.telemetry.bugs import Bugs

SLICE_S = 0.001  # for one connection; the answer under way is finished
TURN_S = 0.002  # for the line, in one turn of the loop; the slice under way is finished


class Source(Protocol):
    """A connection that read more than one slice of work."""

    waits: bool  # the line's own: whether it stands in it

    @property
    def named(self) -> Mapping[str, object]:
        """What the log calls it."""

    def go_on(self) -> None:
        """Work off a slice, and stand in the line again for the rest."""

    def abort(self) -> None:
        """Close now: its slice failed by a fault of the server."""


class Intake:
    """The line.  It is told how to be called in the next turn of the loop, and has a clock, in seconds.  A slice that
    raises is one of *bugs* and ends its connection."""

    def __init__(self, call_soon: Callable[[Callable[[], None]], Any], clock: Callable[[], float], bugs: Bugs) -> None:
        self._call_soon = call_soon
        self._clock = clock
        self._bugs = bugs
        self._line: deque[Source] = deque()
        self._scheduled = False

    def wait(self, source: Source) -> None:
        """*source* has more to work off; it is called back once, never at once."""
        if source.waits:
            return
        source.waits = True
        self._line.append(source)
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self._turn)

    def _turn(self) -> None:
        until = self._clock() + TURN_S
        for _ in range(len(self._line)):  # nobody twice: what came meanwhile is read first
            source = self._line.popleft()
            source.waits = False
            if not self._bugs.survive("input", source.go_on, **source.named):
                source.abort()
            if self._clock() >= until:
                break
        self._scheduled = bool(self._line)
        if self._scheduled:
            self._call_soon(self._turn)
