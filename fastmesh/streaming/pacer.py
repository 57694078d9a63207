"""Whose reading a stream waits for (docs/protocol.md, *Who waits for whom*).

A stream has one pacer's place.  PacerPlace is given the facts, which reader came, which left and that the resume
window is over, and knows which reader has the place; it owns no clock.

    UNCLAIMED ── first to attach ──▶ HELD ◀── returns, or is heir ── LEFT
                                      └──────── leaves ───────────────▲
    NOBODY   a detached stream waits for nobody
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Generic, Protocol, TypeVar


class Candidate(Protocol):
    """A reader, as one that can have the place."""

    waited_for: bool  # what it reads makes room: it has the place, or no reader has

    @property
    def returning(self) -> bool:
        """Whether it came with a position: then it may take a place that was left."""


class Place(StrEnum):
    """How the pacer's place is."""

    UNCLAIMED = "unclaimed"  # nobody has held it yet
    HELD = "held"
    LEFT = "left"  # vacant, at the position of the reader that left it
    NOBODY = "nobody"


R = TypeVar("R", bound=Candidate)


class PacerPlace(Generic[R]):
    """The place; which reader has it or, while it is LEFT, had it last; and since when (seconds) it is vacant."""

    __slots__ = ("holder", "place", "since")

    def __init__(self, now: float, *, detached: bool) -> None:
        self.place = Place.NOBODY if detached else Place.UNCLAIMED
        self.holder: R | None = None
        self.since = now

    @property
    def vacant(self) -> bool:
        """Whether a reader could come and take it."""
        return self.place in (Place.UNCLAIMED, Place.LEFT)

    def attached(self, reader: R) -> None:
        """*reader* came: it takes a place that nobody has held yet and, when it returns, one that was left."""
        reader.waited_for = self.place is Place.NOBODY
        if self.place is Place.UNCLAIMED or (self.place is Place.LEFT and reader.returning):
            self._take(reader)

    def left(self, reader: R, others: Sequence[R], now: float) -> None:
        """*reader* went; the longest of *others* that returned, before it was known to be gone, takes the place."""
        if self.place is not Place.HELD or self.holder is not reader:
            return
        heir = next((other for other in others if other.returning), None)
        if heir is None:
            self.place = Place.LEFT
            self.since = now
        else:
            self._take(heir)

    def window_over(self, others: Sequence[R]) -> bool:
        """Nobody returned in time: the longest attached of *others* takes the place; False when there is none."""
        if not others:
            return False
        self._take(others[0])
        return True

    def _take(self, reader: R) -> None:
        if self.holder is not None:
            self.holder.waited_for = False
        reader.waited_for = True
        self.place = Place.HELD
        self.holder = reader
