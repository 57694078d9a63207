"""BodyBudget: who waits for whose room, and that somebody may always go on."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from fastmesh.crawl.body_budget import BodyBudget, BodyShare

TURNS = 10


async def turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


def test_over_the_total_only_the_one_that_began_first_goes_on() -> None:
    async def test() -> None:
        budget = BodyBudget(100)
        first, second = budget.open(), budget.open()
        second.add(150)
        waits = asyncio.ensure_future(second.room())
        await asyncio.wait_for(first.room(), 1)
        first.add(500)
        await asyncio.wait_for(first.room(), 1)
        await turns()
        assert (waits.done(), budget.used_bytes, budget.waiting) == (False, 650, 1)
        first.whole()  # it is in memory still, but the second is the first of those that are read
        await waits
        second.give_back()
        first.give_back()
        first.give_back()
        assert (budget.used_bytes, budget.waiting) == (0, 0)

    asyncio.run(test())


def test_room_that_is_given_back_wakes_those_that_wait() -> None:
    async def test() -> None:
        budget = BodyBudget(100)
        shares = [budget.open() for _ in range(4)]
        shares[0].add(100)
        waits = [asyncio.ensure_future(share.room()) for share in shares[1:]]
        await turns()
        assert not any(wait.done() for wait in waits)
        waits[0].cancel()
        shares[0].add(-1)  # as much as makes room
        await asyncio.wait_for(asyncio.gather(*waits[1:]), 1)
        assert budget.waiting == 0

    asyncio.run(test())


@given(st.lists(st.lists(st.integers(0, 300), max_size=6), min_size=1, max_size=12), st.integers(1, 400))
def test_all_bodies_come_to_their_end_whatever_their_sizes(bodies: list[list[int]], total: int) -> None:
    async def test() -> None:
        budget = BodyBudget(total)
        most_over = max(map(sum, bodies)) + sum(max(body, default=0) for body in bodies)

        async def read(share: BodyShare, pieces: list[int]) -> None:
            for piece in pieces:
                share.add(piece)
                assert budget.used_bytes <= total + most_over
                await share.room()
            share.whole()
            await asyncio.sleep(0)  # its extraction
            share.give_back()

        await asyncio.wait_for(asyncio.gather(*(read(budget.open(), body) for body in bodies)), 10)
        assert (budget.used_bytes, budget.waiting) == (0, 0)

    asyncio.run(test())
