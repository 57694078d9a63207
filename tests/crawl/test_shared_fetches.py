"""Who shares a fetch of a page: joins late, leaves, has less time, is the last to wait; and whose time it takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import pytest
import uvloop
from doubles import turned
from origins import Origin, Request, Reset, Route, head
from pages import Page, no_answers

from fastmesh.config import FetchSettings
from fastmesh.crawl.admission import PageAdmission
from fastmesh.crawl.cache.store import Answer
from fastmesh.crawl.fetch.fetcher import Fetcher
from fastmesh.crawl.fetch.page_source import PageRequest
from fastmesh.crawl.net.guard import AddressGuard
from fastmesh.crawl.net.url import parse_url
from fastmesh.crawl.options import CrawlOptions
from fastmesh.crawl.schedule.slots import Slots
from fastmesh.errors import ConnectFailed, FetchTimeout, UrlError

URL = parse_url("http://page.test/")
ANSWER_S = 10.0


def limited(timeout_ms: float) -> CrawlOptions:
    return CrawlOptions(timeout_ms, 1 << 20, "tests", 1 << 20, cache_mode="read_through")


@dataclass
class Reader:
    """One page of the same URL: when it comes, how much time it has, when it is cancelled, and what comes of it.

    *ends* is what and when, *left_s* what it has left of its time then.
    """

    comes: float = 0.0
    has_s: float = 60.0
    leaves: float | None = None
    ends: tuple[str, float] = ("", 0.0)
    left_s: float | None = None


@dataclass
class Case:
    """What the origin says, who reads it, how often it is asked, and when asking is broken off; *held* is how long
    somebody else holds the only slot of the total."""

    readers: list[Reader]
    asked: int
    said: str = "max-age=60"
    broken_off: list[float] = field(default_factory=list)
    held: float = 0.0


A, B = Reader, Reader
CASES = {
    "alone": Case([A(ends=("miss", 10), left_s=50)], asked=1),
    "two share it": Case([A(ends=("miss", 10), left_s=50), B(1, ends=("shared", 10), left_s=51)], asked=1),
    "one joins at the last moment": Case([A(ends=("miss", 10)), B(9.9, ends=("shared", 10), left_s=59.9)], asked=1),
    "one comes after it": Case([A(ends=("miss", 10)), B(11, ends=("hit", 11), left_s=60)], asked=1),
    "one comes after what is not kept": Case(
        [A(ends=("miss", 10)), B(11, ends=("miss", 21), left_s=50)], asked=2, said="no-store"
    ),
    "the one that joined has less time": Case(
        [A(ends=("miss", 10)), B(1, 5, ends=("FetchTimeout", 6), left_s=0)], asked=1
    ),
    "the one that began has less time: the other asks with what is left of its own": Case(
        [A(has_s=5, ends=("FetchTimeout", 5), left_s=0), B(1, ends=("miss", 15), left_s=46)], asked=2, broken_off=[5]
    ),
    "the one that began leaves": Case(
        [A(leaves=3, ends=("cancelled", 3)), B(1, ends=("shared", 10), left_s=51)], asked=1
    ),
    "the one that joined leaves": Case(
        [A(ends=("miss", 10), left_s=50), B(1, leaves=3, ends=("cancelled", 3), left_s=58)], asked=1
    ),
    "both leave: the last one ends it": Case(
        [A(leaves=3, ends=("cancelled", 3)), B(1, leaves=4, ends=("cancelled", 4))], asked=1, broken_off=[4]
    ),
    "one leaves and the last one's time is over": Case(
        [A(leaves=3, ends=("cancelled", 3)), B(1, 5, ends=("FetchTimeout", 6))], asked=1, broken_off=[6]
    ),
    "one comes when the last one has left": Case(
        [A(leaves=3, ends=("cancelled", 3)), B(5, ends=("miss", 15), left_s=50)], asked=2, broken_off=[3]
    ),
    "it is not to be shared: the other asks for itself": Case(
        [A(ends=("miss", 10)), B(1, ends=("miss", 20), left_s=41)], asked=2, said="no-store"
    ),
    "it is not to be shared, and the other's time is over": Case(
        [A(ends=("miss", 10)), B(1, 9, ends=("FetchTimeout", 10), left_s=0)], asked=1, said="no-store"
    ),
    "it is not to be shared, and the other's time is over while it asks for itself": Case(
        [A(ends=("miss", 10)), B(1, 12, ends=("FetchTimeout", 13), left_s=0)],
        asked=2,
        said="no-store",
        broken_off=[13],
    ),
    "it breaks for both": Case(
        [A(ends=("ConnectFailed", 10), left_s=50), B(1, ends=("ConnectFailed", 10), left_s=51)], asked=1, said="broken"
    ),
    "waiting for leave takes no time of either": Case(
        [A(ends=("miss", 17), left_s=50), B(1, ends=("hit", 17), left_s=60)], asked=1, held=7
    ),
    "one leaves while it waits for leave": Case(
        [A(leaves=3, ends=("cancelled", 3), left_s=60), B(1, ends=("miss", 17), left_s=50)], asked=1, held=7
    ),
}


class House:
    """Answers, an origin that takes ten seconds, and slots: of the host, and *total* of them all."""

    def __init__(self, said: str, total: int) -> None:
        self.answers = no_answers()
        self.slots = Slots(total, 8, clock=asyncio.get_running_loop().time)
        self.said = said
        self.asked = 0
        self.broken_off: list[float] = []

    async def read(self, reader: Reader) -> tuple[tuple[str, float], float]:
        """Come, and say what came when, and what time is left."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(reader.comes)
        admission = PageAdmission(self.slots, reader.comes, None, None, "tests")
        page = PageRequest(URL.href, limited(reader.has_s * 1000), admission)

        async def ask(_: object) -> tuple[Answer, None]:
            self.asked += 1
            try:
                async with page.deadline:
                    await asyncio.sleep(ANSWER_S)
            except TimeoutError:
                self.broken_off.append(loop.time())
                raise FetchTimeout("too late") from None
            except asyncio.CancelledError:
                self.broken_off.append(loop.time())
                raise
            if self.said == "broken":
                raise ConnectFailed("no")
            fields = {"cache-control": self.said}
            return Answer(200, None, None, fields, b"x", 1, 0.0), None

        try:
            _, _, outcome = await self.answers.answer(URL, {}, page, ask)
        except UrlError as error:
            outcome = type(error).__name__
        except asyncio.CancelledError:
            outcome = "cancelled"
        finally:
            admission.release()
        return (outcome, round(loop.time(), 6)), round(page.deadline.left_s, 6)


@pytest.mark.parametrize("name", CASES)
def test_each_gets_its_page_in_its_own_time_and_nothing_is_held_in_the_end(name: str) -> None:
    case = CASES[name]

    async def test() -> None:
        loop = asyncio.get_running_loop()
        house = House(case.said, total=1 if case.held else 8)
        house.slots.meet(URL.host_key, None)
        if case.held:
            loop.call_later(case.held, (await house.slots.total("somebody else")).give_back)
        reading = [asyncio.create_task(house.read(reader)) for reader in case.readers]
        for reader, task in zip(case.readers, reading, strict=True):
            if reader.leaves is not None:
                loop.call_later(reader.leaves, task.cancel)
        ended = await asyncio.gather(*reading)
        assert [end for end, _ in ended] == [reader.ends for reader in case.readers]
        for reader, (_, left_s) in zip(case.readers, ended, strict=True):
            assert reader.left_s is None or left_s == reader.left_s
        assert (house.asked, house.broken_off) == (case.asked, case.broken_off)
        await house.answers.close()
        assert (house.slots.in_flight, house.slots.waiting, house.slots.hosts) == (0, 0, 0)
        house.slots.close()

    turned(test())


# ── with real origins ────────────────────────────────────────────────────────────────────

TAKES_S = 0.3


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


async def not_to_be_shared(_: Request) -> AsyncIterator[bytes]:
    await asyncio.sleep(TAKES_S)
    yield head(200, {"Cache-Control": "no-store", "Content-Length": "2"}) + b"ok"


async def reset(_: Request) -> AsyncIterator[bytes]:
    await asyncio.sleep(TAKES_S)
    yield head(200, {"Content-Length": "9"}) + b"torn"
    raise Reset


def two(origin: Origin, answer: Route, *limits_ms: float) -> tuple[list[BaseException | None], list[Page]]:
    """What came of fetches of one page, begun at once, with so much time each."""

    async def main() -> list[BaseException | None]:
        settings = FetchSettings.model_validate({"allow_networks": "127.0.0.0/8"})
        fetcher = Fetcher(settings, AddressGuard(settings), no_answers())
        try:
            return await asyncio.gather(*(page.come(fetcher) for page in pages), return_exceptions=True)
        finally:
            await fetcher.close()

    pages = [Page(origin.route("/page", answer), limited(limit_ms)) for limit_ms in limits_ms]
    return uvloop.run(main()), pages


def test_who_waited_for_what_is_not_to_be_shared_has_only_the_rest_of_its_time(origin: Origin) -> None:
    (mine, others), pages = two(origin, not_to_be_shared, 5000, TAKES_S * 1500)
    assert mine is None
    assert isinstance(others, FetchTimeout)
    assert [page.tries for page in pages] == [1, 1]
    assert pages[1].deadline.left_s < TAKES_S * 0.1


def test_who_waited_for_a_fetch_that_broke_has_used_that_time(origin: Origin) -> None:
    errors, pages = two(origin, reset, 5000, 5000)
    assert [type(error) for error in errors] == [ConnectFailed, ConnectFailed]
    assert origin.hits["/page"] == 1
    assert all(5 - page.deadline.left_s >= TAKES_S * 0.9 for page in pages)


@pytest.mark.parametrize("limits_ms", [(100, 5000), (5000, 100), (100, 100)])
def test_each_has_its_own_limit(origin: Origin, limits_ms: tuple[float, float]) -> None:
    errors, pages = two(origin, not_to_be_shared, *limits_ms)
    for error, page, limit_ms in zip(errors, pages, limits_ms, strict=True):
        assert isinstance(error, FetchTimeout) is (limit_ms == 100)
        assert limit_ms / 1000 - page.deadline.left_s > 0.09
