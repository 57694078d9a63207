"""Steps: however much is under way, the loop has its turn after one step of it."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from itertools import pairwise

import pytest
import uvloop

from fastmesh.crawl.fairness.steps import Steps


def test_of_all_that_is_under_way_one_step_is_done_in_each_turn_of_the_loop() -> None:
    done: list[int] = []

    def work(number: int) -> Generator[None, None, int]:
        for _ in range(5):
            done.append(number)
            yield
        return number

    async def main() -> None:
        steps = Steps()
        works = [asyncio.create_task(steps.run(work(number))) for number in range(20)]
        await asyncio.sleep(0)  # all have begun
        seen = [len(done)]
        while not all(task.done() for task in works):
            await asyncio.sleep(0)
            seen.append(len(done))
        assert max(after - before for before, after in pairwise(seen)) == 1
        assert [task.result() for task in works] == list(range(20))
        assert done[20:] == list(range(20)) * 4  # each in its turn

    uvloop.run(main())


def test_who_leaves_holds_nobody_up_and_what_is_short_waits_for_nobody() -> None:
    def endless() -> Generator[None, None, None]:
        while True:
            yield

    def short() -> Generator[None, None, str]:
        return "done"
        yield

    async def main() -> None:
        steps = Steps()
        works = [asyncio.create_task(steps.run(endless())) for _ in range(3)]
        await asyncio.sleep(0)
        alone = steps.run(short())
        with pytest.raises(StopIteration, match="done"):
            alone.send(None)
        for task in works:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert await steps.run(short()) == "done"

    uvloop.run(main())
