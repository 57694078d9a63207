"""A permit: what the host is told before its slot is given to the next, and that nothing is held in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
import uvloop

from fastmesh.crawl.admission import PageAdmission
from fastmesh.crawl.net.url import parse_url
from fastmesh.crawl.schedule.permit import Permit, is_too_much
from fastmesh.crawl.schedule.politeness import FIRST_STARTS_PER_S
from fastmesh.crawl.schedule.slots import Slots
from fastmesh.errors import ConnectFailed

URL = parse_url("http://page.test/")


@dataclass
class Answer:
    status: int
    retry_after_s: float | None = None


class House:
    """One slot at a host and one of the total, a page that asks for leave, and who waits for the host."""

    def __init__(self, starts_per_s: float = 0.0) -> None:
        self.now = 0.0
        self.slots = Slots(1, 1, starts_per_s, clock=lambda: self.now)
        self.called = 0
        self.admission = PageAdmission(self.slots, self, None, None, "tests")

    async def admitted(self) -> Permit:
        """Leave, with another page in the host's line."""
        permit = await self.admission.admit(URL)

        def called() -> None:
            self.called += 1

        self.slots.wait(URL.host_key, "another", called)
        return permit


def run(test: Callable[[House], Awaitable[None]], starts_per_s: float = 0.0) -> None:
    async def main() -> None:
        house = House(starts_per_s)
        await test(house)
        assert house.slots.in_flight == 0
        house.slots.close()

    uvloop.run(main())


@pytest.mark.parametrize(
    ("answer", "called"),
    [(Answer(200), 1), (Answer(500), 1), (Answer(503), 1), (Answer(429), 0), (Answer(503, 0.0), 0), (Answer(301), 1)],
)
@pytest.mark.parametrize("left", [False, True], ids=["stays", "leaves"])
def test_who_waits_for_the_host_is_called_only_if_it_may_be_asked(answer: Answer, called: int, left: bool) -> None:
    async def test(house: House) -> None:
        permit = await house.admitted()

        async def ask() -> tuple[Answer, None]:
            if left:  # the request goes on for others
                permit.unused()
                house.admission.release()
            assert house.called == 0
            return answer, None

        assert await permit.spend(ask) == (answer, None)
        assert (house.called, house.slots.in_flight) == (called, 0)
        house.now += 1 / FIRST_STARTS_PER_S
        assert house.slots.ready(URL.host_key) is (called == 1)  # else the one in line is before all others

    run(test)


@pytest.mark.parametrize("error", [ConnectFailed("no"), asyncio.CancelledError()])
def test_nothing_is_held_after_a_failure(error: BaseException) -> None:
    async def test(house: House) -> None:
        permit = await house.admitted()

        async def ask() -> tuple[Answer, None]:
            raise error

        with pytest.raises(type(error)):
            await permit.spend(ask)
        permit.unused()
        assert house.called == 1

    run(test)


def test_one_is_spent_once() -> None:
    async def ask() -> tuple[Answer, None]:
        return Answer(200), None

    async def test(house: House) -> None:
        spent, given_back = await house.admitted(), None
        await spent.spend(ask)
        given_back = await house.admission.admit(URL)
        given_back.unused()
        given_back.unused()
        for permit in (spent, given_back):
            with pytest.raises(AssertionError, match="once"):
                await permit.spend(ask)

    run(test)


@pytest.mark.parametrize("asked", [False, True])
def test_nobody_waits_for_a_host_that_was_not_asked(asked: bool) -> None:
    async def ask() -> tuple[Answer, None]:
        return Answer(200), None

    async def test(house: House) -> None:
        house.slots.meet(URL.host_key, None)
        permit = await house.admission.admit(URL)
        if asked:
            await permit.spend(ask)
        else:
            permit.unused()
        assert house.slots.ready(URL.host_key) is not asked

    run(test, starts_per_s=1.0)


def test_who_is_cancelled_while_it_waits_holds_nothing() -> None:
    async def test(house: House) -> None:
        first = await house.admitted()
        # The host's slot is there, and the only one of the total is taken.
        other = PageAdmission(house.slots, "other", None, None, "tests")
        waits = asyncio.create_task(other.admit(parse_url("http://elsewhere.test/")))
        await asyncio.sleep(0)
        assert house.slots.waiting == 2
        waits.cancel()
        await asyncio.wait([waits])
        other.release()
        assert (house.slots.waiting, house.slots.hosts) == (1, 1)
        first.unused()
        assert house.called == 1

    run(test)


def test_only_a_503_with_a_time_asks_for_less() -> None:
    assert [is_too_much(429, None), is_too_much(429, 1.0), is_too_much(503, None), is_too_much(503, 1.0)] == [
        True,
        True,
        False,
        True,
    ]
