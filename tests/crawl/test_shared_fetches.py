"""A URL's time is its own, also while it waits for another's fetch of the same page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import uvloop
from origins import Origin, Request, Reset, Route, head

from fastmesh.config import FetchSettings
from fastmesh.crawl.cache.memory import MemoryStore
from fastmesh.crawl.fetch.answers import Answers
from fastmesh.crawl.fetch.fetched import Fetched
from fastmesh.crawl.fetch.fetcher import Fetcher
from fastmesh.crawl.net.guard import AddressGuard
from fastmesh.crawl.options import CrawlOptions
from fastmesh.errors import ConnectFailed, FetchTimeout

TAKES_S = 0.3


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


def limited(timeout_ms: float) -> CrawlOptions:
    return CrawlOptions(timeout_ms, 1 << 20, "tests", 1 << 20, cache_mode="read_through")


async def not_to_be_shared(_: Request) -> AsyncIterator[bytes]:
    await asyncio.sleep(TAKES_S)
    yield head(200, {"Cache-Control": "no-store", "Content-Length": "2"}) + b"ok"


async def reset(_: Request) -> AsyncIterator[bytes]:
    await asyncio.sleep(TAKES_S)
    yield head(200, {"Content-Length": "9"}) + b"torn"
    raise Reset


def two(origin: Origin, answer: Route, *limits_ms: float) -> tuple[list[BaseException | None], list[Fetched]]:
    """What came of fetches of one page, begun at once, with so much time each."""

    async def main() -> list[BaseException | None]:
        settings = FetchSettings.model_validate({"allow_networks": "127.0.0.0/8"})
        fetcher = Fetcher(settings, AddressGuard(settings), answers=Answers(MemoryStore(1 << 28), 3600))
        try:
            fetches = [fetcher.fetch(page, limited(ms)) for page, ms in zip(pages, limits_ms, strict=True)]
            return await asyncio.gather(*fetches, return_exceptions=True)
        finally:
            await fetcher.close()

    pages = [Fetched(origin.route("/page", answer)) for _ in limits_ms]
    return uvloop.run(main()), pages


def test_who_waited_for_what_is_not_to_be_shared_has_only_the_rest_of_its_time(origin: Origin) -> None:
    (mine, others), pages = two(origin, not_to_be_shared, 5000, TAKES_S * 1500)
    assert mine is None
    assert isinstance(others, FetchTimeout)
    assert [page.tries for page in pages] == [1, 1]
    assert pages[1].spent_s > TAKES_S * 1.4


def test_who_waited_for_a_fetch_that_broke_has_used_that_time(origin: Origin) -> None:
    errors, pages = two(origin, reset, 5000, 5000)
    assert [type(error) for error in errors] == [ConnectFailed, ConnectFailed]
    assert origin.hits["/page"] == 1
    assert all(page.spent_s >= TAKES_S * 0.9 for page in pages)


@pytest.mark.parametrize("limits_ms", [(100, 5000), (5000, 100), (100, 100)])
def test_each_has_its_own_limit(origin: Origin, limits_ms: tuple[float, float]) -> None:
    errors, pages = two(origin, not_to_be_shared, *limits_ms)
    for error, page, limit_ms in zip(errors, pages, limits_ms, strict=True):
        assert isinstance(error, FetchTimeout) is (limit_ms == 100)
        assert page.spent_s > 0.09
