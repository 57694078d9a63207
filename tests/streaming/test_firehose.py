"""The firehose: exactly N frames of about B bytes, as fast as the client reads or R a second, stopped at any point."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest
from doubles import Pages, RecordingSink, settle, turned
from house import House, check, in_loop
from hypothesis import given
from hypothesis import strategies as st

from fastmesh.crawl.extract.document import document_of
from fastmesh.streaming.fill.firehose import BURST_BYTES, MIN_FRAME_BYTES


@pytest.mark.parametrize("rate", [0.25, 1.0, 7.0, 1000.0])
def test_a_rate_is_kept_by_its_own_timers(rate: float) -> None:
    """The n-th frame is due at n / R seconds, the first at once; a client that reads sees it then."""

    async def run() -> None:
        house = House()
        sink = house.firehose(40, rate=rate)
        sink.read()
        assert len(sink.frames) == 1
        sink.read()  # what is due when the metadata is away
        for number in range(1, 40):
            assert len(sink.frames) - 1 == number
            await asyncio.sleep(number / rate - house.now + 0.01 / rate)
            sink.read()
        sink.read()
        assert check(sink, 40)["total_processing_time_ms"] == pytest.approx(39 / rate * 1000, rel=0.01)

    turned(run())


@in_loop
async def test_who_reads_late_gets_what_was_due_and_no_more() -> None:
    house = House(BUFFER__INITIAL_FRAMES_NDJSON=5)
    sink = house.firehose(10_000, rate=10)
    await asyncio.sleep(60)
    assert sink.subscriber is not None
    assert sink.subscriber.unread_frames == 1  # nobody has read even the metadata: nothing is made ahead
    sink.read()
    await asyncio.sleep(60)
    assert sink.subscriber.unread_frames == 5  # its window, though 1200 are due
    while sink.subscriber.unread_frames:
        sink.read()
    assert len(sink.frames) == 1 + 1201


@pytest.mark.parametrize("frames", [1, 2, 23, 24, 500])
@pytest.mark.parametrize("quantum", [1, 16_384])
def test_exactly_so_many_frames(frames: int, quantum: int) -> None:
    async def run() -> None:
        sink = House().firehose(frames)
        while not sink.ended:
            sink.read(quantum)
        summary = check(sink, frames)
        assert (summary["status"], summary["successful"]) == ("completed", frames)
        assert [frame["index"] for frame in sink.frames[1:-1]] == list(range(frames))
        assert sink.frames[-2]["progress"] == {"completed": frames, "total": frames, "success_rate": 1.0}

    turned(run())


@given(size=st.integers(MIN_FRAME_BYTES, 20_000))
def test_each_frame_has_about_its_bytes_and_is_a_crawls_result(size: int) -> None:
    async def run() -> None:
        sink = House().firehose(3, size)
        while not sink.ended:
            sink.read()
        lines = b"".join(sink.written).splitlines()[1:-1]
        assert all(abs(len(line) - size) <= 32 for line in lines)
        result = sink.frames[1]["result"]
        assert result["document"].keys() == document_of(frozenset(), "").keys()
        assert (result["status"], result["error"]) == (200, None)

    turned(run())


@in_loop
async def test_nothing_is_made_before_somebody_reads_and_then_a_burst_a_turn() -> None:
    house = House(BUFFER__INITIAL_BYTES=1_000_000, BUFFER__INITIAL_FRAMES_NDJSON=2000)
    sink = house.firehose(10_000)
    assert sink.subscriber is not None
    ring = sink.subscriber.pipeline.journal.ring
    assert ring.next == 2
    await settle()
    assert ring.next == 2
    while not sink.ended:
        before = ring.appended_bytes
        sink.read(1)
        assert ring.appended_bytes - before < BURST_BYTES + 2 * MIN_FRAME_BYTES


@pytest.mark.parametrize("window", [1, 2, 10])
@pytest.mark.parametrize("quantum", [1, 3000])
def test_who_reads_a_little_never_has_more_than_its_window_unread(window: int, quantum: int) -> None:
    async def run() -> None:
        sink = House(BUFFER__INITIAL_FRAMES_NDJSON=window).firehose(60)
        assert sink.subscriber is not None
        while not sink.subscriber.pipeline.complete:
            assert sink.subscriber.unread_frames <= window
            sink.read(quantum)

    turned(run())


@in_loop
async def test_a_timer_does_not_keep_an_ended_stream() -> None:
    house = House()
    sink = house.firehose(5, rate=1e-9)  # the next frame is due in 31 years, the deadline in an hour
    for _ in range(3):
        sink.read()
    assert sink.subscriber is not None
    sink.abandon()
    gone = weakref.ref(sink.subscriber.pipeline)
    del sink
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("rate", [None, 10.0])
@pytest.mark.parametrize("status", ["cancelled", "deadline", "shutdown"])
def test_stopped_midway_it_says_what_is_left_and_leaves_no_timer(status: str, rate: float | None) -> None:
    async def run() -> None:
        house = House()
        sink = house.firehose(1000, rate=rate)
        for _ in range(3):
            sink.read()
        made = len(sink.frames) - 1
        assert sink.subscriber is not None
        made += sink.subscriber.unread_frames
        sink.subscriber.pipeline.stop(status)
        sink.subscriber.pipeline.stop("cancelled")
        sink.read()
        summary = check(sink, 1000)
        assert (summary["status"], summary["unfinished"]) == (status, [[made, 999]])
        await asyncio.sleep(5)  # a timer that were left would append to a closed stream
        assert house.module.health.figures().memory_bytes == 0

    turned(run())


@in_loop
async def test_a_client_that_leaves_ends_it() -> None:
    house = House()
    sink = house.firehose(10**9, rate=100)
    for _ in range(3):
        sink.read()
    assert sink.subscriber is not None
    sink.abandon()
    assert sink.subscriber.pipeline.status == "cancelled"
    await asyncio.sleep(1)
    figures = house.module.health.figures()
    assert (figures.active_streams, figures.memory_bytes) == (0, 0)


async def _beside_a_hog() -> tuple[RecordingSink, RecordingSink]:
    """A crawl that holds more than the total, and a firehose whose metadata is read."""
    house, pages = House(BUFFER__TOTAL_BYTES=70_000, STREAM__MAX_FRAME_BYTES=4096), Pages()
    hog, sink = house.crawl(pages, ["a"]), house.firehose(100)
    await settle()
    pages.finish("a", text="x" * 80_000)
    await settle()
    return hog, sink


@in_loop
async def test_over_the_total_it_still_comes_to_its_end() -> None:
    _, sink = await _beside_a_hog()
    while not sink.ended:
        sink.read(1)
    check(sink, 100)


@in_loop
async def test_when_there_is_room_again_it_goes_on_by_itself() -> None:
    hog, sink = await _beside_a_hog()
    sink.read()
    assert sink.subscriber is not None
    pipeline = sink.subscriber.pipeline
    made = pipeline.journal.last_seq
    pipeline.room()
    assert pipeline.journal.last_seq == made  # it holds something, so it waits
    hog.read()
    assert pipeline.journal.last_seq == made  # in a turn of its own
    await settle()
    assert pipeline.journal.last_seq > made


def test_over_the_total_it_goes_on_by_one_frame() -> None:
    async def run() -> None:
        _, sink = await _beside_a_hog()
        sink.read()
        assert sink.subscriber.unread_frames == 1

    turned(run())


@pytest.mark.parametrize("rate", [5e-324, 1e-9, 1e9])
def test_any_rate_above_0_is_a_rate(rate: float) -> None:
    async def run() -> None:
        house = House()
        sink = house.firehose(5, rate=rate)
        for _ in range(3):
            sink.read()
        house.now += 10.0
        await asyncio.sleep(1e-6)
        sink.read()
        assert sum(frame["type"] == "result" for frame in sink.frames) == (1 if rate < 1 else 5)

    turned(run())


def test_a_rate_that_no_float_holds_for_long_is_as_fast_as_it_can() -> None:
    async def run() -> None:
        house = House(BUFFER__INITIAL_FRAMES_NDJSON=2)
        sink = house.firehose(50, rate=1e308)
        house.now = 10.0
        while not sink.ended:
            sink.read()
        check(sink, 50)

    turned(run())
