"""How far a stream may run ahead of one reader: a window on the journal, which adapts.  It holds no frame, only how
much room there is.  It is given facts and has no clock."""

from __future__ import annotations

import math
from dataclasses import dataclass

GROWTH, SHRINKAGE = 1.5, 0.75


@dataclass(frozen=True, slots=True)
class WindowBounds:
    """Between which a window adapts."""

    min_frames: int
    max_frames: int
    min_bytes: int
    max_bytes: int


class DynamicBuffer:
    """A window of so many frames and bytes, which adapts to its reader (docs/protocol.md, *Who waits for whom*).

    *capacity_frames* bounds unread frames and running URLs together,
    *capacity_bytes* the unread text; both move together.
    """

    __slots__ = ("_bounds", "capacity_bytes", "capacity_frames")

    def __init__(self, capacity_frames: int, capacity_bytes: int, bounds: WindowBounds) -> None:
        self.capacity_frames = capacity_frames
        self.capacity_bytes = capacity_bytes
        self._bounds = bounds

    def has_room(self, unread_frames: int, unread_bytes: int, running: int = 0) -> bool:
        """Whether one more URL may be started.  A frame larger than the window passes alone."""
        return unread_frames + running < self.capacity_frames and unread_bytes < self.capacity_bytes

    def grow(self) -> bool:
        """Its reader reads all and could read more: return whether the window is larger now."""
        bounds = self._bounds
        return self._set(
            min(bounds.max_frames, math.ceil(self.capacity_frames * GROWTH)),
            min(bounds.max_bytes, math.ceil(self.capacity_bytes * GROWTH)),
        )

    def shrink(self) -> bool:
        """Its reader is slow: return whether the window is smaller now."""
        bounds = self._bounds
        return self._set(
            max(bounds.min_frames, int(self.capacity_frames * SHRINKAGE)),
            max(bounds.min_bytes, int(self.capacity_bytes * SHRINKAGE)),
        )

    def _set(self, frames: int, octets: int) -> bool:
        changed = (frames, octets) != (self.capacity_frames, self.capacity_bytes)
        self.capacity_frames, self.capacity_bytes = frames, octets
        return changed
