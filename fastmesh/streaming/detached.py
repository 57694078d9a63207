"""Retention of a detached stream: nobody has the pacer's place, and its text is kept for whoever comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastmesh._core import Journal
from fastmesh.streaming.memory import BufferManager
from fastmesh.streaming.opening import JournalBounds
from fastmesh.streaming.pacer import PacerPlace
from fastmesh.streaming.retention import Position, Retention
from fastmesh.streaming.subscriber import Subscriber


class Detached(Retention):
    """Nobody has the place; over the bound what some reader was sent goes first."""

    __slots__ = ("_counted_offset", "_sent_before", "_sent_offset")

    full_waits = True

    def __init__(
        self,
        journal: Journal,
        pacer: PacerPlace[Subscriber],
        attached: Sequence[Subscriber],
        bounds: JournalBounds,
        buffers: BufferManager,
    ) -> None:
        super().__init__(journal, pacer, attached, bounds, buffers)
        self._sent_before, self._sent_offset = 1, 0  # the frames before it were sent to some reader
        self._counted_offset = 0  # what of the text was counted as unsent

    def _waited_for(self) -> Position:
        return self._sent_before, self._sent_offset

    def moved(self) -> None:
        """Nothing goes before a frame comes that needs the room: others may still read what one has read."""

    def read(self, seq: int, end: int, offset: int) -> None:
        if seq <= self._sent_before < end:
            self._pass(end, offset)

    def _pass(self, end: int, offset: int) -> None:
        """The frames before *end* are waited for no longer."""
        if not self._closed:
            self.buffers.count_unsent(self._sent_offset - offset)
        self._sent_before, self._sent_offset = end, offset

    def appended(self, *, result: bool) -> Subscriber | None:
        before, self._counted_offset = self._counted_offset, self._journal.ring.appended_bytes
        self.buffers.count_unsent(self._counted_offset - before)
        self._journal.trim(self._sent_before, self._counted_offset - self._bounds.detached)
        return None

    def close(self) -> None:
        super().close()
        self.buffers.count_unsent(-self.unsent_bytes)

    @property
    def read_to_end(self) -> bool:
        return self._sent_before > self._journal.last_seq

    @property
    def unsent_bytes(self) -> int:
        return self._journal.ring.appended_bytes - self._sent_offset

    def has_room(self, running: int, held_bytes: int, room: Callable[[], None]) -> bool:
        if self.unsent_bytes + held_bytes >= self._bounds.detached:
            return False
        if self.buffers.has_room_unsent or self.unread_frames == 0:
            return True
        self.buffers.wait_unsent(room)
        return False

    @property
    def unread_frames(self) -> int:
        return self._journal.last_seq + 1 - self._sent_before

    def allowance(self) -> tuple[int, int]:
        return self._bounds.detached, self._bounds.detached - self.unsent_bytes


class DetachedDropping(Detached):
    """The oldest go, sent or not."""

    __slots__ = ()

    full_waits = False

    def appended(self, *, result: bool) -> Subscriber | None:
        journal, ring, before = self._journal, self._journal.ring, self._counted_offset
        super().appended(result=result)
        # Where detached streams may hold no more, as many bytes go as came.
        most = self._bounds.detached if self.buffers.has_room_unsent else before - ring.evicted_bytes
        journal.trim(journal.last_seq, ring.appended_bytes - most)
        if self._sent_before < ring.first:
            self._pass(ring.first, ring.evicted_bytes)
        return None

    def has_room(self, running: int, held_bytes: int, room: Callable[[], None]) -> bool:
        return held_bytes < self._bounds.detached
