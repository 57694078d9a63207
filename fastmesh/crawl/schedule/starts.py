"""How many URLs begin in one turn of the loop, of all streams together.

What a URL does first takes some tenths of a millisecond, and the answers to requests that were sent together come
together: a stream of 256 URLs would hold the loop for 50 to 100 ms, again and again.  So a few begin in a turn, and the
streams that have more to begin stand in a line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from fastmesh.telemetry.bugs import Bugs

STARTS_A_TURN: Final = 8

Wake = Callable[[], None]


class Starts:
    """Ask ``may`` and then ``count``, both in one go; after a no, *wake* is called when it is that stream's turn."""

    __slots__ = ("_a_turn", "_bugs", "_left", "_line")

    def __init__(self, bugs: Bugs, a_turn: int = STARTS_A_TURN) -> None:
        self._bugs = bugs
        self._a_turn = self._left = a_turn
        self._line: dict[Wake, None] = {}

    def may(self, wake: Wake) -> bool:
        """Whether one more URL may begin in this turn."""
        if self._left:
            return True
        self._line[wake] = None
        return False

    def count(self) -> None:
        """One begins."""
        if self._left == self._a_turn:
            asyncio.get_running_loop().call_soon(self._turn_over)
        self._left -= 1

    def _turn_over(self) -> None:
        """The streams that waited go on, the longest waiting first, until as many URLs as may have begun."""
        self._left = self._a_turn
        while self._left and self._line:
            wake = next(iter(self._line))
            del self._line[wake]
            self._bugs.survive("starts", wake)
