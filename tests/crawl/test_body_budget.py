"""BodyBudget: who waits for whose room, and that somebody may always go on."""

from __future__ import annotations

import asyncio

from doubles import turned
from hypothesis import given
from hypothesis import strategies as st

from fastmesh.crawl.body_budget import STALL_S, BodyBudget, BodyShare

TURNS = 10


async def turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


def test_over_the_total_only_one_goes_on() -> None:
    async def test() -> None:
        budget = BodyBudget(100)
        first, second = budget.open(), budget.open()
        first.add(150)
        await first.room()
        second.add(10)
        waits = asyncio.ensure_future(second.room())
        await turns()
        first.add(500)
        await first.room()
        assert (waits.done(), budget.used_bytes, budget.waiting) == (False, 660, 1)
        first.whole()  # it is in memory still, but it will not grow
        await turns()
        assert waits.done()
        second.give_back()
        first.give_back()
        assert (budget.used_bytes, budget.waiting) == (0, 0)

    turned(test())


def test_one_that_may_go_on_and_does_not_lets_the_next_try_and_waits_behind_it() -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        budget = BodyBudget(100)
        drips, *others = (budget.open() for _ in range(3))
        for share in (drips, *others):
            share.add(40)
        await drips.room()
        waits = [asyncio.ensure_future(share.room()) for share in others]
        await waits[0]
        assert loop.time() == STALL_S
        drips.add(1)
        again = asyncio.ensure_future(drips.room())
        await turns()
        for share, done in zip(others, waits, strict=True):
            await done
            share.add(1000)
            await share.room()
            share.whole()
        await again
        assert loop.time() == STALL_S
        for share in (drips, *others):
            share.give_back()
        assert (budget.used_bytes, budget.waiting) == (0, 0)

    turned(test())


def test_room_that_is_given_back_wakes_those_that_wait() -> None:
    async def test() -> None:
        budget = BodyBudget(100)
        shares = [budget.open() for _ in range(4)]
        shares[0].add(100)
        await shares[0].room()
        waits = [asyncio.ensure_future(share.room()) for share in shares[1:]]
        await turns()
        assert not any(wait.done() for wait in waits)
        waits[0].cancel()
        shares[0].add(-1)  # as much as makes room
        await asyncio.wait_for(asyncio.gather(*waits[1:]), 1)
        assert budget.waiting == 0

    turned(test())


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
                await asyncio.sleep(0)  # the next read
            share.whole()
            await asyncio.sleep(0)  # its extraction
            share.give_back()

        await asyncio.wait_for(asyncio.gather(*(read(budget.open(), body) for body in bodies)), 10)
        assert (budget.used_bytes, budget.waiting) == (0, 0)

    turned(test())
