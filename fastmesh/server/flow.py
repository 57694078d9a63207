"""The pump: who writes when.

Everybody who has something to write gets a quantum in turn, and the loop gets
its turn after a few of them: a hundred greedy streams share it fairly, and none
holds up a new request for longer than it takes to move TURN_BYTES.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

QUANTUM_BYTES = 16_384
TURN_BYTES = 65_536
# A write costs a system call however small it is: of one frame for thousands of subscribers 256 go out in a turn,
# which takes 1.5 ms.
LEAST_BYTES = 256


class Served(Protocol):
    """Who can be in the pump's queue, once."""

    queued: bool

    def serve(self, max_bytes: int) -> int:
        """Write about *max_bytes*, and queue again if there is more; return what was written.  Does not raise."""
        ...


class Pump:
    """Serves the ready ones round robin, by bytes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ready: deque[Served] = deque()
        self._scheduled = False

    def add(self, served: Served) -> None:
        """*served* has something to write; it is called back, never at once."""
        if served.queued:
            return
        served.queued = True
        self._ready.append(served)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        ready = self._ready
        left = TURN_BYTES
        # Counted, since one that writes nothing costs no bytes but may queue again at once.
        for _ in range(len(ready)):
            served = ready.popleft()
            served.queued = False
            left -= max(served.serve(QUANTUM_BYTES), LEAST_BYTES)
            if left <= 0:
                break
        self._scheduled = bool(ready)
        if ready:
            self._loop.call_soon(self._turn)
