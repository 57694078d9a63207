"""StreamingModule: its limits, what it does by the clock, what it says of its health, and how it ends."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from typing import NoReturn

import pytest
from doubles import Pages, RecordingSink, settle, turned
from house import House, check, in_loop
from structlog.testing import capture_logs

from fastmesh.errors import ApiError, ConfigError, Overloaded, RateLimited, ShuttingDown
from fastmesh.streaming.pipeline import StreamingPipeline


async def ended(house: House, *, failed: bool) -> None:
    """One stream more that came to its end."""
    pages = Pages()
    sink = house.crawl(pages, ["a"])
    await settle()
    if failed:
        pages.crash("a", ZeroDivisionError("a bug"))
    else:
        pages.finish("a")
    await settle()
    sink.read()
    assert sink.ended


def heartbeats(sink: RecordingSink) -> int:
    return sum(frame["type"] == "heartbeat" for frame in sink.frames)


class TestLimits:
    @in_loop
    async def test_so_many_streams_at_once_and_one_more_when_one_has_ended(self) -> None:
        house = House(STREAM__MAX_CONCURRENT=2)
        first, _ = house.firehose(1), house.firehose(1)
        with pytest.raises(Overloaded, match="2 streams are open") as refused:
            house.firehose(1)
        assert (refused.value.status, refused.value.retryable, refused.value.retry_after_s) == (503, True, 1)
        while not first.ended:
            first.read()
        house.firehose(1)

    @in_loop
    async def test_a_client_has_its_own_count_and_nobody_has_none(self) -> None:
        house = House(STREAM__MAX_PER_CLIENT=2)
        streams = [house.firehose(1, client=client) for client in ("a", "a", "b", "b", None, None, None)]
        for client in ("a", "b"):
            with pytest.raises(RateLimited) as refused:
                house.firehose(1, client=client)
            assert (refused.value.status, refused.value.retry_after_s) == (429, 1)
        assert streams[0].subscriber is not None
        streams[0].abandon()
        house.firehose(1, client="a")
        with pytest.raises(RateLimited):
            house.firehose(1, client="a")
        with pytest.raises(RateLimited):
            house.firehose(1, client="b")

    @in_loop
    async def test_clients_that_have_none_are_forgotten(self) -> None:
        house = House()
        for client in map(str, range(50)):
            sink = house.firehose(1, client=client)
            assert sink.subscriber is not None
            sink.abandon()
        assert len(house.module.registry._clients) == 0

    @in_loop
    async def test_draining_refuses_the_new_and_leaves_the_open(self) -> None:
        house = House(STREAM__MAX_CONCURRENT=1)
        sink = house.firehose(3)
        house.module.stop_admitting()
        with pytest.raises(ShuttingDown) as refused:
            house.firehose(1)
        assert (refused.value.status, refused.value.retry_after_s) == (503, 5)
        while not sink.ended:
            sink.read()
        assert check(sink, 3)["status"] == "completed"

    @pytest.mark.parametrize(
        ("settings", "client", "refusal"),
        [
            ({"STREAM__MAX_CONCURRENT": 1}, None, Overloaded),
            (
                {"STREAM__MAX_PER_CLIENT": 1, "STREAM__RATE_LIMIT_RPS": 0.001, "STREAM__RATE_LIMIT_BURST": 2},
                "a",
                RateLimited,
            ),
        ],
    )
    def test_what_was_refused_left_nothing(
        self, settings: dict[str, float], client: str | None, refusal: type[ApiError]
    ) -> None:
        async def run() -> None:
            house = House(**settings)
            sink = house.firehose(1, client=client)
            before = house.module.health.figures()
            for _ in range(3):
                with pytest.raises(refusal):
                    house.firehose(1, client=client)
            assert house.module.health.figures() == before
            assert sink.subscriber is not None
            sink.abandon()
            house.firehose(1, client=client)

        turned(run())

    @in_loop
    async def test_ids_are_128_random_bits_after_the_node(self) -> None:
        house = House()
        readers = [house.firehose(1).subscriber for _ in range(600)]
        ids = [reader.pipeline.id for reader in readers if reader is not None]
        assert len(set(ids)) == 600
        nodes, randoms = {name.rpartition("-")[0] for name in ids}, [name.rpartition("-")[2] for name in ids]
        assert len(nodes) == 1
        # Each of the 32 digits takes all of its 16 values, but for a chance of 8e-15.
        assert [len(set(digits)) for digits in zip(*randoms, strict=True)] == [16] * 32

    def test_a_stream_that_cannot_be_made_is_not_open(self) -> None:
        async def run() -> None:
            house = House()

            def fault(_: StreamingPipeline) -> None:
                raise ZeroDivisionError("a bug")

            with pytest.raises(ZeroDivisionError):
                house.open(fault, 1, client="a")
            figures = house.module.health.figures()
            assert (figures.active_streams, figures.active_connections, figures.memory_bytes) == (0, 0, 0)
            assert house.metrics.protocols["ndjson"].active == 0
            assert await house.module.wait_closed(1)

        turned(run())


class TestValidate:
    @in_loop
    async def test_the_defaults_fit_each_other(self) -> None:
        House().module.validate()

    @pytest.mark.parametrize(
        ("window", "frame", "total", "fits"),
        [(5000, 4096, 5000, True), (5000, 4096, 4999, False), (1000, 6000, 6000, True), (1000, 6000, 5999, False)],
    )
    def test_the_total_holds_one_window_and_one_frame(self, window: int, frame: int, total: int, fits: bool) -> None:
        async def run() -> None:
            module = House(
                BUFFER__INITIAL_BYTES=window, STREAM__MAX_FRAME_BYTES=frame, BUFFER__TOTAL_BYTES=total
            ).module
            if fits:
                module.validate()
                return
            with pytest.raises(ConfigError, match=rf"BUFFER__TOTAL_BYTES={total} .* want {max(window, frame)} or more"):
                module.validate()

        turned(run())


class TestByTheClock:
    @in_loop
    async def test_a_heartbeat_after_each_silence_of_the_interval(self) -> None:
        house = House(STREAM__HEARTBEAT_S=15)
        house.module.upkeep.start()
        pages = Pages()
        sink = house.crawl(pages, ["a", "b"])
        sink.read()
        await asyncio.sleep(14.9)
        assert heartbeats(sink) == 0
        await asyncio.sleep(0.3)
        assert heartbeats(sink) == 1
        assert sink.frames[-1].keys() == {"type", "stream_id", "timestamp"}
        await asyncio.sleep(5)
        pages.finish("a")
        await settle()
        sink.read()
        await asyncio.sleep(14.8)  # a frame is no silence
        assert heartbeats(sink) == 1
        await asyncio.sleep(15.4)
        assert heartbeats(sink) == 3
        pages.finish("b")
        await settle()
        sink.read()
        await asyncio.sleep(60)
        assert heartbeats(sink) == 3
        assert check_without_heartbeats(sink) == "completed"
        await house.module.close()

    @in_loop
    async def test_no_heartbeat_into_a_paused_sink_or_before_what_waits(self) -> None:
        house = House(STREAM__HEARTBEAT_S=1)
        house.module.upkeep.start()
        paused, unread = house.crawl(Pages(), ["a"]), house.crawl(Pages(), ["a"])
        paused.read()
        paused.paused = True
        await asyncio.sleep(10)
        assert (heartbeats(paused), unread.written) == (0, [])
        paused.paused = False
        await asyncio.sleep(0.2)
        assert heartbeats(paused) == 1
        await house.module.close()

    @in_loop
    async def test_a_deadline_runs_whether_anybody_reads_or_not(self) -> None:
        house, pages = House(), Pages()
        sink = house.crawl(pages, ["a", "b"], deadline_s=100.0)
        await settle()
        pages.finish("b")
        await asyncio.sleep(99.9)
        assert list(pages.running) == ["a"]
        await asyncio.sleep(0.2)
        assert pages.running == {}
        sink.read()
        summary = check(sink, 2)
        assert (summary["status"], summary["unfinished"]) == ("deadline", [[0, 0]])
        assert summary["total_processing_time_ms"] == pytest.approx(100_000)

    @in_loop
    async def test_a_deadline_does_not_keep_an_ended_stream(self) -> None:
        sink = House().firehose(1, deadline_s=1e6)
        while not sink.ended:
            sink.read()
        assert sink.subscriber is not None
        gone = weakref.ref(sink.subscriber.pipeline)
        del sink
        gc.collect()
        assert gone() is None

    @pytest.mark.parametrize("slow_ms", [100, 500])
    @in_loop
    async def test_a_client_that_does_not_read_is_slow_until_a_second_after_it_reads(self, slow_ms: int) -> None:
        house = House(BUFFER__SLOW_MS=slow_ms)
        house.module.upkeep.start()
        pages = Pages()
        sink = house.crawl(pages, [str(at) for at in range(30)], concurrency=30)
        await settle()
        for url in list(pages.running):
            pages.finish(url)
        await settle()
        await asyncio.sleep(slow_ms / 1000 - 0.05)
        assert house.module.health.figures().slow_clients == 0
        await asyncio.sleep(0.3)
        assert house.module.health.figures().slow_clients == 1
        sink.read()
        await asyncio.sleep(1.2)
        assert house.module.health.figures().slow_clients == 0
        await house.module.close()

    @in_loop
    async def test_how_late_the_loop_was_shows_for_a_second(self) -> None:
        house = House()
        house.module.upkeep.start()
        await asyncio.sleep(5)
        assert house.module.health.figures().loop_lag_ms == 0.0
        house.now += 0.3  # something held the loop: whatever is due comes so late
        await asyncio.sleep(0.1)
        assert 250 <= house.module.health.figures().loop_lag_ms <= 300
        assert house.module.health.loop()["lag_ms"] == house.module.health.figures().loop_lag_ms
        await asyncio.sleep(1.2)
        assert house.module.health.figures().loop_lag_ms == 0.0
        await house.module.close()

    @in_loop
    async def test_what_raises_for_one_is_done_for_all_others_and_health_says_so(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Heartbeats, windows that are over, closed streams: of each kind one is broken."""
        house = House(STREAM__HEARTBEAT_S=15, STREAM__RESUME_WINDOW_S=10)
        module = house.module
        module.upkeep.start()
        readers = [house.crawl(Pages(), ["a"]) for _ in range(3)]
        left = [house.crawl(Pages(), ["a"]) for _ in range(3)]
        for sink in (*readers, *left):
            sink.read()
        assert module.health.maintenance() == {"status": "healthy", "recent_bugs": 0, "bugs": 0}

        def broken(*_: object) -> NoReturn:
            raise KeyError("broken")

        readers[0].beat = broken  # type: ignore[method-assign]
        first, window_over = left[0].subscriber, StreamingPipeline.window_over
        monkeypatch.setattr(
            StreamingPipeline,
            "window_over",
            lambda pipeline: broken() if first and pipeline is first.pipeline else window_over(pipeline),
        )
        for sink in left:
            sink.leave()
        with capture_logs():  # they are many
            await asyncio.sleep(16)
        assert [len(sink.frames) for sink in readers] == [1, 2, 2]
        assert [sink.subscriber and sink.subscriber.pipeline.status for sink in left] == ["", "cancelled", "cancelled"]
        assert module.health.maintenance()["status"] == "degraded"
        assert module.health.status() == "healthy"
        assert house.metrics.bugs.counts.keys() == {"heartbeats", "windows"}
        with capture_logs():
            await asyncio.sleep(15)
        assert [len(sink.frames) for sink in readers] == [1, 3, 3]
        assert len(module.registry.all()) == 4  # those that were cancelled are forgotten
        await module.close()

    @in_loop
    async def test_a_step_that_raises_keeps_no_other_from_being_done(self) -> None:
        house = House(STREAM__HEARTBEAT_S=15)
        house.module.upkeep.start()
        sink = house.crawl(Pages(), ["a"])
        sink.read()

        def broken(*_: object) -> NoReturn:
            raise KeyError("broken")

        house.module.upkeep._count_drops = broken  # type: ignore[method-assign]
        house.module.buffers.relax = broken  # type: ignore[method-assign]
        with capture_logs():
            await asyncio.sleep(40)
        assert len(sink.frames) == 3
        assert house.module.health.maintenance()["status"] == "degraded"
        await house.module.close()

    @in_loop
    async def test_how_full_windows_are_is_sampled_once_a_second(self) -> None:
        house = House(BUFFER__INITIAL_FRAMES_NDJSON=4)
        house.module.upkeep.start()
        house.crawl(Pages(), ["a"])
        await asyncio.sleep(10.05)
        samples = dict(zip(house.metrics.utilization.bounds, house.metrics.utilization.counts, strict=False))
        assert samples == dict.fromkeys(house.metrics.utilization.bounds, 0) | {0.25: 10}  # the metadata, of 4 frames
        await house.module.close()


def check_without_heartbeats(sink: RecordingSink) -> str:
    """The status of a stream whose durable frames have no hole."""
    frames = [frame for frame in sink.frames if frame["type"] != "heartbeat"]
    assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1))
    return str(frames[-1]["status"])


class TestHealth:
    @pytest.mark.parametrize(
        ("failed", "of", "status", "healthy"),
        [
            (0, 0, "healthy", True),
            (0, 20, "healthy", True),
            (1, 20, "healthy", True),
            (1, 19, "degraded", True),
            (2, 20, "degraded", True),
            (2, 19, "unhealthy", False),
        ],
    )
    def test_over_5_percent_failed_is_degraded_and_over_10_unhealthy_for_a_minute(
        self, failed: int, of: int, status: str, healthy: bool
    ) -> None:
        async def run() -> None:
            house = House()
            house.module.upkeep.start()
            for number in range(of):
                await ended(house, failed=number < failed)
            figures = house.module.health.figures()
            assert (figures.status, figures.error_rate) == (status, round(failed / of, 4) if of else 0.0)
            assert (house.module.health.status() != "unhealthy") is healthy
            await asyncio.sleep(60.5)
            assert (house.module.health.figures().error_rate, house.module.health.status() != "unhealthy") == (
                0.0,
                True,
            )
            await house.module.close()

        turned(run())

    @in_loop
    async def test_clients_that_leave_are_no_failures(self) -> None:
        house = House()
        for _ in range(5):
            sink = house.firehose(1)
            assert sink.subscriber is not None
            sink.abandon()
        assert house.module.health.figures().error_rate == 0.0

    @in_loop
    async def test_unhealthy_when_nobody_looks_after_it_any_more(self) -> None:
        house = House()
        house.module.upkeep.start()
        assert house.module.health.status() != "unhealthy"
        house.module.upkeep._tasks[0].cancel()
        await settle()
        assert house.module.health.status() == "unhealthy"
        await house.module.close()

    @in_loop
    async def test_figures_are_what_is_open(self) -> None:
        house, pages = House(), Pages()
        reading, leaving = house.crawl(pages, ["a"]), house.crawl(pages, ["b"])
        await settle()
        figures = house.module.health.figures()
        assert (figures.active_streams, figures.active_connections) == (2, 2)
        assert figures.memory_bytes > 0
        assert leaving.subscriber is not None
        leaving.abandon()
        figures = house.module.health.figures()
        assert (figures.active_streams, figures.active_connections) == (2, 1)  # its page has still to be put away
        await settle()
        assert house.module.health.figures().active_streams == 1
        assert reading.subscriber is not None


class TestItsEnd:
    @in_loop
    async def test_stop_all_tells_every_reader_why(self) -> None:
        house, pages = House(), Pages()
        sinks = [house.crawl(pages, [f"{at}a", f"{at}b"]) for at in range(5)]
        await settle()
        pages.finish("3a")
        await settle()
        house.module.stop_all("shutdown")
        await settle()
        for at, sink in enumerate(sinks):
            sink.read()
            summary = check(sink, 2)
            assert (summary["status"], summary["successful"]) == ("shutdown", at == 3)
        assert pages.running == {}

    @in_loop
    async def test_waiting_ends_when_the_last_is_read_or_the_time_is_over(self) -> None:
        house = House()
        assert await house.module.wait_closed(1)  # none was opened
        sink = house.firehose(1)
        began = house.now
        assert not await house.module.wait_closed(30)
        assert house.now - began == pytest.approx(30)

        async def read_later() -> None:
            await asyncio.sleep(5)
            while not sink.ended:
                sink.read()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(read_later())
            assert await house.module.wait_closed(30)
        assert house.now - began == pytest.approx(35)
        house.firehose(1)
        assert not await house.module.wait_closed(1)

    @in_loop
    async def test_closing_leaves_no_task_and_no_byte(self) -> None:
        house, pages = House(), Pages()
        house.module.upkeep.start()
        for at in range(5):
            house.crawl(pages, [str(at)])
            house.firehose(100, rate=1.0)
        await settle()
        await house.module.close()
        await settle()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        figures = house.module.health.figures()
        assert (figures.active_streams, figures.active_connections, figures.memory_bytes) == (0, 0, 0)


@in_loop
async def test_the_turned_clock_takes_no_time() -> None:
    began = time.monotonic()
    await asyncio.sleep(600)
    assert asyncio.get_running_loop().time() == 600
    assert time.monotonic() - began < 60


def test_who_would_wait_for_ever_is_told() -> None:
    with pytest.raises(RuntimeError, match="nothing is left to happen"):
        turned(asyncio.Event().wait())  # type: ignore[arg-type]
