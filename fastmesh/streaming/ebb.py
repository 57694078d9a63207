"""Ebb: says when so much less is held than was that the allocator should give memory back to the system."""

from __future__ import annotations

from typing import Final

LEAST_BYTES: Final = 1 << 24  # it is asked for no less: that holds the loop, 6 ms for 75 MiB


class Ebb:
    """Told now and then how much is held; it has no clock and gives nothing back itself."""

    def __init__(self) -> None:
        self._most = 0  # that was held since memory was given back, as of each look

    def told(self, held: int) -> bool:
        """Whether less than half of what was held is left."""
        self._most = max(self._most, held)
        if self._most - held < max(held, LEAST_BYTES):
            return False
        self._most = held
        return True
