"""A stream's frames in order: gives each its number, serialises it once, keeps it.

Readers are positions in the journal; what lies behind them is let go.  A frame's
bytes exist once however many read it.
"""

from __future__ import annotations

from collections.abc import Callable

from orjson import dumps

from fastmesh._core import RingBuffer
from fastmesh.events import Event
from fastmesh.streaming.buffer import BufferManager


class Journal:
    """Appends events, hands out batches of frames.  *clock* gives seconds; it stamps each frame's entry."""

    __slots__ = ("_buffers", "_clock", "_sealed", "last_seq", "metadata", "ring")

    def __init__(self, buffers: BufferManager, clock: Callable[[], float]) -> None:
        self.ring = RingBuffer(buffers.total)
        self.last_seq = 0
        self.metadata = b""  # the first frame, which is never evicted
        self._buffers = buffers
        self._clock = clock
        self._sealed: int | None = None  # the last frame, once there is one

    def append(self, event: Event) -> int:
        """Number *event*, encode it, keep it; return its seq."""
        event["seq"] = self.last_seq + 1
        # The number is given once the frame is there: an event that cannot be encoded leaves no hole.
        self.last_seq = seq = self.ring.append(dumps(event), self._clock())
        return seq

    def begin(self, event: Event) -> None:
        """Append the metadata, which is never let go."""
        self.append(event)
        (self.metadata,), _ = self.ring.read(1, 0)

    def seal(self) -> None:
        """No frame follows: the newest is never evicted, so that every reader comes to an end."""
        self._sealed = self.last_seq

    def trim(self, seq: int, offset: int) -> None:
        """Let go of frames before *seq*, oldest first, as long as their text ended before *offset*."""
        if freed := self.ring.trim(seq if self._sealed is None else min(seq, self._sealed), offset):
            self._buffers.release(freed)

    def evict(self, seq: int) -> None:
        """Let go of every frame before *seq*."""
        self._buffers.release(self.ring.evict(seq if self._sealed is None else min(seq, self._sealed)))

    def close(self) -> None:
        """Let go of all, the ring itself included."""
        self._buffers.release(self.ring.allocated)
        self.ring = RingBuffer(self._buffers.total)
