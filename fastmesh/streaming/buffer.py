"""How far a stream may run ahead of its reader, and how much all streams hold.

DynamicBuffer is a subscriber's window on the journal: it holds no frame, only
how much room there is.  BufferManager lends the windows and keeps the total.
Both are told facts and own neither task nor clock.
"""

from __future__ import annotations

from collections.abc import Callable

from fastmesh.config import BufferSettings


class DynamicBuffer:
    """A window of so many frames and bytes.

    *capacity_frames* bounds unread frames and running URLs together,
    *capacity_bytes* the unread text.
    """

    __slots__ = ("capacity_bytes", "capacity_frames")

    def __init__(self, capacity_frames: int, capacity_bytes: int) -> None:
        self.capacity_frames = capacity_frames
        self.capacity_bytes = capacity_bytes

    def has_room(self, unread_frames: int, unread_bytes: int, running: int = 0) -> bool:
        """Whether one more URL may be started.  A frame larger than the window passes alone."""
        return unread_frames + running < self.capacity_frames and unread_bytes < self.capacity_bytes


class BufferManager:
    """Lends a window per subscriber and counts what all journals hold, as allocated.

    Over the total no further URL is started and no stream opened (contract
    section 4, *Total*); delivering needs no room, so readers bring it down again.
    """

    def __init__(self, settings: BufferSettings) -> None:
        self._initial_frames = {"ndjson": settings.initial_frames_ndjson}
        self._initial_bytes = settings.initial_bytes
        self.total_bytes = settings.total_bytes
        self.held_bytes = 0
        self._waiting: set[Callable[[], None]] = set()

    def lend(self, protocol: str) -> DynamicBuffer:
        """A fresh window for a subscriber of *protocol*."""
        return DynamicBuffer(self._initial_frames[protocol], self._initial_bytes)

    def hold(self, count: int) -> None:
        """A journal took *count* bytes more."""
        self.held_bytes += count

    def release(self, count: int) -> None:
        """A journal gave *count* bytes back; whoever waits for the total is told when there is room."""
        self.held_bytes -= count
        if self._waiting and self.has_room:
            waiting, self._waiting = self._waiting, set()
            for wake in waiting:
                wake()

    @property
    def has_room(self) -> bool:
        """Whether the journals together are below the total."""
        return self.held_bytes < self.total_bytes

    def wait(self, wake: Callable[[], None]) -> None:
        """Call *wake* once, when there is room again."""
        self._waiting.add(wake)

    def forget(self, wake: Callable[[], None]) -> None:
        """*wake* no longer waits."""
        self._waiting.discard(wake)
