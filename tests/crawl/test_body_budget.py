"""BodyBudget: who waits for whose room, and that somebody may always go on."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace

import pytest
from aiohttp import StreamReader
from aiohttp.client_proto import ResponseHandler
from doubles import turned
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from fastmesh.crawl.fairness.steps import Aside
from fastmesh.crawl.fetch.body import read_body
from fastmesh.crawl.fetch.body_budget import MAX_READ_BYTES, READ_BYTES, SMALL_BYTES, STALL_S, BodyBudget, BodyShare
from fastmesh.crawl.fetch.deadline import Deadline

TURNS = 10


async def turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


def test_over_the_total_only_one_goes_on() -> None:
    async def test() -> None:
        budget = BodyBudget(100, 10_000)
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
        budget = BodyBudget(100, 10_000)
        drips, *others = (budget.open() for _ in range(3))
        for share in (drips, *others):
            share.add(40)
        await drips.room()
        drips.listens = True
        waits = [asyncio.ensure_future(share.room()) for share in others]
        await waits[0]
        assert loop.time() == STALL_S
        drips.listens = False
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
        budget = BodyBudget(100, 10_000)
        shares = [budget.open() for _ in range(4)]
        shares[0].add(100)
        await shares[0].room()
        waits = [asyncio.ensure_future(share.room()) for share in shares[1:]]
        await turns()
        assert not any(wait.done() for wait in waits)
        waits[0].cancel()
        shares[0].give_back()
        # The room is that of one read: another goes on when the first brings nothing for a while.
        await asyncio.wait_for(asyncio.gather(*waits[1:]), len(waits) * STALL_S)
        assert budget.waiting == 0

    turned(test())


def test_of_bodies_that_stall_past_the_total_one_after_the_other_is_given_up() -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        budget = BodyBudget(1000, 300)
        most = 0

        async def read() -> str:
            deadline = Deadline(1000.0)
            share = budget.open(deadline)
            try:
                async with deadline:
                    for _ in range(3):
                        await share.room()
                        share.add(100)
                        nonlocal most
                        most = max(most, budget.used_bytes)
                    share.listens = True
                    await asyncio.Event().wait()
            except TimeoutError:
                return "given up" if share.given_up else "too late"
            finally:
                share.give_back()
            return "whole"

        ends = Counter(await asyncio.gather(*(read() for _ in range(20))))
        assert ends.keys() == {"given up", "too late"}
        assert ends["given up"] >= 14  # all but those who hold nothing past the total, or whom nobody waits for
        assert loop.time() < 1100
        assert most <= 1000 + 300 + 100
        assert (budget.used_bytes, budget.waiting) == (0, 0)

    turned(test())


def test_when_all_that_went_on_past_the_total_wait_for_each_other_one_goes_on() -> None:
    async def test() -> None:
        budget = BodyBudget(1000, 300)
        kept, first, second = (budget.open() for _ in range(3))
        kept.add(1000)
        await first.room()
        first.add(200)
        first.listens = True
        wait = asyncio.ensure_future(second.room())
        await wait  # the first brings nothing for a while
        second.add(150)
        first.listens = False  # something has come, and is counted
        first.add(50)
        waits = [asyncio.ensure_future(share.room()) for share in (second, first)]
        await turns()
        assert not any(wait.done() for wait in waits)
        await asyncio.wait_for(waits[0], STALL_S)
        second.add(100)
        assert (second.has_room, waits[1].done()) == (True, False)
        second.whole()
        second.give_back()
        await asyncio.wait_for(waits[1], STALL_S)
        first.give_back()
        kept.give_back()
        assert (budget.used_bytes, budget.waiting) == (0, 0)

    turned(test())


def test_the_time_of_a_body_stands_still_while_it_waits_for_room() -> None:
    async def test() -> None:
        budget = BodyBudget(100, 100)
        deadline = Deadline(10.0)
        async with deadline:
            other, share = budget.open(), budget.open(deadline)
            other.add(100)
            await other.room()
            share.add(1)
            waits = asyncio.ensure_future(share.room())
            await asyncio.sleep(8)
            other.give_back()
            await waits
            await asyncio.sleep(7)
            share.give_back()
        assert (asyncio.get_running_loop().time(), deadline.left_s) == (15.0, 3.0)

    turned(test())


def test_whole_bodies_that_wait_for_a_worker_are_no_reason_to_pass_the_total_again_and_again() -> None:
    async def test() -> None:
        budget = BodyBudget(1000, 300)
        bodies = [budget.open() for _ in range(20)]
        reading = {share: asyncio.ensure_future(_grown(share, 100, times=3)) for share in bodies}
        while reading:
            await asyncio.sleep(STALL_S)
            assert budget.used_bytes <= 1300 + 100 * len(reading)
            extracted = next(share for share, read in reading.items() if read.done())
            extracted.give_back()
            del reading[extracted]
        assert (budget.used_bytes, budget.waiting) == (0, 0)

    turned(test())


def test_room_lets_so_many_go_on_at_once_as_it_holds_reads_of() -> None:
    async def test() -> None:
        budget = BodyBudget(10 * MAX_READ_BYTES, MAX_READ_BYTES)
        held, passing, *others = (budget.open() for _ in range(22))
        held.add(10 * MAX_READ_BYTES)
        await passing.room()
        waits = [asyncio.ensure_future(share.room()) for share in others]
        await turns()
        held.give_back()
        await turns()
        assert sum(wait.done() for wait in waits) == 11
        await asyncio.sleep(STALL_S)
        assert all(wait.done() for wait in waits)  # the first brought nothing

    turned(test())


def test_an_eighth_is_kept_for_small_bodies() -> None:
    async def test() -> None:
        budget = BodyBudget(200 * SMALL_BYTES, 100)
        large, larger, small = (budget.open() for _ in range(3))
        large.add(170 * SMALL_BYTES)
        await large.room()
        larger.add(2 * SMALL_BYTES)
        waits = asyncio.ensure_future(larger.room())
        for _ in range(64):
            small.add(SMALL_BYTES // 64)
            await small.room()
        await turns()
        assert not waits.done()
        large.give_back()
        await waits

    turned(test())


async def _grown(share: BodyShare, size: int, *, times: int) -> None:
    for _ in range(times):
        share.add(size)
        await share.room()
    share.whole()


@given(st.lists(st.lists(st.integers(0, 300), max_size=6), min_size=1, max_size=12), st.integers(1, 400))
def test_all_bodies_come_to_their_end_whatever_their_sizes(bodies: list[list[int]], total: int) -> None:
    async def test() -> None:
        largest = max(map(sum, bodies))
        budget = BodyBudget(total, largest)
        most_over = largest + sum(max(body, default=0) for body in bodies)

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


def test_a_body_that_is_not_small_counts_what_its_next_read_may_bring_until_it_is_whole() -> None:
    async def test() -> None:
        budget = BodyBudget(10_000_000, 1_000_000)
        share = budget.open()
        share.add(SMALL_BYTES)
        assert budget.used_bytes == SMALL_BYTES
        share.add(1)
        assert budget.used_bytes == SMALL_BYTES + 1 + MAX_READ_BYTES
        share.add(400_000)
        assert budget.used_bytes == SMALL_BYTES + 400_001 + MAX_READ_BYTES
        share.whole()
        assert budget.used_bytes == share.bytes == SMALL_BYTES + 400_001
        share.whole()
        share.give_back()
        assert budget.used_bytes == 0

    turned(test())


def test_a_body_that_waits_for_room_when_its_connection_is_gone_is_read_to_where_it_broke() -> None:
    async def test() -> None:
        gone = ResponseHandler(asyncio.get_running_loop())  # as aiohttp leaves it when the connection is lost
        content = StreamReader(gone, READ_BYTES, loop=asyncio.get_running_loop())
        response = SimpleNamespace(
            content=content, connection=SimpleNamespace(protocol=gone), headers=CIMultiDict(), content_length=None
        )
        budget, aside = BodyBudget(1000, 300), Aside("tests")
        passing, share = budget.open(), budget.open()
        passing.add(1000)
        await passing.room()
        content.feed_data(b"half of it")
        reading = asyncio.ensure_future(read_body(response, 1000, share, aside))  # type: ignore[arg-type]
        await turns()
        assert (budget.waiting, reading.done()) == (1, False)
        content.set_exception(ConnectionResetError())
        passing.give_back()
        with pytest.raises(ConnectionResetError):
            await reading
        share.give_back()
        assert (budget.used_bytes, budget.waiting) == (0, 0)

    turned(test())
