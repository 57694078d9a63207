"""Whom a stream waits for: what of its text it keeps for that reader, and how far it may run ahead, by its mode.

    Paced              waits for the reader in the pacer's place; when that has left, at the position where it stopped
    Dropping           waits for nobody: a stuck reader in the place skips results, and a vacant place keeps little
    CuttingOff         waits for nobody: a stuck reader in the place is cut off
    Detached           waits until its frames were sent to some reader, and keeps so much in all
    DetachedDropping   waits for nobody, and keeps so much in all

One rule: all is kept from `kept_from()` on, and a bounded text before that.  The rest goes in `moved()`, which the
stream calls whenever a position has moved (a reader read, passed frames, came or left), of detached streams in
`appended()`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastmesh._core import Journal
from fastmesh.streaming.memory import BufferManager
from fastmesh.streaming.pacer import PacerPlace, Place
from fastmesh.streaming.ports import JournalBounds
from fastmesh.streaming.subscriber import Subscriber

Position = tuple[int, int]  # a frame's number, and how much text was ever appended before it


class Retention:
    """What the modes share."""

    __slots__ = ("_attached", "_bounds", "_closed", "_journal", "_pacer", "buffers")

    full_waits = False  # whether a stream without room shows the state `waiting`

    def __init__(
        self,
        journal: Journal,
        pacer: PacerPlace[Subscriber],
        attached: Sequence[Subscriber],
        bounds: JournalBounds,
        buffers: BufferManager,
    ) -> None:
        self._journal = journal
        self._pacer = pacer
        self._attached = attached
        self._bounds = bounds
        self.buffers = buffers
        self._closed = False

    def kept_from(self) -> Position:
        """The first frame that must be kept."""
        if not self._closed:
            return self._waited_for()
        # No reader is waited for any more, but each that is attached has still to read what it has not.
        end = self._journal.last_seq + 1, self._journal.ring.appended_bytes
        return min(((reader.next_seq, reader.offset) for reader in self._attached), default=end)

    def _waited_for(self) -> Position:
        """The first frame that must be kept while the stream is open."""
        raise NotImplementedError

    def moved(self) -> None:
        """A position has moved: let go of text that is kept for no reader any more."""
        raise NotImplementedError

    def read(self, seq: int, end: int, offset: int) -> None:
        """A reader that is waited for took the frames *seq* to *end* (excluded), whose text ends at *offset*."""
        raise NotImplementedError

    def appended(self, *, result: bool) -> Subscriber | None:
        """A frame came, a *result* or another; return the reader that is to be cut off for it."""
        return None

    def look_at_lag(self) -> Subscriber | None:
        """Asked now and then: return the reader that is to be cut off, for it is stuck since the last result came."""
        return None

    def close(self) -> None:
        """The stream is over."""
        self._closed = True

    @property
    def unsent_bytes(self) -> int:
        """Bytes of text that are kept because no reader was sent them."""
        return 0

    @property
    def behind_bytes(self) -> int:
        """Text that is kept only for those who come back."""
        return max(0, self.kept_from()[1] - self._journal.ring.evicted_bytes)

    def let_go_behind(self, keep_bytes: int) -> None:
        """Let go of that text but for its newest *keep_bytes*."""
        seq, offset = self.kept_from()
        self._journal.trim(seq, offset - keep_bytes)

    @property
    def beyond_window_bytes(self) -> int:
        """Of the text, what is more than a window may hold."""
        ring = self._journal.ring
        return ring.appended_bytes - ring.evicted_bytes - self._bounds.ahead

    def let_go_beyond_window(self, keep_bytes: int) -> None:
        """Let go of that but for its newest *keep_bytes*, even where a reader has not read it."""
        self._journal.trim(self._journal.last_seq, self._journal.ring.appended_bytes - self._bounds.ahead - keep_bytes)

    def has_room(self, running: int, held_bytes: int, room: Callable[[], None]) -> bool:
        """Whether one more URL may be started; *room* is called when other streams have made a no a yes."""
        raise NotImplementedError

    @property
    def unread_frames(self) -> int:
        """How many are held for the reader that is waited for; of a detached stream, since no reader was sent them."""
        raise NotImplementedError

    def allowance(self) -> tuple[int, int]:
        """How many frames and bytes more the stream may be ahead of that reader."""
        raise NotImplementedError


class Paced(Retention):
    """The stream waits for the reader in the pacer's place."""

    __slots__ = ()

    def _waited_for(self) -> Position:
        holder = self._pacer.holder
        return (1, 0) if holder is None else (holder.next_seq, holder.offset)

    @property
    def _kept_before(self) -> int:
        """How many bytes are kept of the text before that."""
        return min(self._bounds.behind, self.buffers.behind_limit)

    def moved(self) -> None:
        if self._pacer.holder is not None:
            seq, offset = self.kept_from()
            self._journal.trim(seq, offset - self._kept_before)

    def read(self, seq: int, end: int, offset: int) -> None:
        self.moved()

    def has_room(self, running: int, held_bytes: int, room: Callable[[], None]) -> bool:
        holder = self._pacer.holder
        # A place that was left has the room that its holder had; with nobody there nothing is started.
        if holder is None or not self._attached:
            return False
        has_room = holder.has_room(running, held_bytes)
        holder.held_back |= not has_room
        return has_room

    @property
    def unread_frames(self) -> int:
        holder = self._pacer.holder
        return self._journal.last_seq if holder is None else holder.unread_frames

    def allowance(self) -> tuple[int, int]:
        holder = self._pacer.holder
        assert holder is not None
        window = holder.buffer
        return window.capacity_frames - holder.unread_frames, window.capacity_bytes - holder.unread_bytes


class Dropping(Paced):
    """A stuck reader in the place passes results unread (``on_slow: drop``)."""

    __slots__ = ()

    @property
    def _is_vacant(self) -> bool:
        """Whether the place was left, and is not waited for.  After the summary what is unread there is kept."""
        return self._pacer.place is Place.LEFT and not self._journal.sealed

    def _waited_for(self) -> Position:
        if self._is_vacant:
            ring, last = self._journal.ring, self._journal.last_seq
            return last, ring.appended_bytes - (ring.length(last) if ring.first <= last else 0)
        return super()._waited_for()

    @property
    def _kept_before(self) -> int:
        return super()._kept_before + (self._bounds.ahead if self._is_vacant else 0)

    def appended(self, *, result: bool) -> Subscriber | None:
        holder = self._pacer.holder
        if result and self._is_vacant:
            self.moved()
        elif result and holder is not None and holder.would_leave_out():
            return self._relieve(holder)
        return None

    def look_at_lag(self) -> Subscriber | None:
        holder = self._pacer.holder
        if holder is None or self._pacer.place is not Place.HELD:
            return None
        return self._relieve(holder) if holder.sink.paused and holder.unread_bytes > self._bounds.ahead else None

    def _relieve(self, holder: Subscriber) -> Subscriber | None:
        """*holder* lags too far; return it if it is to be cut off."""
        holder.leave_out()
        self.moved()
        return None

    def has_room(self, running: int, held_bytes: int, room: Callable[[], None]) -> bool:
        # No reader is waited for; only results that are held for the input's order are bounded.
        return self._pacer.holder is not None and bool(self._attached) and held_bytes < self._bounds.ahead

    @property
    def unread_frames(self) -> int:
        return 0 if self._is_vacant else super().unread_frames


class CuttingOff(Dropping):
    """A stuck reader in the place is cut off before it would miss a result (``on_slow: disconnect``)."""

    __slots__ = ()

    def _relieve(self, holder: Subscriber) -> Subscriber | None:
        return holder


class Detached(Retention):
    """Nobody has the place; over the bound what some reader was sent goes first."""

    __slots__ = ("_counted_offset", "_sent_before", "_sent_offset")

    full_waits = True

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
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
