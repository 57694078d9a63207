"""When a result is left out for a reader that asked for it (``on_slow: drop``; docs/protocol.md, *Who waits for whom*).

A policy: it is given how far the reader lags and how it was doing, and answers.  The bounds of its lag are kept
whenever it is stuck: for one large result many small ones may go.  A client that takes bytes loses nothing, however far
it lags; and once it has read all that there is, what it missed before says nothing about it any more.
"""

from __future__ import annotations

REMEMBERED = 50  # results, sent or left out
TOO_MANY = 0.15  # of them left out: then go on, instead of one now and one then


class DropPolicy:
    """Judges one reader by its lag and by its last 50 results."""

    __slots__ = ("_max_bytes", "_outcomes", "_threshold")

    def __init__(self, threshold_frames: int, max_bytes: int) -> None:
        self._threshold = threshold_frames
        self._max_bytes = max_bytes
        self._outcomes = 0  # the last results as bits, 1: left out

    def leaves_out(self, *, stuck: bool, lag_frames: int, lag_bytes: int, slow: bool, under_backpressure: bool) -> bool:
        """Whether the reader's oldest unread result is left out for one that came.  *stuck*: its transport is paused,
        or its client holds the stream; *slow*: most of its recent frames were, however few."""
        return stuck and (
            self.lags_too_far(lag_frames, lag_bytes, slow=slow)
            or under_backpressure
            or self._outcomes.bit_count() > REMEMBERED * TOO_MANY
        )

    def lags_too_far(self, frames: int, octets: int, *, slow: bool) -> bool:
        """Whether a stuck reader has so much unread that results are left out until it has not."""
        threshold = self._threshold // 2 if slow else self._threshold
        return frames > threshold or octets > self._max_bytes

    def left_out(self) -> None:
        """One result was left out."""
        self._remember(1, 1)

    def sent(self, count: int) -> None:
        """So many results were sent."""
        self._remember(0, count)

    def caught_up(self) -> None:
        """The reader has all that there is.  Else one whose frames come in bursts would latch: of each burst the first
        pauses its transport and the rest is left out, so that there are never enough that were sent."""
        self._outcomes = 0

    def _remember(self, outcome: int, count: int) -> None:
        self._outcomes = (self._outcomes << min(count, REMEMBERED) | outcome) & (1 << REMEMBERED) - 1
