"""Whom a stream waits for: what of its text it keeps for that reader, and how far it may run ahead, by its mode.

    Paced              waits for the reader in the pacer's place, or for the place where that reader left it
    Dropping           waits for nobody: a stuck reader in the place passes results, and a vacant place keeps little
    CuttingOff         waits for nobody: a stuck reader in the place is cut off
    Detached           waits until its frames were sent to some reader, and keeps so much in all (detached.py)
    DetachedDropping   waits for nobody, and keeps so much in all

One rule for all of them: all is kept from `kept_from()` on, so much of the text before that, and the rest goes with
`moved()`.  The stream calls that whenever a position has moved, whatever moved it: a reader that read, passed
frames, came or left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastmesh._core import Journal
from fastmesh.streaming.memory import BufferManager
from fastmesh.streaming.opening import JournalBounds
from fastmesh.streaming.pacer import PacerPlace, Place
from fastmesh.streaming.subscriber import Subscriber

Position = tuple[int, int]  # a frame's number, and how much text was ever appended before it


class Retention:
    """What the modes share."""

    __slots__ = ("_attached", "_bounds", "_closed", "_journal", "_pacer", "buffers")

    full_waits = False  # the state is `waiting` when there is no room

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
        if self._closed:
            # No reader is waited for any more, but each that is attached has still to read what it has not.
            end = self._journal.last_seq + 1, self._journal.ring.appended_bytes
            return min(((reader.next_seq, reader.offset) for reader in self._attached), default=end)
        return self._waited_for()

    def _waited_for(self) -> Position:
        """The first frame that some reader is waited for to read."""
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
    def read_to_end(self) -> bool:
        """Whether some reader is known to have been sent all frames."""
        return False

    @property
    def unsent_bytes(self) -> int:
        """Text that is kept since no reader was sent it."""
        return 0

    # ── when memory is short ─────────────────────────────────────────────────────────────

    @property
    def behind_bytes(self) -> int:
        """Text that is kept only for those who come back."""
        return max(0, self.kept_from()[1] - self._journal.ring.evicted_bytes)

    def let_go_behind(self, keep_bytes: int) -> None:
        """Keep *keep_bytes* of that."""
        seq, offset = self.kept_from()
        self._journal.trim(seq, offset - keep_bytes)

    @property
    def beyond_window_bytes(self) -> int:
        """Of the text, what is more than a window may hold."""
        ring = self._journal.ring
        return ring.appended_bytes - ring.evicted_bytes - self._bounds.ahead

    def let_go_beyond_window(self, keep_bytes: int) -> None:
        """Keep *keep_bytes* of that, whoever has still to read it."""
        journal = self._journal
        journal.trim(journal.last_seq, journal.ring.appended_bytes - self._bounds.ahead - keep_bytes)

    # ── how far the stream may run ahead ─────────────────────────────────────────────────

    def has_room(self, running: int, held_bytes: int, room: Callable[[], None]) -> bool:
        """Whether one more URL may be started while *running* are under way or held back, with *held_bytes*.

        *room* is called when other streams have made a no a yes.
        """
        raise NotImplementedError

    @property
    def unread_frames(self) -> int:
        """What is held for the reader that is waited for."""
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
        # No reader is waited for, but what is held back waits for its turn.
        return self._pacer.holder is not None and bool(self._attached) and held_bytes < self._bounds.ahead

    @property
    def unread_frames(self) -> int:
        return 0 if self._is_vacant else super().unread_frames


class CuttingOff(Dropping):
    """A stuck reader in the place is cut off before it would miss a result (``on_slow: disconnect``)."""

    __slots__ = ()

    def _relieve(self, holder: Subscriber) -> Subscriber | None:
        return holder
