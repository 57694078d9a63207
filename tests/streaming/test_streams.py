"""A stream from its opening to its end: who waits for whom, exactly one result each, totals that reconcile."""

from __future__ import annotations

import gc
import weakref
from random import Random
from typing import Any

import pytest
from doubles import Pages, RecordingSink, in_order, settle, turned
from house import House, check, in_loop
from hypothesis import given
from hypothesis import strategies as st

from fastmesh.errors import ConfigError, Overloaded, RateLimited, ShuttingDown
from fastmesh.streaming.fill.processor import StreamProcessor
from fastmesh.streaming.lifecycle import State


@in_loop
async def test_results_come_as_they_finish() -> None:
    house, pages = House(), Pages()
    sink = house.crawl(pages, ["a", "b", "c"])
    sink.read()
    assert [frame["type"] for frame in sink.frames] == ["metadata"]
    await settle()
    pages.finish("c")
    await settle()
    sink.read()
    assert sink.frames[-1]["index"] == 2
    pages.finish("a", fails=True)
    pages.finish("b")
    await settle()
    sink.read()
    assert check(sink, 3)["status"] == "completed"
    assert [frame["progress"] for frame in sink.frames[1:-1]] == [
        {"completed": 1, "total": 3, "success_rate": 1.0},
        {"completed": 2, "total": 3, "success_rate": 0.5},
        {"completed": 3, "total": 3, "success_rate": 0.6667},
    ]
    assert house.metrics.protocols["ndjson"].sent_by_type() == {
        "metadata": 1, "search": 0, "result": 3, "error": 0, "summary": 1, "gap": 0, "progress": 0, "heartbeat": 0,
    }  # fmt: skip
    assert house.module.health.figures().memory_bytes == 0


@given(
    total=st.integers(1, 40),
    concurrency=st.integers(1, 8),
    frames=st.integers(1, 6),
    octets=st.integers(1, 3000),
    chance=st.randoms(use_true_random=True),
)
def test_a_stream_never_runs_further_ahead_than_its_window(
    total: int, concurrency: int, frames: int, octets: int, chance: Random
) -> None:
    """Whatever the order of finishing and reading: a URL is started only within the credit."""

    async def run() -> None:
        house = House(BUFFER__INITIAL_FRAMES_NDJSON=frames, BUFFER__INITIAL_BYTES=octets)
        pages = Pages()
        urls = [str(index) for index in range(total)]
        started: list[tuple[int, int, int]] = []
        sink: RecordingSink | None = None

        async def execute(url: str) -> Any:
            assert sink is not None
            assert sink.subscriber is not None
            # As it was when this one was started: it is among the running ones now.
            started.append((sink.subscriber.unread_frames, sink.subscriber.unread_bytes, len(pages.running)))
            return await pages.execute(url)

        sink = house.open(lambda p: StreamProcessor(p, in_order(execute), concurrency, urls=urls), total)
        while not sink.ended:
            before = len(started)
            await settle()
            for unread, unread_bytes, running in started[before:]:
                assert unread + running < frames or (unread == 0 and running == 0)
                assert unread_bytes < octets
                assert running < concurrency
            if pages.running and chance.random() < 0.6:
                url = chance.choice(sorted(pages.running))
                pages.finish(url, text="x" * chance.randrange(2000), fails=chance.random() < 0.3)
            else:
                sink.read(chance.randrange(1, 5000))
        assert check(sink, total)["status"] == "completed"

    turned(run())


@pytest.mark.parametrize("status", ["cancelled", "deadline", "shutdown"])
def test_an_early_end_names_what_is_left(status: str) -> None:
    async def run() -> None:
        house, pages = House(), Pages()
        sink = house.crawl(pages, ["a", "b", "c", "d", "e"], concurrency=3)
        await settle()
        pages.finish("b")
        await settle()
        assert sink.subscriber is not None
        sink.subscriber.pipeline.stop(status)
        sink.subscriber.pipeline.stop("cancelled")  # the first word counts
        await settle()
        assert pages.running == {}
        sink.read()
        summary = check(sink, 5)
        assert summary["status"] == status
        assert summary["unfinished"] == [[0, 0], [2, 4]]

    turned(run())


@in_loop
async def test_a_stop_before_the_first_step_still_gives_a_summary() -> None:
    house = House()
    sink = house.crawl(Pages(), ["a"])
    house.module.stop_all("shutdown")
    await settle()
    sink.read()
    assert check(sink, 1)["status"] == "shutdown"


@in_loop
async def test_a_fault_of_ours_fails_the_stream_and_says_so() -> None:
    house, pages = House(), Pages()
    sink = house.crawl(pages, ["a", "b"])
    await settle()
    pages.crash("a", ZeroDivisionError("a bug"))
    await settle()
    sink.read()
    assert [frame["type"] for frame in sink.frames] == ["metadata", "error", "summary"]
    assert sink.frames[1]["error"] == {
        "type": "internal_error", "message": "the stream failed by a fault of the server", "retryable": False,
    }  # fmt: skip
    assert check(sink, 2)["status"] == "failed"
    assert house.module.health.figures().error_rate == 1.0
    assert house.module.health.status() == "unhealthy"


@in_loop
async def test_a_client_that_leaves_ends_its_stream_and_no_other() -> None:
    house, pages, others = House(), Pages(), Pages()
    gone = house.crawl(pages, ["a", "b"])
    other = house.crawl(others, ["c"])
    await settle()
    assert gone.subscriber is not None
    gone.abandon()
    await settle()
    assert pages.running == {}
    assert gone.subscriber.pipeline.lifecycle.state is State.CLOSED
    assert house.module.health.figures().active_streams == 1
    others.finish("c")
    await settle()
    other.read()
    assert check(other, 1)["status"] == "completed"
    assert house.module.health.figures().memory_bytes == 0


@in_loop
async def test_who_does_not_read_holds_nobody_else() -> None:
    house, pages, others = House(BUFFER__INITIAL_FRAMES_NDJSON=4), Pages(), Pages()
    stuck = house.crawl(pages, [str(index) for index in range(100)])
    other = house.crawl(others, [str(index) for index in range(100)])
    for _ in range(200):
        await settle()
        for running in (pages, others):
            for url in list(running.running):
                running.finish(url)
        await settle()
        other.read()
    assert check(other, 100)["status"] == "completed"
    assert len(pages.started) == 3  # with the metadata four frames, all unread
    stuck.read()
    await settle()
    assert len(pages.started) > 3


class TestTotal:
    def test_over_it_no_url_is_started_until_somebody_reads(self) -> None:
        async def run() -> None:
            house = House(BUFFER__TOTAL_BYTES=70_000, STREAM__MAX_FRAME_BYTES=4096)
            large, pages = Pages(), Pages()
            hog = house.crawl(large, ["a", "b"])
            other = house.crawl(pages, [str(index) for index in range(5)], concurrency=1)
            await settle()
            other.read()
            large.finish("a", text="x" * 80_000)
            await settle()
            with pytest.raises(Overloaded):
                house.crawl(Pages(), ["x"])
            pages.finish("0")
            await settle()
            assert pages.started == ["0"]  # its own frame is unread, so it holds something
            assert other.subscriber is not None
            assert other.subscriber.pipeline.lifecycle.state is State.FLUSHING
            other.read()
            await settle()
            assert pages.started == ["0", "1"]  # nothing unread, nothing running: one frame more
            hog.read()
            await settle()
            assert other.subscriber.pipeline.lifecycle.state is State.ACTIVE
            for url in "1234":
                pages.finish(url)
                await settle()
            large.finish("b")
            await settle()
            hog.read()
            other.read()
            assert check(hog, 2)["status"] == check(other, 5)["status"] == "completed"
            assert house.module.health.figures().memory_bytes == 0

        turned(run())

    def test_over_it_a_stream_runs_one_url_however_many_it_might(self) -> None:
        async def run() -> None:
            house = House(BUFFER__TOTAL_BYTES=70_000, STREAM__MAX_FRAME_BYTES=4096)
            large, pages = Pages(), Pages()
            hog = house.crawl(large, ["a"])
            await settle()
            other = house.crawl(pages, [str(index) for index in range(9)], concurrency=3)
            large.finish("a", text="x" * 80_000)
            await settle()
            for url in list(pages.running):  # started before
                pages.finish(url)
            await settle()
            assert len(pages.started) == 3
            for started in (4, 5):
                other.read()
                await settle()
                other.read()
                await settle()
                assert (len(pages.started), len(pages.running)) == (started, 1)
                pages.finish(pages.started[-1])
                await settle()
            hog.read()
            await settle()
            assert len(pages.running) == 3

        turned(run())

    def test_a_stream_that_ends_while_it_waits_is_forgotten(self) -> None:
        async def run() -> None:
            house = House(BUFFER__TOTAL_BYTES=70_000, STREAM__MAX_FRAME_BYTES=4096)
            large, pages = Pages(), Pages()
            hog, sink = house.crawl(large, ["a"]), house.crawl(pages, ["a", "b"], concurrency=1)
            await settle()
            large.finish("a", text="x" * 80_000)
            pages.finish("a")
            await settle()
            assert sink.subscriber is not None
            pipeline = sink.subscriber.pipeline
            assert pipeline.lifecycle.state is State.FLUSHING
            sink.abandon()
            await settle()
            assert pipeline.lifecycle.state is State.CLOSED
            gone = weakref.ref(pipeline)
            del pipeline, sink
            gc.collect()
            assert gone() is None
            assert not hog.ended

        turned(run())

    def test_many_streams_over_it_all_come_to_their_end(self) -> None:
        async def run() -> None:
            house = House(BUFFER__TOTAL_BYTES=66_000, STREAM__MAX_FRAME_BYTES=4096)
            sinks, running = [], []
            for _ in range(10):
                pages = Pages()
                sinks.append(house.crawl(pages, [str(index) for index in range(20)]))
                running.append(pages)
            for _ in range(1000):
                await settle()
                for pages in running:
                    for url in list(pages.running):
                        pages.finish(url, text="x" * 20_000)
                await settle()
                for sink in sinks:
                    sink.read(1)
                if all(sink.ended for sink in sinks):
                    break
            for sink in sinks:
                assert check(sink, 20)["status"] == "completed"

        turned(run())


class TestFirehose:
    @pytest.mark.parametrize("size", [700, 5000, 100_000])
    def test_frames_have_about_the_size_that_was_asked_for(self, size: int) -> None:
        async def run() -> None:
            sink = House(STREAM__MAX_FRAME_BYTES=200_000).firehose(50, size)
            while not sink.ended:
                sink.read(16_384)
            lines = b"".join(sink.written).splitlines()
            assert all(abs(len(line) - size) <= 32 for line in lines[1:-1])
            check(sink, 50)

        turned(run())

    @given(
        frames=st.integers(1, 2000),
        window=st.integers(1, 300),
        octets=st.integers(1, 100_000),
        quantum=st.integers(1, 50_000),
    )
    def test_stays_within_the_window_and_a_burst(self, frames: int, window: int, octets: int, quantum: int) -> None:
        async def run() -> None:
            house = House(BUFFER__INITIAL_FRAMES_NDJSON=window, BUFFER__INITIAL_BYTES=octets)
            sink = house.firehose(frames)
            assert sink.subscriber is not None
            while not sink.ended:
                sink.read(quantum)
                assert sink.subscriber.unread_frames <= max(window, 1) + 1  # and the summary
                assert sink.subscriber.unread_bytes <= octets + 2000
            check(sink, frames)

        turned(run())

    @in_loop
    async def test_a_rate_is_kept_by_the_clock(self) -> None:
        house = House()
        sink = house.firehose(100, rate=10)
        sink.read()
        assert sink.subscriber is not None
        processor = sink.subscriber.pipeline._processor
        for second in range(1, 4):
            house.now = second * 1.0
            processor._tick()  # what its timer does
            sink.read()
            assert len(sink.frames) == 1 + second * 10 + 1
        sink.subscriber.pipeline.stop("cancelled")
        sink.read()
        assert check(sink, 100)["unfinished"] == [[31, 99]]


class TestAdmission:
    @in_loop
    async def test_the_limits(self) -> None:
        house = House(STREAM__MAX_CONCURRENT=3, STREAM__MAX_PER_CLIENT=1)
        first = house.firehose(1, client="192.0.2.1")
        with pytest.raises(RateLimited) as refused:
            house.firehose(1, client="192.0.2.1")
        assert refused.value.retry_after_s == 1
        house.firehose(1, client="192.0.2.2")
        house.firehose(1)
        with pytest.raises(Overloaded):
            house.firehose(1)
        for _ in range(4):
            first.read()
        assert first.ended
        again = house.firehose(1, client="192.0.2.1")
        assert again.subscriber is not None
        house.module.stop_admitting()
        with pytest.raises(ShuttingDown):
            house.firehose(1)

    @in_loop
    async def test_settings_that_do_not_fit_each_other_stop_the_start(self) -> None:
        with pytest.raises(ConfigError, match="BUFFER__TOTAL_BYTES=5000"):
            House(BUFFER__TOTAL_BYTES=5000).module.validate()


class TestDelivery:
    @in_loop
    async def test_head_and_metadata_are_one_write(self) -> None:
        sink = House().crawl(Pages(), ["a"])
        assert sink.subscriber is not None
        sink.subscriber.serve(16_384, b"HEAD\r\n\r\n")
        assert len(sink.written) == 1
        assert sink.written[0].startswith(b'HEAD\r\n\r\n{"type":"metadata"')

    @in_loop
    async def test_a_quantum_bounds_a_write_and_a_large_frame_passes_alone(self) -> None:
        house, pages = House(), Pages()
        sink = house.crawl(pages, ["a", "b", "c"])
        sink.read()
        await settle()
        for url in "abc":
            pages.finish(url, text="x" * 9000)
        await settle()
        sink.read(20_000)
        assert len(sink.written[-1].splitlines()) == 2
        sink.read(10)
        assert len(sink.written[-1].splitlines()) == 1
        sink.read(10)
        assert check(sink, 3)["successful"] == 3


@in_loop
async def test_closing_ends_what_is_left_read_or_not() -> None:
    house, pages = House(), Pages()
    house.module.upkeep.start()
    sinks = [house.crawl(pages, [str(at)]) for at in range(5)]
    await settle()
    assert not await house.module.wait_closed(0.01)
    await house.module.close()
    assert await house.module.wait_closed(0.01)
    assert pages.running == {}
    assert all(sink.subscriber.pipeline.status == "shutdown" for sink in sinks if sink.subscriber)
