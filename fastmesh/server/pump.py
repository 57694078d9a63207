"""How the loop's time is shared out: the numbers of the pump, which is in C (cext/pump.pyx).

A hundred greedy streams share the loop fairly, and none holds up a new request
for longer than it takes to move TURN_BYTES.
"""

from __future__ import annotations

import asyncio

from fastmesh._core import Pump

QUANTUM_BYTES = 16_384
TURN_BYTES = 65_536
# A write costs a system call however small it is: of one frame for thousands of subscribers 256 go out in a turn,
# which takes 1.5 ms.
LEAST_BYTES = 256


def make_pump(loop: asyncio.AbstractEventLoop) -> Pump:
    """The pump of a daemon's loop."""
    return Pump(loop.call_soon, quantum_bytes=QUANTUM_BYTES, turn_bytes=TURN_BYTES, least_bytes=LEAST_BYTES)
