"""Long work on the loop, cut into steps: of all that is under way one step in each of the loop's turns.

What is read from outside may take long whatever is done about it.  Driven each by itself, two hundred such works
would leave the loop its turn after each step, and still take two hundred steps in each turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")


class Steps:
    """The line of all that has another step to do; what is done in one step never waits in it."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def run(self, work: Generator[None, None, T]) -> T:
        """The value of *work*."""
        while True:
            try:
                next(work)
            except StopIteration as end:
                value: T = end.value
                return value
            async with self._turn:
                await asyncio.sleep(0)
