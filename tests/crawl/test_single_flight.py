"""Work that several wait for: done once, theirs together, nobody's to end but the last one's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from fastmesh.crawl.single_flight import SingleFlight


class Work:
    """Ends when it is told."""

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = 0
        self.end = asyncio.Event()

    async def __call__(self) -> str:
        self.begun += 1
        try:
            await self.end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return f"work {self.begun}"


def run(test: Callable[[SingleFlight[str], Work], Awaitable[None]]) -> None:
    async def main() -> None:
        flights: SingleFlight[str] = SingleFlight()
        await test(flights, Work())
        await flights.close()
        assert len(flights._tasks) == 0

    asyncio.run(main())


async def turns(n: int = 5) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


def test_all_who_come_while_it_runs_share_it() -> None:
    async def test(flights: SingleFlight[str], work: Work) -> None:
        first = [asyncio.create_task(flights.join("k", work)) for _ in range(3)]
        await turns()
        later = asyncio.create_task(flights.join("k", work))
        other = asyncio.create_task(flights.join("another", work))
        await turns()
        assert (work.begun, len(flights._tasks)) == (2, 2)
        work.end.set()
        assert await asyncio.gather(*first, later, other) == ["work 2"] * 5
        assert await flights.join("k", work) == "work 3"

    run(test)


def test_one_who_leaves_ends_nothing_and_the_last_one_does() -> None:
    async def test(flights: SingleFlight[str], work: Work) -> None:
        waiting = [asyncio.create_task(flights.join("k", work)) for _ in range(3)]
        await turns()
        for left in (waiting[0], waiting[2]):
            left.cancel()
            await turns()
            assert (left.cancelled(), work.cancelled) == (True, 0)
        waiting[1].cancel()
        await turns()
        assert (work.cancelled, len(flights._tasks), flights.get("k")) == (1, 0, None)

    run(test)


def test_who_comes_after_the_last_one_left_begins_anew() -> None:
    async def test(flights: SingleFlight[str], work: Work) -> None:
        left = asyncio.create_task(flights.join("k", work))
        await turns()
        left.cancel()
        # It leaves in the next turn; in the same one its work is cancelled but has not ended yet.
        await asyncio.wait([left])
        comes = asyncio.create_task(flights.join("k", work))
        await turns()
        work.end.set()
        assert (await comes, work.cancelled) == ("work 2", 1)

    run(test)


def test_all_are_told_why_it_failed() -> None:
    async def fails() -> str:
        await asyncio.sleep(0)
        raise ValueError("no")

    async def test(flights: SingleFlight[str], _: Work) -> None:
        results = await asyncio.gather(*(flights.join("k", fails) for _ in range(3)), return_exceptions=True)
        assert [str(result) for result in results] == ["no"] * 3

    run(test)


def test_what_nobody_waits_for_any_more_complains_to_nobody() -> None:
    async def fails() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("too late")

    complaints: list[object] = []

    async def test(flights: SingleFlight[str], _: Work) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        waits = asyncio.create_task(flights.join("k", fails))
        await turns()
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits
        await turns()

    run(test)
    assert complaints == []


def test_closing_ends_all_of_it() -> None:
    async def test(flights: SingleFlight[str], work: Work) -> None:
        waiting = [asyncio.create_task(flights.join(key, work)) for key in "ab"]
        await turns()
        await flights.close()
        assert work.cancelled == 2
        assert [type(r) for r in await asyncio.gather(*waiting, return_exceptions=True)] == [asyncio.CancelledError] * 2

    run(test)
