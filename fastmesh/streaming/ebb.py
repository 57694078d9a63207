"""Ebb: when so much less memory is held than before that the allocator should give some back to the system."""

from __future__ import annotations

from typing import Final

LEAST_BYTES: Final = 1 << 24  # for fewer it is not worth it: the loop stands still, 6 ms for 75 MiB


class Ebb:
    """Looks at how much is held; it has no clock and gives nothing back itself."""

    def __init__(self) -> None:
        self._most = 0  # as of each look

    def has_set_in(self, held: int) -> bool:
        """Whether *held* bytes are less than half of the most that were held since memory was given back."""
        self._most = max(self._most, held)
        if self._most - held < max(held, LEAST_BYTES):
            return False
        self._most = held
        return True
