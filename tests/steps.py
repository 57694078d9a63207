"""How much a call does, counted and not timed: the calls that are made within it, Python's and C's."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


class OutOfSteps(Exception):
    """More calls were made than there may be."""


def steps(call: Callable[[], Any], budget: int = 1_000_000) -> int:
    """The calls that *call* makes.  The same on a busy machine; what runs long inside one C function counts as one.

    Raises OutOfSteps over *budget*, so what would go on for ever fails.
    """
    count = 0

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")
        if count > budget:
            sys.setprofile(None)
            raise OutOfSteps(f"over {budget} calls")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(before)
    return count
