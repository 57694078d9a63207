"""What is decoded holds up neither the loop nor another client."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Awaitable, Callable

import pytest
import uvloop
from origins import Origin
from pages import Page, no_answers

from fastmesh.config import FetchSettings
from fastmesh.crawl.fairness.steps import Aside
from fastmesh.crawl.fetch.fetcher import Fetcher
from fastmesh.crawl.net.guard import AddressGuard
from fastmesh.crawl.options import CrawlOptions
from fastmesh.errors import DecodeFailed, TooLarge, UrlError

# 16 MB in 11 bytes, of commands that take no bit each: 5.6 million of them before the window is full.
BROTLI_BOMB = bytes.fromhex("9fffffff20208202918000")
# Four empty blocks of deflate, each with its own table of codes: 390 KB of them took 95 ms, and decode to nothing.
EMPTY_BLOCKS = bytes.fromhex(
    "04c081000000000090ff6b100007020000000040feaf41001c080000000000f9bf060170200000000000e4ff1a"
)
# CPU time: of the loop's own thread, so that what else runs here is not counted.
MOST_S = 0.02


def run(test: Callable[[Aside], Awaitable[None]]) -> None:
    async def main() -> None:
        aside = Aside("test")
        try:
            await test(aside)
        finally:
            await aside.close()

    uvloop.run(main())


@pytest.mark.parametrize(
    ("coding", "body", "error"),
    [("br", BROTLI_BOMB, TooLarge), ("deflate", EMPTY_BLOCKS * 8000, DecodeFailed)],
    ids=["br", "deflate"],
)
def test_no_body_holds_the_loop_while_it_is_decoded(origin: Origin, coding: str, body: bytes, error: type[UrlError]):
    longest_s = 0.0

    async def main() -> None:
        nonlocal longest_s
        settings = FetchSettings(allow_networks=("127.0.0.0/8",))
        fetcher = Fetcher(settings, AddressGuard(settings), no_answers())
        url = origin.page("/bomb", body, headers={"Content-Encoding": coding})
        options = CrawlOptions(timeout_ms=30_000, max_body_bytes=20 << 20, user_agent="t", max_frame_bytes=1 << 20)
        fetch = asyncio.create_task(Page(url, options).come(fetcher))
        gc.disable()  # a collection of what all tests left is no step of it
        while not fetch.done():
            begun = time.thread_time()
            await asyncio.sleep(0)
            longest_s = max(longest_s, time.thread_time() - begun)
        gc.enable()
        await fetcher.close()
        with pytest.raises(error):
            await fetch

    uvloop.run(main())
    assert longest_s < MOST_S


def test_clients_take_turns() -> None:
    async def test(aside: Aside) -> None:
        done: list[str] = []
        let_go = threading.Event()
        first = asyncio.create_task(aside.do(let_go.wait, "many"))
        await asyncio.sleep(0)
        others = [asyncio.create_task(aside.do(lambda: done.append("many"), "many")) for _ in range(5)]
        others += [asyncio.create_task(aside.do(lambda: done.append("few"), "few")) for _ in range(2)]
        await asyncio.sleep(0)
        let_go.set()
        await asyncio.gather(first, *others)
        assert done == ["many", "few", "many", "few", "many", "many", "many"]

    run(test)


def test_a_step_that_fails_or_is_waited_for_no_more_holds_nobody_up() -> None:
    async def test(aside: Aside) -> None:
        let_go, done = threading.Event(), []
        running = asyncio.create_task(aside.do(let_go.wait, "a"))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(aside.do(lambda: done.append("never"), "a"))
        failing = asyncio.create_task(aside.do(lambda: 1 // 0, "b"))
        last = asyncio.create_task(aside.do(lambda: "last", "c"))
        await asyncio.sleep(0)
        for task in (running, waiting):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        let_go.set()
        with pytest.raises(ZeroDivisionError):
            await failing
        assert await last == "last"
        assert done == []

    run(test)


def test_a_turn_that_is_given_to_somebody_who_leaves_goes_on_to_the_next() -> None:
    async def test(aside: Aside) -> None:
        let_go = threading.Event()
        first = asyncio.create_task(aside.do(let_go.wait, "a"))
        await asyncio.sleep(0)
        leaving = asyncio.create_task(aside.do(lambda: "never", "b"))
        await asyncio.sleep(0)
        first.add_done_callback(lambda _: leaving.cancel())  # it has its turn by then, and did not run yet
        let_go.set()
        assert await first
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert await aside.do(lambda: "next", "c") == "next"

    run(test)
