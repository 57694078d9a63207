"""Results in the input's order, repeats of one URL, and the stop after so many errors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from doubles import InOrder, InOrderJob, Pages, RecordingSink, settle, turned
from house import House, check, in_loop
from hypothesis import given
from hypothesis import strategies as st

from fastmesh.events import PageResult
from fastmesh.streaming.fill.processor import StreamProcessor
from fastmesh.streaming.fill.results import FRAME_BYTES, Outbox

TEXT = "x" * 1000


def page(index: int, size: int = 0) -> PageResult:
    return PageResult(f"u{index}", document=b"x" * size if size else None)


# ── the machine ──────────────────────────────────────────────────────────────────────────


@given(st.permutations(range(8)), st.lists(st.integers(0, 50), min_size=8, max_size=8))
def test_the_input_s_order_comes_out_however_results_come_in(order: list[int], sizes: list[int]) -> None:
    outbox, out = Outbox(in_order=True), []
    for index in order:
        outbox.put(index, page(index, sizes[index]))
        while outbox.next() is not None:
            out.append(outbox.pop().index)
        held = [at for at in order[: order.index(index) + 1] if at not in out]
        assert outbox.frames == len(held)
        assert outbox.bytes == sum(FRAME_BYTES + sizes[at] for at in held)
    assert out == list(range(8))
    assert (outbox.frames, outbox.bytes, outbox.expected) == (0, 0, 8)


def test_as_they_complete_repeats_leave_after_the_others() -> None:
    outbox = Outbox(in_order=False)
    for index, repeat in ((4, False), (7, True), (2, False), (5, True)):
        outbox.put(index, page(index), repeat=repeat)
    assert [outbox.pop().index for _ in range(4)] == [4, 2, 7, 5]


def test_what_is_given_up_are_the_fetched_results_in_their_order() -> None:
    outbox = Outbox(in_order=True)
    for index, repeat in ((6, False), (3, True), (2, False)):
        outbox.put(index, page(index), repeat=repeat)
    assert outbox.next() is None
    assert [finished.index for finished in outbox.give_up()] == [2, 6]
    assert (outbox.frames, outbox.bytes) == (0, 0)


# ── streams ──────────────────────────────────────────────────────────────────────────────


class WithRepeats(InOrder):
    """A backlog that starts a URL once, as the crawl's does."""

    def __init__(self, execute: Any, wake: Callable[[], None], jobs: list[InOrderJob]) -> None:
        super().__init__(execute, wake)
        self._firsts: list[int] = []
        self._jobs = jobs

    def add(self, urls: Sequence[str]) -> None:
        super().add(urls)
        self._firsts = [at for at, url in enumerate(urls) if urls.index(url) == at]
        self.left = len(self._firsts)

    @property
    def first(self) -> int:
        return self._firsts[0]

    def take(self) -> InOrderJob:
        self._next = self._firsts.pop(0)
        job = super().take()
        url = self._urls[job.index]
        job.repeats = [(at, url, f"id{at}") for at, same in enumerate(self._urls) if same == url and at > job.index]
        self._jobs.append(job)
        return job


class Crawl:
    """A stream over *urls*, whose pages end when the test says so."""

    def __init__(self, house: House, urls: list[str], *, concurrency: int = 4, opened: Any = None, **more: Any) -> None:
        self.pages = Pages()
        self.jobs: list[InOrderJob] = []
        self.urls = urls

        def backlog(wake: Callable[[], None]) -> WithRepeats:
            return WithRepeats(self.pages.execute, wake, self.jobs)

        self.sink: RecordingSink = house.open(
            lambda pipeline: StreamProcessor(pipeline, backlog, concurrency, urls=urls, **more),
            len(urls),
            **(opened or {}),
        )

    async def finish(self, *urls: str, **how: Any) -> None:
        for url in urls:
            await settle(lambda url=url: url in self.pages.running)  # type: ignore[misc]
            self.pages.finish(url, **how)
            await settle()

    @property
    def results(self) -> list[dict[str, Any]]:
        self.sink.read()
        return [frame for frame in self.sink.frames if frame["type"] == "result"]

    @property
    def indexes(self) -> list[int]:
        return [frame["index"] for frame in self.results]


@in_loop
async def test_in_input_order_a_result_waits_for_all_before_it() -> None:
    crawl = Crawl(House(), list("abcd"), in_order=True)
    await crawl.finish("d", "b")
    assert crawl.indexes == []
    await crawl.finish("a")
    assert crawl.indexes == [0, 1]
    await crawl.finish("c")
    assert crawl.indexes == [0, 1, 2, 3]
    summary = check(crawl.sink, 4)
    assert summary["status"] == "completed"
    assert [frame["progress"]["completed"] for frame in crawl.results] == [1, 2, 3, 4]


@in_loop
async def test_what_waits_for_its_turn_counts_as_unread_and_the_lowest_may_always_start() -> None:
    house = House(BUFFER__INITIAL_FRAMES_NDJSON=4)
    crawl = Crawl(house, [str(at) for at in range(20)], concurrency=3, in_order=True)
    crawl.sink.read()
    await settle()
    for url in ("1", "2", "3"):
        await crawl.finish(url)
    # Three are held and one runs: four in all, as many as the window has.
    assert crawl.pages.started == ["0", "1", "2", "3"]
    assert house.module.health.figures().memory_bytes >= 3 * FRAME_BYTES
    await crawl.finish("0")
    crawl.sink.read()
    await settle()
    assert crawl.indexes == [0, 1, 2, 3]
    assert crawl.pages.started == [str(at) for at in range(7)]


@in_loop
async def test_held_bytes_fill_the_window_too_and_lock_nobody_out() -> None:
    house = House(BUFFER__INITIAL_BYTES=4096, BUFFER__TOTAL_BYTES=65536)
    crawl = Crawl(house, [str(at) for at in range(12)], concurrency=2, in_order=True)
    crawl.sink.read()
    await settle()
    await crawl.finish("1", text="x" * 6000)
    assert crawl.pages.started == ["0", "1"]
    for at in (0, *range(2, 12)):
        await crawl.finish(str(at), text=TEXT)
        crawl.sink.read()
    assert crawl.indexes == list(range(12))
    assert check(crawl.sink, 12)["status"] == "completed"


@in_loop
async def test_a_cancelled_stream_hands_out_what_was_held() -> None:
    house = House()
    crawl = Crawl(house, list("abcdef"), in_order=True, opened={"kept": False})
    await crawl.finish("d", "b")
    assert crawl.indexes == []
    assert crawl.sink.subscriber is not None
    crawl.sink.subscriber.pipeline.stop("cancelled")
    await settle()
    assert crawl.indexes == [1, 3]
    summary = check(crawl.sink, 6)
    assert (summary["status"], summary["unfinished"]) == ("cancelled", [[0, 0], [2, 2], [4, 5]])
    assert house.module.health.figures().memory_bytes == 0


@pytest.mark.parametrize("in_order", [False, True])
def test_a_repeated_url_is_fetched_once_and_every_index_has_its_result(in_order: bool) -> None:
    async def crawls() -> None:
        crawl = Crawl(House(), list("abaab"), in_order=in_order)
        await crawl.finish("b", fails=True)
        await crawl.finish("a", text="A")
        results = {frame["index"]: frame["result"] for frame in crawl.results}
        assert crawl.pages.started == ["a", "b"]
        assert crawl.indexes == ([0, 1, 2, 3, 4] if in_order else [1, 4, 0, 2, 3])
        assert {at: result.get("duplicate_of") for at, result in results.items()} == {
            0: None,
            1: None,
            2: 0,
            3: 0,
            4: 1,
        }
        assert {at: result.get("id") for at, result in results.items()} == {
            0: None,
            1: None,
            2: "id2",
            3: "id3",
            4: "id4",
        }
        assert results[3]["document"] == results[0]["document"] == {"text": "A"}
        assert results[4]["error"] == results[1]["error"]
        summary = check(crawl.sink, 5)
        assert (summary["status"], summary["successful"], summary["failed"]) == ("completed", 3, 2)

    turned(crawls())


@in_loop
async def test_a_repeat_waits_for_room_and_the_rest_of_the_stream_with_it() -> None:
    house = House(BUFFER__INITIAL_FRAMES_NDJSON=4, BUFFER__TOTAL_BYTES=1 << 20)
    crawl = Crawl(house, ["a"] * 30 + ["b"], concurrency=2)
    await settle()
    await crawl.finish("b")
    await crawl.finish("a", text=TEXT)
    subscriber = crawl.sink.subscriber
    assert subscriber is not None
    while len(crawl.indexes) < 31:
        assert subscriber.unread_frames <= 4 + subscriber.pipeline.complete  # the summary passes every bound
        crawl.sink.read()
        await settle()
        assert subscriber.unread_frames <= 4 + subscriber.pipeline.complete  # the summary passes every bound
    assert sorted(crawl.indexes) == list(range(31))
    assert check(crawl.sink, 31)["successful"] == 31


@in_loop
async def test_repeats_that_found_no_room_are_unfinished_when_the_stream_is_cancelled() -> None:
    crawl = Crawl(House(BUFFER__INITIAL_FRAMES_NDJSON=4), ["a"] * 30)
    await crawl.finish("a")
    subscriber = crawl.sink.subscriber
    assert subscriber is not None
    unread = subscriber.unread_frames
    subscriber.pipeline.stop("cancelled")
    await settle()
    summary = check_read(crawl)
    assert summary["status"] == "cancelled"
    assert summary["cancelled"] == 30 - (unread - 1)


def check_read(crawl: Crawl) -> dict[str, Any]:
    crawl.sink.read()
    return check(crawl.sink, len(crawl.urls))


@in_loop
async def test_a_stream_ends_as_failed_after_as_many_errors_as_it_allowed() -> None:
    house = House()
    crawl = Crawl(house, list("abcdefgh"), stop_after_errors=2)
    await crawl.finish("a", fails=True)
    await crawl.finish("b")
    await crawl.finish("c", fails=True)
    await settle()
    summary = check_read(crawl)
    assert (summary["status"], summary["successful"], summary["failed"], summary["cancelled"]) == ("failed", 1, 2, 5)
    (error,) = (frame["error"] for frame in crawl.sink.frames if frame["type"] == "error")
    assert error == {
        "type": "too_many_errors",
        "message": "2 URLs failed, as many as may (options.stop_after_errors)",
        "retryable": False,
    }
    assert crawl.pages.running == {}
    # It was asked for, and says nothing about the daemon.
    assert house.module.health.figures().error_rate == 0


@in_loop
async def test_errors_are_counted_in_the_order_in_which_results_leave() -> None:
    crawl = Crawl(House(), list("abcd"), in_order=True, stop_after_errors=1)
    await crawl.finish("c", fails=True)
    assert crawl.indexes == []
    await crawl.finish("a")
    await crawl.finish("b")
    await settle()
    summary = check_read(crawl)
    assert (summary["status"], summary["unfinished"]) == ("failed", [[3, 3]])


@pytest.mark.parametrize("status", ["cancelled", "deadline", "shutdown"])
@in_loop
async def test_a_stream_that_is_ended_says_so_although_as_many_errors_as_may_are_handed_out_then(status: str) -> None:
    crawl = Crawl(House(), list("abc"), in_order=True, stop_after_errors=2)
    await crawl.finish("b", fails=True)
    await crawl.finish("c", fails=True)
    assert crawl.indexes == []  # they wait for the first
    assert crawl.sink.subscriber is not None
    crawl.sink.subscriber.pipeline.stop(status)
    await settle()
    summary = check_read(crawl)
    assert (summary["status"], summary["failed"], summary["unfinished"]) == (status, 2, [[0, 0]])
    assert [frame["type"] for frame in crawl.sink.frames] == ["metadata", "result", "result", "summary"]


@pytest.mark.parametrize("in_order", [False, True])
def test_repeats_hold_their_page_once_and_count_as_unread_each(in_order: bool) -> None:
    async def run() -> None:
        house = House(BUFFER__INITIAL_FRAMES_NDJSON=3)
        urls = ["a"] * 100 if not in_order else ["b"] + ["a"] * 100
        crawl = Crawl(house, urls, in_order=in_order)
        await crawl.finish("a", text="x" * 20_000)
        held = house.module.health.figures().memory_bytes
        assert held < 3 * 21_000 + 101 * FRAME_BYTES
        pages = {id(finished.page.document) for finished in _outbox(crawl)._held}
        assert len(pages) == 1
        if in_order:
            await crawl.finish("b")
        while not crawl.sink.ended:
            crawl.sink.read()
            await settle()
        assert house.module.health.figures().memory_bytes == 0

    turned(run())


def _outbox(crawl: Crawl) -> Outbox:
    assert crawl.sink.subscriber is not None
    processor = crawl.sink.subscriber.pipeline._processor
    assert isinstance(processor, StreamProcessor)
    return processor._results.outbox


@given(st.data())
def test_whatever_ends_when_every_index_comes_out_once_in_order_and_within_the_window(data: st.DataObject) -> None:
    """The model: pages end, the reader reads and cancels as hypothesis likes; URLs repeat."""
    frames = data.draw(st.integers(1, 6), label="window")
    urls = data.draw(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=14), label="urls")
    in_order = data.draw(st.booleans(), label="in order")
    concurrency = data.draw(st.integers(1, 4), label="concurrency")

    async def crawls() -> None:
        house = House(BUFFER__INITIAL_FRAMES_NDJSON=frames)
        crawl = Crawl(house, urls, concurrency=concurrency, in_order=in_order)
        subscriber = crawl.sink.subscriber
        assert subscriber is not None
        cancelled = False
        await settle()
        for _ in range(60):
            if crawl.sink.ended:
                break
            running = sorted(crawl.pages.running)
            step = data.draw(st.sampled_from(["read", *(["finish"] * 3 if running else []), "cancel"]), label="step")
            if step == "read":
                crawl.sink.read()
            elif step == "finish":
                crawl.pages.finish(data.draw(st.sampled_from(running), label="which"))
            elif data.draw(st.integers(0, 9)) == 0:
                cancelled = True
                subscriber.pipeline.stop("cancelled")
            await settle()
            if not cancelled and not subscriber.pipeline.complete:
                assert subscriber.unread_frames <= max(frames, 1) + concurrency
        while not crawl.sink.ended:
            for url in list(crawl.pages.running):
                crawl.pages.finish(url)
            crawl.sink.read()
            await settle()
        summary = check(crawl.sink, len(urls))
        assert cancelled or summary["successful"] == len(urls)
        assert not in_order or crawl.indexes == sorted(crawl.indexes)
        assert len(crawl.pages.started) == len(set(crawl.pages.started))
        assert house.module.health.figures().memory_bytes == 0

    turned(asyncio.wait_for(crawls(), 1000))
