"""StreamProcessor at its edges: what ends a stream early, and what it says then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from doubles import InOrder, Pages, RecordingSink, in_order, settle, turned
from house import House, check, in_loop
from hypothesis import given
from hypothesis import strategies as st

from fastmesh.events import PageResult
from fastmesh.streaming.fill.processor import StreamProcessor
from fastmesh.streaming.lifecycle import State

Execute = Callable[[str], Awaitable[PageResult]]


def crawl(house: House, urls: list[str], execute: Execute, concurrency: int) -> RecordingSink:
    return house.open(lambda pipeline: StreamProcessor(pipeline, in_order(execute), concurrency, urls=urls), len(urls))


async def at_once(url: str) -> PageResult:
    return PageResult(url=url, document=b"{}")


@given(urls=st.lists(st.text(max_size=5), min_size=1, max_size=30), concurrency=st.integers(1, 256))
def test_pages_that_take_no_time_are_one_result_each_and_equal_urls_too(urls: list[str], concurrency: int) -> None:
    async def run() -> None:
        sink = crawl(House(), urls, at_once, concurrency)
        await settle(turns=200)
        sink.read()
        check(sink, len(urls))
        assert {frame["index"]: frame["result"]["url"] for frame in sink.frames[1:-1]} == dict(enumerate(urls))

    turned(run())


@given(
    total=st.integers(1, 12),
    done=st.sets(st.integers(0, 11)),
    status=st.sampled_from(["cancelled", "deadline", "shutdown"]),
    concurrency=st.integers(1, 12),
)
def test_an_early_end_at_any_point_names_what_has_no_result(
    total: int, done: set[int], status: str, concurrency: int
) -> None:
    async def run() -> None:
        house, pages = House(), Pages()
        sink = house.crawl(pages, [str(at) for at in range(total)], concurrency)
        await settle()
        for index in sorted(done):
            if str(index) in pages.running:
                pages.finish(str(index))
                await settle()
        assert sink.subscriber is not None
        sink.subscriber.pipeline.stop(status)
        await settle()
        sink.read()
        finished = {frame["index"] for frame in sink.frames if frame["type"] == "result"}
        assert finished == {index for index in done if str(index) in pages.started and index < total}
        assert check(sink, total)["status"] == ("completed" if len(finished) == total else status)

    turned(run())


def open_input(pages: Pages) -> tuple[Callable[[Callable[[], None]], InOrder], list[InOrder]]:
    """What makes a backlog whose input has not ended, and where that is found then."""
    made: list[InOrder] = []

    def backlog(wake: Callable[[], None]) -> InOrder:
        made.append(InOrder(pages.execute, wake, open_=True))
        return made[0]

    return backlog, made


@in_loop
async def test_a_stream_whose_input_grows_does_not_end_while_no_url_is_left() -> None:
    house, pages = House(), Pages()
    backlog, made = open_input(pages)
    sink = house.open(lambda pipeline: StreamProcessor(pipeline, backlog, 4, urls=["a"]), None)
    await settle()
    pages.finish("a")
    await settle()
    sink.read()
    assert [frame["type"] for frame in sink.frames] == ["metadata", "result"]
    assert sink.frames[-1]["progress"]["total"] == 1
    before = house.module.buffers.held_bytes
    made[0].add(["b", "c", "d"])
    assert house.module.buffers.held_bytes == before + 300
    await settle()
    for url in ("c", "b"):
        pages.finish(url)
        await settle()
        sink.read()
        assert sink.frames[-1]["progress"]["total"] == 4
    assert not sink.ended
    made[0].end_of_input()
    await settle()
    sink.read()
    assert not sink.ended
    pages.finish("d")
    await settle()
    sink.read()
    assert check(sink, 4)["status"] == "completed"


@in_loop
async def test_an_input_that_grew_and_has_not_ended_is_named_by_what_has_no_result() -> None:
    house, pages = House(), Pages()
    backlog, made = open_input(pages)
    sink = house.open(lambda pipeline: StreamProcessor(pipeline, backlog, 1, urls=[]), None)
    await settle()
    made[0].add(["a", "b"])
    await settle()
    assert sink.subscriber is not None
    sink.subscriber.pipeline.stop("cancelled")
    made[0].add(["c"])  # nobody counts it any more
    await settle()
    sink.read()
    assert check(sink, 2)["unfinished"] == [[0, 1]]


@in_loop
async def test_what_finished_in_the_turn_of_the_stop_is_a_result_or_unfinished_and_never_both() -> None:
    house, pages = House(), Pages()
    sink = house.crawl(pages, ["a", "b"])
    await settle()
    pages.finish("a")
    assert sink.subscriber is not None
    sink.subscriber.pipeline.stop("cancelled")
    await settle()
    sink.read()
    assert check(sink, 2)["status"] == "cancelled"


@in_loop
async def test_a_stop_that_comes_when_all_is_done_changes_nothing() -> None:
    house, pages = House(), Pages()
    sink = house.crawl(pages, ["a"])
    await settle()
    pages.finish("a")
    await settle()
    assert sink.subscriber is not None
    for status in ("cancelled", "shutdown"):
        sink.subscriber.pipeline.stop(status)
    await settle()
    sink.read()
    assert check(sink, 1)["status"] == "completed"


@in_loop
async def test_an_early_end_waits_for_what_a_page_still_has_to_put_away() -> None:
    house, put_away, closing = House(), asyncio.Event(), asyncio.Event()

    async def slow_to_stop(url: str) -> PageResult:
        try:
            await asyncio.Event().wait()
        finally:
            closing.set()
            await put_away.wait()
        raise AssertionError("not reached")

    sink = crawl(house, ["a"], slow_to_stop, 1)
    await settle()
    assert sink.subscriber is not None
    pipeline = sink.subscriber.pipeline
    pipeline.stop("cancelled")
    await closing.wait()
    await settle()
    assert pipeline.lifecycle.open  # no summary before the last task has ended
    put_away.set()
    await pipeline.join()
    sink.read()
    assert check(sink, 1)["status"] == "cancelled"


@in_loop
async def test_a_client_that_leaves_before_the_first_step_closes_its_stream() -> None:
    house, pages = House(), Pages()
    sink = house.crawl(pages, ["a"])
    assert sink.subscriber is not None
    pipeline = sink.subscriber.pipeline
    sink.abandon()
    await settle()
    assert (pipeline.status, pipeline.lifecycle.state) == ("cancelled", State.CLOSED)
    assert (pages.started, house.module.health.figures().memory_bytes) == ([], 0)


@in_loop
async def test_a_client_that_leaves_after_the_summary_leaves_its_status() -> None:
    house, pages = House(), Pages()
    sink = house.crawl(pages, ["a"])
    await settle()
    pages.finish("a")
    await settle()
    assert sink.subscriber is not None
    pipeline = sink.subscriber.pipeline
    sink.leave()
    sink.leave()  # twice is once
    assert (pipeline.status, pipeline.lifecycle.state) == ("completed", State.CLOSED)
    assert house.metrics.protocols["ndjson"].active == 0


@in_loop
async def test_a_fault_at_one_page_cancels_the_others_and_keeps_what_was_there() -> None:
    house, pages = House(), Pages()
    sink = house.crawl(pages, ["a", "b", "c"])
    await settle()
    pages.finish("a")
    await settle()
    pages.crash("b", ZeroDivisionError("a bug"))
    await settle()
    assert pages.running == {}
    sink.read()
    assert [frame["type"] for frame in sink.frames] == ["metadata", "result", "error", "summary"]
    assert check(sink, 3)["unfinished"] == [[1, 2]]
    assert house.metrics.errors.labels("internal_error")._value.get() == 1
    assert house.metrics.protocols["ndjson"].sent["error"] == 1


@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_page_that_is_cancelled_by_nobody_is_a_fault_and_not_a_stream_that_hangs(concurrency: int) -> None:
    async def run() -> None:
        async def execute(url: str) -> PageResult:
            if url == "a":
                raise asyncio.CancelledError  # as when a future that several wait for is cancelled
            return await at_once(url)

        sink = crawl(House(), ["a", "b"], execute, concurrency)
        await settle()
        assert sink.subscriber is not None
        if not sink.subscriber.pipeline.complete:
            sink.subscriber.pipeline.stop("cancelled")
            await settle()
        sink.read()
        assert check(sink, 2)["status"] == "failed"

    turned(run())


@in_loop
async def test_a_result_that_has_no_json_fails_the_stream_without_a_hole() -> None:
    async def execute(url: str) -> PageResult:
        return PageResult(url=url, content_type="\udcff", document=b"{}")

    sink = crawl(House(), ["a", "b"], execute, 1)
    await settle()
    sink.read()
    assert [(frame["seq"], frame["type"]) for frame in sink.frames] == [(1, "metadata"), (2, "error"), (3, "summary")]
    assert sink.frames[-1]["status"] == "failed"


def test_a_result_that_has_no_json_is_not_counted_as_one() -> None:
    async def run() -> None:
        async def execute(url: str) -> PageResult:
            return PageResult(url=url, content_type="\udcff", document=b"{}")

        sink = crawl(House(), ["a", "b"], execute, 1)
        await settle()
        sink.read()
        check(sink, 2)

    turned(run())


@in_loop
async def test_joining_a_stream_that_has_ended_or_never_began_returns() -> None:
    house, pages = House(), Pages()
    sink = house.crawl(pages, ["a"])
    await settle()
    pages.finish("a")
    await settle()
    assert sink.subscriber is not None
    await sink.subscriber.pipeline.join()
    await StreamProcessor(sink.subscriber.pipeline, in_order(at_once), 1).join()


@in_loop
async def test_what_prepares_a_stream_and_is_cancelled_by_nobody_is_a_fault_and_no_completed_stream() -> None:
    async def prepare() -> list[str]:
        raise asyncio.CancelledError

    sink = House().open(lambda pipeline: StreamProcessor(pipeline, in_order(at_once), 4, prepare=prepare), 0)
    await settle()
    sink.read()
    assert [frame["type"] for frame in sink.frames] == ["metadata", "error", "summary"]
    assert sink.frames[-1]["status"] == "failed"


@pytest.mark.parametrize("when", ["before its first step", "while it prepares", "while it works"])
def test_a_stream_whose_task_is_cancelled_by_nobody_is_not_completed(when: str) -> None:
    async def run() -> None:
        async def prepare() -> list[str]:
            if when == "while it prepares":
                await asyncio.Event().wait()
            return ["a"]

        sink = House().open(
            lambda pipeline: StreamProcessor(pipeline, in_order(Pages().execute), 4, prepare=prepare), 0
        )
        (task,) = asyncio.all_tasks() - {asyncio.current_task()}
        if when != "before its first step":
            await settle()
        task.cancel()
        await settle()
        sink.read()
        assert (sink.frames[-1]["type"], sink.frames[-1]["status"]) == ("summary", "failed")

    turned(run())


@in_loop
async def test_what_prepares_a_stream_can_be_cancelled() -> None:
    async def prepare() -> list[str]:
        await asyncio.Event().wait()
        return []

    sink = House().open(lambda pipeline: StreamProcessor(pipeline, in_order(at_once), 4, prepare=prepare), 0)
    await settle()
    assert sink.subscriber is not None
    sink.subscriber.pipeline.stop("cancelled")
    await settle()
    sink.read()
    assert [frame["type"] for frame in sink.frames] == ["metadata", "summary"]
    assert sink.frames[-1]["status"] == "cancelled"
