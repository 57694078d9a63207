"""Fetch slots: the limits hold, the order is kept, and a cancelled URL leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections import Counter

import uvloop
from hypothesis import given
from hypothesis import strategies as st

from fastmesh.crawl.slots import FetchSlots


class Holder:
    """One URL that takes a slot and keeps it until it is told to finish."""

    def __init__(self, slots: FetchSlots, host: str, order: list[str], name: str = "") -> None:
        self.host = host
        self.done = asyncio.Event()
        self.task = asyncio.create_task(self._hold(slots, order, name or host))

    async def _hold(self, slots: FetchSlots, order: list[str], name: str) -> None:
        async with slots.take(self.host):
            order.append(name)
            await self.done.wait()

    async def finish(self) -> None:
        self.done.set()
        await self.task
        await settle()


async def settle() -> None:
    """Let everybody who can go on go on: a grant takes a few turns of the loop, never a clock."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_host_has_no_more_than_its_turns_and_others_pass_it():
    async def main() -> None:
        slots, order = FetchSlots(total=3, per_host=1), []
        first = Holder(slots, "slow", order, "slow 1")
        second = Holder(slots, "slow", order, "slow 2")
        others = [Holder(slots, f"host {n}", order) for n in range(2)]
        await settle()
        # The second URL of the slow host waits and holds no slot of the three.
        assert (order, slots.in_flight, slots.waiting) == (["slow 1", "host 0", "host 1"], 3, 1)
        await first.finish()
        assert (order[3:], slots.in_flight, slots.waiting) == (["slow 2"], 3, 0)
        for holder in (second, *others):
            await holder.finish()
        assert (slots.in_flight, slots.waiting, slots.hosts) == (0, 0, 0)

    uvloop.run(main())


def test_slots_are_given_in_the_order_they_were_asked_for():
    async def main() -> None:
        slots, order = FetchSlots(total=1, per_host=8), []
        holders = [Holder(slots, f"host {n}", order) for n in range(5)]
        await settle()
        for holder in holders:
            await holder.finish()
        assert order == [f"host {n}" for n in range(5)]

    uvloop.run(main())


def test_a_slot_comes_back_when_its_fetch_fails():
    async def main() -> None:
        slots = FetchSlots(total=1, per_host=1)
        for _ in range(3):
            try:
                async with slots.take("host"):
                    raise OSError
            except OSError:
                pass
        assert (slots.in_flight, slots.waiting, slots.hosts) == (0, 0, 0)

    uvloop.run(main())


actions = st.lists(st.tuples(st.sampled_from(["take", "finish", "cancel"]), st.integers(0, 9)), max_size=60)


@given(actions, st.integers(1, 4), st.integers(1, 3))
def test_whatever_happens_the_limits_hold_and_no_slot_is_lost(script: list[tuple[str, int]], total: int, per_host: int):
    async def main() -> None:
        slots, order = FetchSlots(total, per_host), []
        holders: list[Holder] = []
        for action, number in script:
            if action == "take":
                holders.append(Holder(slots, f"host {number % 3}", order))
            elif holders:
                holder = holders[number % len(holders)]
                if action == "cancel":
                    holder.task.cancel()
                else:
                    holder.done.set()
            # Sometimes right after a grant, sometimes before anybody saw it.
            for _ in range(number % 4):
                await asyncio.sleep(0)
            assert slots.in_flight <= total
        await settle()
        live = Counter(holder.host for holder in holders if not holder.task.done())
        assert slots.in_flight + slots.waiting == live.total()
        assert slots.in_flight == min(total, sum(min(per_host, count) for count in live.values()))
        assert slots.hosts == len(live)
        for holder in holders:
            holder.task.cancel()
        await asyncio.gather(*(holder.task for holder in holders), return_exceptions=True)
        assert (slots.in_flight, slots.waiting, slots.hosts) == (0, 0, 0)

    uvloop.run(main())
