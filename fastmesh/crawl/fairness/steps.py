"""Long work that could hold the loop: cut into steps on it, or done beside it in a thread.

What is read from outside may take long whatever is done about it.  Driven each by itself, two hundred such works would
leave the loop its turn after each step, and still take two hundred steps in each turn.  A step in the thread should
leave the interpreter to the loop for nearly all of its time, as what decompresses does in its C.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from fastmesh.crawl.fairness.line import Line

T = TypeVar("T")


class Steps:
    """Of all that is under way one step in each of the loop's turns; what is done in one step never waits."""

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


class Aside:
    """One thread, begun with its first step: one at a time, and clients take turns.  Made for one loop, and closed."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, name)
        self._line: Line[asyncio.Future[None]] = Line()
        self._busy = False

    async def do(self, step: Callable[[], T], client: Hashable) -> T:
        """What *step* returns or raises, when it was *client*'s turn.  Cancelled while it runs, it ends for nobody."""
        await self._turn(client)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, step)
        finally:
            self._pass_on()

    async def close(self) -> None:
        """End the thread after the step that it is at."""
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)

    async def _turn(self, client: Hashable) -> None:
        if not self._busy:
            self._busy = True
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.join(client, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not self._line.leave(client, turn):
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        turn = self._line.next()
        if turn is None:
            self._busy = False
        elif turn.cancelled():  # and has not left yet
            self._pass_on()
        else:
            turn.set_result(None)
