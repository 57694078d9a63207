"""One timer for the deadlines of all connections.

A connection changes its deadline with every request, and a timer of its own would cost 675 bytes and a heap operation a
change.  Here a later deadline is only a number: the wheel looks at it when the earlier one has come.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Protocol

from fastmesh.telemetry.bugs import Bugs


class Timed(Protocol):
    """A connection with a deadline, in seconds of the wheel's clock; infinity while it has none."""

    deadline: float
    filed: int  # the wheel's own: the slot it stands in, 0 when in none

    def expired(self, now: float) -> None:
        """The deadline has come; sets a later one, or is done."""

    def abort(self) -> None:
        """End: expired() raised, and without a deadline it would be there for ever."""

    @property
    def named(self) -> Mapping[str, object]:
        """What the log calls it."""


NEVER = float("inf")


class TimerWheel:
    """Files connections into slots of *step_s* seconds by their deadlines, and calls those that are due.  One that
    raises is aborted, and is one of *bugs*."""

    def __init__(self, bugs: Bugs, step_s: float = 0.05) -> None:
        self.step_s = step_s
        self._bugs = bugs
        self._slots: dict[int, set[Timed]] = {}
        self._next = 0  # the first slot that was not looked at

    def __len__(self) -> int:
        return sum(map(len, self._slots.values()))

    def file(self, timed: Timed) -> None:
        """*timed* has a new deadline; costs something only when it is earlier than the slot it stands in."""
        if timed.deadline == NEVER:
            return
        slot = max(int(timed.deadline / self.step_s) + 1, self._next)
        if timed.filed and timed.filed <= slot:
            return
        self.forget(timed)
        timed.filed = slot
        self._slots.setdefault(slot, set()).add(timed)

    def forget(self, timed: Timed) -> None:
        """*timed* is gone."""
        if timed.filed:
            slot = self._slots.get(timed.filed)
            if slot is not None:
                slot.discard(timed)
            timed.filed = 0

    def turn(self, now: float) -> None:
        """Call all whose deadline has come."""
        current = int(now / self.step_s)
        # After a long stall or a jump only the slots that exist are looked at, not every step between.
        due = sorted(slot for slot in self._slots if slot <= current)
        self._next = current + 1
        for slot in due:
            self._bugs.each(
                "deadlines", self._slots.pop(slot), partial(self._call, slot, now), lambda timed: timed.named
            )

    def _call(self, slot: int, now: float, timed: Timed) -> None:
        if timed.filed != slot:  # forgotten by one that was called before it
            return
        timed.filed = 0
        try:
            if timed.deadline <= now:
                timed.expired(now)
            self.file(timed)
        except Exception:
            timed.abort()
            raise
