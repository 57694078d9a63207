"""What all streams hold together: who is asked for it, who is told of it, and when somebody is refused."""

from __future__ import annotations

from typing import Any

import pytest
from doubles import Pages, RecordingSink, in_order, settle
from house import House, in_loop

from fastmesh.errors import Overloaded
from fastmesh.streaming.fill.processor import StreamProcessor
from fastmesh.streaming.pipeline import StreamingPipeline

TOTAL = 1_000_000


class Crawl:
    """A crawl of *count* pages of *size* bytes, all of which end as soon as they are started."""

    def __init__(self, house: House, count: int, size: int, *, concurrency: int = 4, **opening: Any) -> None:
        self.pages = Pages()
        self.count, self.size, self.concurrency = count, size, concurrency
        self.pipeline = house.begin(self._fill, count, kept=True, **opening)
        self.sink = house.attach(self.pipeline)

    def _fill(self, pipeline: StreamingPipeline) -> StreamProcessor:
        urls = [str(at) for at in range(self.count)]
        return StreamProcessor(pipeline, in_order(self.pages.execute), self.concurrency, urls=urls)

    async def go(self) -> None:
        """As far as it goes without a reader."""
        await settle()
        while self.pages.running:
            for url in list(self.pages.running):
                self.pages.finish(url, text="x" * self.size)
            await settle()

    async def read(self) -> None:
        """To its end."""
        while not self.sink.ended:
            self.sink.read()
            await self.go()


def house(**settings: Any) -> House:
    return House(
        **{
            "BUFFER__TOTAL_BYTES": TOTAL,
            "STREAM__MAX_FRAME_BYTES": 300_000,
            "STREAM__JOURNAL_BYTES": TOTAL,
            "BUFFER__INITIAL_BYTES": 60_000,
            "BUFFER__MAX_BYTES": 100_000,
        }
        | settings
    )


def held(house: House) -> int:
    return house.module.health.figures().memory_bytes


@in_loop
async def test_after_it_was_passed_once_closed_streams_still_make_room_for_new_ones() -> None:
    inn = house()
    large = Crawl(inn, 16, 100_000, concurrency=16)
    await large.go()
    assert held(inn) > TOTAL * 3 // 2  # they ran already
    await large.read()
    for _ in range(60):
        await Crawl(inn, 4, 10_000).read()
        assert held(inn) < TOTAL


@in_loop
async def test_a_new_stream_has_what_is_kept_behind_readers_before_it_is_refused() -> None:
    inn = house()
    crawl = Crawl(inn, 39, 20_000)
    while len(crawl.pages.started) < 38:
        await crawl.go()
        crawl.sink.read()
    assert crawl.pipeline.retention.behind_bytes > TOTAL // 2
    hog = Crawl(inn, 10, 90_000, concurrency=10)
    await hog.go()
    for _ in range(3):
        await Crawl(inn, 1, 10).read()


@in_loop
async def test_it_is_refused_when_all_is_waited_for_and_not_a_moment_longer() -> None:
    inn = house()
    hogs = [Crawl(inn, 3, 200_000) for _ in range(2)]
    for hog in hogs:
        await hog.go()
    with pytest.raises(Overloaded, match="all that they may"):
        Crawl(inn, 1, 10)
    hogs[0].sink.read()
    await Crawl(inn, 1, 10).read()


@in_loop
async def test_who_reads_a_closed_stream_pins_a_window_of_it_at_most() -> None:
    inn = house(STREAM__DETACHED_BYTES=400_000)
    late = []
    for _ in range(3):
        crawl = Crawl(inn, 38, 10_000, detached=True)
        crawl.sink.leave()
        await crawl.go()
        assert crawl.pipeline.lifecycle.closed
        late.append(inn.attach(crawl.pipeline))
        late[-1].read(1)  # and no more
    await Crawl(inn, 1, 10).read()
    assert held(inn) < TOTAL
    for sink in late:
        sink.read()
        frames = sink.frames
        missed = [frame["to_seq"] - frame["from_seq"] + 1 for frame in frames if frame["type"] == "gap"]
        assert (frames[-1]["type"], sink.ended) == ("summary", True)
        assert len(frames) - len(missed) + sum(missed) == 40
    assert any(frame["type"] == "gap" for sink in late for frame in sink.frames)
    assert sum(frame["type"] == "result" for frame in late[0].frames) >= 9  # what one window holds


@in_loop
async def test_who_waits_goes_on_when_closed_streams_are_let_go_of_later() -> None:
    """While the total is passed streams close: they make room as soon as somebody looks, and somebody does."""
    inn = house()
    hog, small = Crawl(inn, 11, 95_000, concurrency=11), Crawl(inn, 40, 10)
    await hog.go()
    assert held(inn) > TOTAL
    assert await waits(small)
    hog.sink.read()
    hog.sink.read()
    assert hog.pipeline.lifecycle.closed
    inn.module.upkeep.tick(inn.now, sample=False)
    await settle()
    assert small.pages.running


async def waits(crawl: Crawl) -> bool:
    await settle()
    started = len(crawl.pages.started)
    await crawl.go()
    crawl.sink.paused = True
    return len(crawl.pages.started) <= started + 1


@in_loop
async def test_a_firehose_that_waits_takes_no_room_while_others_are_given_up() -> None:
    """Who is told that there is room appends, and what it appends may be what passes the total again."""
    inn = House(
        BUFFER__TOTAL_BYTES=200_000,
        STREAM__MAX_FRAME_BYTES=50_000,
        BUFFER__INITIAL_BYTES=60_000,
        BUFFER__MAX_BYTES=150_000,
        BUFFER__INITIAL_FRAMES_NDJSON=2000,
        STREAM__RESUME_WINDOW_S=10,
    )
    hose = inn.firehose(10_000, 700)
    hose.read()
    hose.read(1000)
    short = [Crawl(inn, 1, 5_000, detached=True) for _ in range(2)]
    for crawl in short:
        await crawl.go()
    fill = []
    for size, until in ((20_000, 170_000), (2_000, 194_000), (500, 200_000)):
        while held(inn) < until:
            fill.append(Crawl(inn, 1, size))
            await fill[-1].go()
    hose.read(1000)  # it waits for the total now
    for crawl in short:
        await crawl.read()
    inn.now += 20
    for pipeline in list(inn.module.registry.active.values()):
        pipeline.pacer.since = inn.now  # the others stay
    made = _last(hose)
    inn.module.upkeep.tick(inn.now, sample=False)
    assert not inn.module.registry.closed
    assert _last(hose) == made  # told in a turn of its own
    await settle()
    assert _last(hose) > made


def _last(sink: RecordingSink) -> int:
    assert sink.subscriber is not None
    return sink.subscriber.pipeline.journal.last_seq


@in_loop
async def test_what_is_kept_behind_readers_comes_back_although_closed_streams_keep_the_total_full() -> None:
    inn = house()
    buffers = inn.module.buffers

    async def run(seconds: int) -> None:
        for _ in range(seconds):
            await Crawl(inn, 4, 10_000).read()
            inn.module.upkeep.tick(inn.now, sample=True)

    await run(60)
    buffers.keep_behind(0)  # memory was short once
    await run(60)
    assert held(inn) > TOTAL * 3 // 4
    assert buffers.behind_limit >= TOTAL


@in_loop
async def test_readers_that_take_a_place_and_read_nothing_do_not_add_up() -> None:
    inn = house(STREAM__JOURNAL_BYTES=10_000, BUFFER__TOTAL_BYTES=100 * TOTAL)
    crawl = Crawl(inn, 400, 20_000)
    crawl.sink.read()
    await crawl.go()
    reader = crawl.sink
    for _ in range(20):
        last = crawl.pipeline.journal.last_seq
        heir = inn.attach(crawl.pipeline, after=last)
        reader.leave()
        assert crawl.pipeline.pacer.holder is heir.subscriber
        reader = heir
        await crawl.go()
    ring = crawl.pipeline.journal.ring
    assert ring.appended_bytes - ring.evicted_bytes <= 10_000 + 60_000 + 5 * 21_000
