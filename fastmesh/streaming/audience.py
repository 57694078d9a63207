"""Who reads a stream, and what was sent to all that did."""

from __future__ import annotations

from fastmesh.streaming.subscriber import Subscriber


class Audience:
    """The readers that are attached, and sums over those that have left.  Which one is waited for the pacer knows."""

    __slots__ = ("attached", "missed_frames", "protocol", "readers", "sent_bytes", "sent_frames")

    def __init__(self) -> None:
        self.attached: list[Subscriber] = []  # the longest first
        self.protocol = "none"  # of the first reader
        self.readers = 0  # ever
        self.sent_frames = self.sent_bytes = self.missed_frames = 0  # of those that have left

    def attach(self, reader: Subscriber) -> None:
        """*reader* came."""
        self.attached.append(reader)
        self.readers += 1
        if self.protocol == "none":
            self.protocol = reader.encoder.protocol
        reader.counts.active += 1
        reader.counts.connections += 1

    def detach(self, reader: Subscriber) -> bool:
        """*reader* left; return False when it had before."""
        if reader not in self.attached:
            return False
        self.attached.remove(reader)
        reader.sink = GONE
        reader.give_up_loading()
        reader.counts.active -= 1
        self.sent_frames += reader.sent_frames
        self.sent_bytes += reader.sent_bytes
        self.missed_frames += reader.missed_frames
        return True


class _Gone:
    """The sink of a reader that left: it takes nothing."""

    paused = True

    def write(self, data: bytes) -> None:
        """Nobody reads *data*."""

    beat = write

    def ready(self) -> None:
        """Nobody is there."""

    def end(self) -> None:
        """It has ended already."""

    def give_up(self) -> None:
        """It is gone already."""


GONE = _Gone()
