"""A visit: what the host is told before its turn is given to the next, and that nothing is held in the end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
import uvloop

from fastmesh.crawl.admission import Errand
from fastmesh.crawl.net.url import parse_url
from fastmesh.crawl.schedule.politeness import FIRST_STARTS_PER_S
from fastmesh.crawl.schedule.slots import Slots
from fastmesh.crawl.schedule.visit import is_too_much, visited
from fastmesh.errors import ConnectFailed

URL = parse_url("http://page.test/")


@dataclass
class Answer:
    status: int
    retry_after_s: float | None = None


class House:
    """Slots, one at a host and one of the total, and who waits for them."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slots = Slots(1, 1, clock=lambda: self.now)
        self.called = 0

    def errand(self) -> Errand:
        return Errand(self.slots, self, None, None, "tests")

    def wait(self) -> None:
        def called() -> None:
            self.called += 1

        self.slots.wait(URL.host_key, "another", called)


@pytest.mark.parametrize(
    ("answer", "called"),
    [(Answer(200), 1), (Answer(500), 1), (Answer(503), 1), (Answer(429), 0), (Answer(503, 0.0), 0), (Answer(301), 1)],
)
@pytest.mark.parametrize("left", [False, True], ids=["stays", "leaves"])
def test_who_waits_for_the_turn_gets_it_only_if_the_host_may_be_asked(answer: Answer, called: int, left: bool) -> None:
    async def main() -> None:
        house = House()
        errand = house.errand()
        await errand.enter(URL)
        house.wait()

        async def ask() -> tuple[Answer, None]:
            if left:  # the fetch goes on for others
                errand.leave()
            assert house.called == 0
            return answer, None

        assert await visited(errand, ask) == (answer, None)
        assert (house.called, house.slots.in_flight) == (called, 0)
        house.now += 1 / FIRST_STARTS_PER_S
        assert house.slots.ready(URL.host_key) is (called == 1)  # the other's turn is before all in the line
        house.slots.close()

    uvloop.run(main())


@pytest.mark.parametrize("error", [ConnectFailed("no"), asyncio.CancelledError()])
def test_nothing_is_held_after_a_failure(error: BaseException) -> None:
    async def main() -> None:
        house = House()
        errand = house.errand()
        await errand.enter(URL)
        house.wait()

        async def ask() -> tuple[Answer, None]:
            raise error

        with pytest.raises(type(error)):
            await visited(errand, ask)
        errand.leave()
        assert (house.called, house.slots.in_flight) == (1, 0)
        house.slots.close()

    uvloop.run(main())


def test_who_needs_nothing_asks_nobody() -> None:
    async def main() -> None:
        house = House()
        errand = house.errand()
        await errand.enter(URL)
        house.wait()
        errand.skip()
        assert (house.called, house.slots.in_flight) == (1, 0)
        house.slots.close()

    uvloop.run(main())


def test_only_a_503_with_a_time_asks_for_less() -> None:
    assert [is_too_much(429, None), is_too_much(429, 1.0), is_too_much(503, None), is_too_much(503, 1.0)] == [
        True,
        True,
        False,
        True,
    ]
