"""How much new readers are written in the turn of the loop in which they come, all of them together.

Each has its first frame at once.  When thousands come back in one moment, each to a megabyte that is kept for it, the
first of them are written a quantum each; the others are written one frame, and the rest when it is their turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

QUANTUM_BYTES: Final = 16_384
TURN_BYTES: Final = 65_536
ONE_FRAME: Final = 1


class FirstBytes:
    """Shares out the bytes of a turn; *call_soon* calls back in the next."""

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._call_soon = call_soon
        self._left = TURN_BYTES

    def share(self) -> int:
        """How much the next reader may be written at once."""
        left = self._left
        if left <= 0:
            return ONE_FRAME
        if left == TURN_BYTES:
            self._call_soon(self._turn_over)
        self._left = left - QUANTUM_BYTES
        return QUANTUM_BYTES

    def _turn_over(self) -> None:
        self._left = TURN_BYTES
