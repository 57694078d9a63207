"""on_slow: what a stuck reader is not sent, that it is named, and that a client which reads loses nothing."""

from __future__ import annotations

from typing import Any

import pytest
from doubles import Pages, RecordingSink, in_order, settle, turned
from house import House, in_loop
from hypothesis import given
from hypothesis import strategies as st

from fastmesh.streaming.dropping import DropPolicy
from fastmesh.streaming.fill.processor import StreamProcessor
from fastmesh.streaming.pacer import Place
from fastmesh.streaming.pipeline import StreamingPipeline

THRESHOLD = 10
CALM = {"stuck": True, "lag_frames": 0, "lag_bytes": 0, "slow": False, "under_backpressure": False}


class TestPolicy:
    @pytest.mark.parametrize(
        ("facts", "left_out"),
        [
            ({}, False),
            ({"lag_frames": THRESHOLD}, False),
            ({"lag_frames": THRESHOLD + 1}, True),
            ({"lag_frames": THRESHOLD // 2, "slow": True}, False),
            ({"lag_frames": THRESHOLD // 2 + 1, "slow": True}, True),
            ({"lag_bytes": 1000}, False),
            ({"lag_bytes": 1001}, True),
            ({"under_backpressure": True}, True),
        ],
    )
    def test_bounds(self, facts: dict[str, Any], left_out: bool) -> None:
        assert DropPolicy(THRESHOLD, 1000).leaves_out(**CALM | facts) is left_out

    @given(lag=st.integers(0, 10**9), slow=st.booleans(), backpressure=st.booleans(), outcomes=st.lists(st.booleans()))
    def test_who_takes_bytes_loses_nothing(
        self, lag: int, slow: bool, backpressure: bool, outcomes: list[bool]
    ) -> None:
        policy = DropPolicy(THRESHOLD, 1000)
        for out in outcomes:
            policy.left_out() if out else policy.sent(1)
        assert not policy.leaves_out(
            stuck=False, lag_frames=lag, lag_bytes=lag, slow=slow, under_backpressure=backpressure
        )

    def test_over_15_percent_of_the_last_50_go_on(self) -> None:
        policy = DropPolicy(THRESHOLD, 1000)
        for _ in range(7):
            policy.left_out()
        assert not policy.leaves_out(**CALM)
        policy.left_out()
        assert policy.leaves_out(**CALM)
        policy.sent(42)
        assert policy.leaves_out(**CALM)
        policy.sent(1)
        assert not policy.leaves_out(**CALM)

    def test_who_has_read_all_begins_anew(self) -> None:
        policy = DropPolicy(THRESHOLD, 1000)
        for _ in range(50):
            policy.left_out()
        assert policy.leaves_out(**CALM)
        policy.caught_up()
        assert not policy.leaves_out(**CALM)
        assert policy.leaves_out(**CALM | {"under_backpressure": True})


class Crawl:
    """200 pages, all of which end at once."""

    def __init__(self, on_slow: str, **opening: Any) -> None:
        self.house = House(
            BUFFER__DROP_THRESHOLD=THRESHOLD,
            BUFFER__INITIAL_FRAMES_NDJSON=5,
            STREAM__JOURNAL_BYTES=1 << 20,
            STREAM__DETACHED_BYTES=10_000,
        )
        self.pages = Pages()
        self.pipeline = self.house.begin(self._fill, 200, kept=True, on_slow=on_slow, **opening)

    def _fill(self, pipeline: StreamingPipeline) -> StreamProcessor:
        return StreamProcessor(pipeline, in_order(self.pages.execute), 4, urls=[str(at) for at in range(200)])

    async def run(self) -> None:
        await settle()
        while self.pages.running:
            for url in list(self.pages.running):
                self.pages.finish(url)
            await settle()


def told(sink: RecordingSink) -> list[Any]:
    return [f.get("seq") or (f["from_seq"], f["to_seq"], f["reason"]) for f in sink.frames]


@in_loop
async def test_drop_never_waits_and_names_what_was_left_out() -> None:
    crawl = Crawl("drop")
    sink = crawl.house.attach(crawl.pipeline)
    sink.read()
    sink.paused = True
    await crawl.run()
    assert crawl.pipeline.status == "completed"  # nobody waited
    assert sink.subscriber is not None
    assert sink.subscriber.unread_frames <= THRESHOLD + 2
    sink.paused = False
    while not sink.ended:
        sink.read()
    last = crawl.pipeline.journal.last_seq
    first = last - THRESHOLD - 1
    assert told(sink) == [1, (2, first, "slow_client"), *range(first + 1, last + 1)]
    assert sink.frames[-1]["status"] == "completed"
    counts = crawl.house.metrics.protocols["ndjson"]
    assert counts.dropped == {"slow_client": first - 1, "expired": 0}
    # It can still be had while it is kept.
    again = crawl.house.attach(crawl.pipeline, after=1)
    again.read()
    assert told(again) == list(range(2, last + 1))


@in_loop
async def test_drop_leaves_nothing_out_for_who_reads() -> None:
    crawl = Crawl("drop")
    sink = crawl.house.attach(crawl.pipeline)
    await settle()
    while not sink.ended:
        sink.read(1)
        for url in list(crawl.pages.running):
            crawl.pages.finish(url)
        await settle()
    assert told(sink) == list(range(1, 203))


@in_loop
async def test_a_client_that_reads_again_loses_no_burst_although_each_frame_pauses_its_transport() -> None:
    """100 KB are over the high-water mark, and ten of them come at once: less than it may lag by."""
    house = House(BUFFER__INITIAL_BYTES=65_536, BUFFER__MAX_BYTES=1 << 20)
    pages, text = Pages(), "x" * 100_000
    sink = house.crawl(pages, [str(at) for at in range(300)], concurrency=10, on_slow="drop")
    reader = sink.subscriber
    assert reader is not None
    dropped = house.metrics.protocols["ndjson"].dropped

    async def burst(reads: bool) -> None:
        """What runs ends within an instant; who *reads* takes a frame as soon as the one before is gone."""
        await settle()
        for url in list(pages.running):
            pages.finish(url, text=text)
            await settle()
            if reads and not sink.paused:
                sink.read(1)
                sink.paused = True
        while reads and reader.unread_frames:
            sink.read(1)
        sink.paused = not reads
        house.now += 0.5

    sink.read()
    sink.paused = True
    for _ in range(8):
        await burst(reads=False)
    assert dropped["slow_client"] > 50
    for _ in range(2):  # a second
        await burst(reads=True)
    before = dropped["slow_client"]
    for _ in range(10):
        await burst(reads=True)
    assert dropped["slow_client"] == before


@in_loop
async def test_a_summary_is_never_left_out() -> None:
    crawl = Crawl("drop")
    sink = crawl.house.attach(crawl.pipeline)
    sink.paused = True
    await crawl.run()
    sink.paused = False
    sink.read()
    assert (told(sink)[0], sink.frames[0]["type"], sink.frames[-1]["type"]) == (1, "metadata", "summary")
    assert sink.ended


@in_loop
async def test_disconnect_cuts_off_before_the_first_would_be_left_out_and_nothing_is_lost() -> None:
    crawl = Crawl("disconnect")
    sink = crawl.house.attach(crawl.pipeline)
    sink.read()
    sink.paused = True
    await crawl.run()
    assert sink.gave_up
    assert crawl.pipeline.pacer.place is Place.LEFT
    assert crawl.pipeline.lifecycle.open  # with nobody attached no URL is started
    assert len(crawl.pages.started) < 20
    back = crawl.house.attach(crawl.pipeline, after=1)
    while not back.ended:
        back.read()
        await crawl.run()
    assert told(sink) + told(back) == list(range(1, 203))


@in_loop
async def test_a_vacant_place_holds_nobody_then() -> None:
    crawl = Crawl("drop")
    opener, other = crawl.house.attach(crawl.pipeline), crawl.house.attach(crawl.pipeline)
    opener.read()
    opener.leave()
    await crawl.run()
    assert crawl.pipeline.status == "completed"
    other.read()
    assert told(other) == list(range(1, 203))


# ── its bounds ───────────────────────────────────────────────────────────────────────────

BEHIND, AHEAD, FRAME = 5000, 8000, 1500


class Bounded:
    """A crawl whose text is held against its bounds, whatever its reader does."""

    def __init__(self, on_slow: str = "drop", **settings: Any) -> None:
        self.house = House(
            **{"STREAM__JOURNAL_BYTES": BEHIND, "BUFFER__INITIAL_BYTES": AHEAD, "STREAM__MAX_FRAME_BYTES": 4096}
            | settings
        )
        self.pages = Pages()
        self.pipeline = self.house.begin(self._fill, 400, kept=True, on_slow=on_slow)
        self.most = 0

    def _fill(self, pipeline: StreamingPipeline) -> StreamProcessor:
        return StreamProcessor(pipeline, in_order(self.pages.execute), 4, urls=[str(at) for at in range(400)])

    async def run(self, count: int, size: int) -> None:
        """The next *count* pages end with *size* bytes."""
        for _ in range(count):
            await settle(until=lambda: bool(self.pages.running))
            url = next(iter(self.pages.running))
            self.pages.finish(url, text="x" * size)
            await settle(until=lambda url=url: url not in self.pages.running)
            await settle(turns=3)
            ring = self.pipeline.journal.ring
            self.most = max(self.most, ring.appended_bytes - ring.evicted_bytes)


@in_loop
async def test_a_stuck_reader_lags_by_no_more_than_it_may_although_large_results_follow_small_ones() -> None:
    crawl = Bounded(BUFFER__DROP_THRESHOLD=1000)
    sink = crawl.house.attach(crawl.pipeline)
    sink.read()
    sink.paused = True
    await crawl.run(100, size=10)
    await crawl.run(100, size=FRAME)
    assert sink.subscriber is not None
    assert sink.subscriber.unread_bytes <= AHEAD
    assert crawl.most <= BEHIND + AHEAD + 2 * FRAME
    before = crawl.pipeline.journal.last_seq
    first = before - sink.subscriber.unread_frames + 1
    sink.paused = False
    sink.read()
    assert told(sink) == [1, (2, first - 1, "slow_client"), *range(first, before + 1)]
    assert sink.subscriber.missed_frames == first - 2
    assert crawl.house.metrics.protocols["ndjson"].dropped == {"slow_client": first - 2, "expired": 0}


@in_loop
async def test_who_is_stuck_before_the_metadata_is_bounded_too_and_told_it_first() -> None:
    crawl = Bounded()
    sink = crawl.house.attach(crawl.pipeline)
    sink.paused = True
    await crawl.run(100, size=FRAME)
    assert crawl.most <= BEHIND + AHEAD + 2 * FRAME
    assert sink.subscriber is not None
    first = crawl.pipeline.journal.last_seq - sink.subscriber.unread_frames + 1
    sink.paused = False
    sink.read()
    assert told(sink) == [1, (2, first - 1, "slow_client"), *range(first, 102)]
    assert sink.subscriber.missed_frames == first - 2


@in_loop
async def test_what_is_no_result_is_said_although_the_results_around_it_were_left_out() -> None:
    crawl = Bounded()
    sink = crawl.house.attach(crawl.pipeline)
    sink.paused = True
    crawl.pipeline.append_search({"type": "search", "stream_id": crawl.pipeline.id, "query": "q"})
    await crawl.run(50, size=FRAME)
    sink.paused = False
    sink.read(1)
    assert sink.subscriber is not None
    first = sink.subscriber.next_seq - 1
    assert told(sink) == [1, 2, (3, first - 1, "slow_client"), first]
    assert [frame["type"] for frame in sink.frames[:2]] == ["metadata", "search"]
    assert sink.subscriber.missed_frames == first - 3


@in_loop
async def test_who_became_stuck_after_the_last_result_is_looked_at_with_the_others() -> None:
    crawl = Bounded()
    sink = crawl.house.attach(crawl.pipeline)
    sink.read()
    await crawl.run(50, size=FRAME)  # it takes bytes: nothing is left out
    assert sink.subscriber is not None
    assert sink.subscriber.unread_frames == 50
    sink.paused = True
    crawl.house.module.upkeep.tick(crawl.house.now, sample=False)
    assert sink.subscriber.unread_bytes <= AHEAD


@pytest.mark.parametrize("on_slow", ["drop", "disconnect"])
@in_loop
async def test_a_vacant_place_that_holds_nobody_pins_nothing(on_slow: str) -> None:
    crawl = Bounded(on_slow)
    opener, other = crawl.house.attach(crawl.pipeline), crawl.house.attach(crawl.pipeline)
    opener.read()
    opener.leave()
    for _ in range(100):
        await crawl.run(1, size=FRAME)
        other.read()
    assert crawl.most <= BEHIND + AHEAD + FRAME
    assert told(other) == list(range(1, 102))
    first = crawl.pipeline.journal.ring.first
    back = crawl.house.attach(crawl.pipeline, after=1)
    back.read()
    assert told(back)[:2] == [(2, first - 1, "expired"), first]


@in_loop
async def test_one_who_takes_the_place_far_behind_is_bounded_when_he_is_stuck() -> None:
    crawl = Bounded()
    opener, other = crawl.house.attach(crawl.pipeline), crawl.house.attach(crawl.pipeline, after=0)
    other.paused = True
    for _ in range(100):
        await crawl.run(1, size=FRAME)
        opener.read()
    opener.leave()  # the other came with a position, and is its heir
    assert crawl.pipeline.pacer.holder is other.subscriber
    await crawl.run(100, size=FRAME)
    assert crawl.most <= BEHIND + AHEAD + 2 * FRAME
    assert other.subscriber is not None
    first = crawl.pipeline.journal.last_seq - other.subscriber.unread_frames + 1
    other.paused = False
    other.read()
    assert told(other) == [1, (2, first - 1, "slow_client"), *range(first, 202)]
    assert other.subscriber.missed_frames == first - 2


@pytest.mark.parametrize("detached", [False, True])
def test_what_waits_for_its_turn_is_bounded_although_nobody_is_waited_for(detached: bool) -> None:
    async def run() -> None:
        house = House(BUFFER__INITIAL_BYTES=AHEAD, STREAM__DETACHED_BYTES=AHEAD, STREAM__MAX_FRAME_BYTES=4096)
        pages, urls = Pages(), [str(at) for at in range(100)]
        pipeline = house.begin(
            lambda pipeline: StreamProcessor(pipeline, in_order(pages.execute), 4, urls=urls, in_order=True),
            100,
            on_slow="drop",
            detached=detached,
        )
        sink = house.attach(pipeline)
        sink.read()
        await settle()
        while len(pages.running) > 1:  # all but the first
            pages.finish(list(pages.running)[-1], text="x" * FRAME)
            await settle()
        assert house.module.health.figures().memory_bytes <= AHEAD + 4 * 2 * FRAME
        while pages.running:
            pages.finish(next(iter(pages.running)))
            await settle()
            sink.read()
        assert pipeline.status == "completed"
        assert detached or told(sink) == list(range(1, 103))

    turned(run())


@in_loop
async def test_detached_streams_that_drop_hold_half_of_the_total_together_and_go_on() -> None:
    house = House(BUFFER__TOTAL_BYTES=400_000, STREAM__MAX_FRAME_BYTES=4096, BUFFER__INITIAL_BYTES=AHEAD)
    crawls = []
    for _ in range(4):
        pages, urls = Pages(), [str(at) for at in range(100)]
        pipeline = house.begin(
            lambda pipeline, pages=pages, urls=urls: StreamProcessor(pipeline, in_order(pages.execute), 4, urls=urls),
            100,
            on_slow="drop",
            detached=True,
            kept=True,
        )
        crawls.append((pages, pipeline))
    await settle()
    while any(pages.running for pages, _ in crawls):
        for pages, _ in crawls:
            for url in list(pages.running):
                pages.finish(url, text="x" * FRAME)
        await settle()
        assert house.module.health.figures().memory_bytes < 400_000
    assert [pipeline.status for _, pipeline in crawls] == ["completed"] * 4


@in_loop
async def test_a_detached_stream_that_drops_goes_on_and_the_oldest_go() -> None:
    crawl = Crawl("drop", detached=True)
    await crawl.run()
    assert crawl.pipeline.status == "completed"
    reader = crawl.house.attach(crawl.pipeline)
    reader.read()
    first = crawl.pipeline.journal.ring.first
    assert first > 100
    assert told(reader) == [1, (2, first - 1, "expired"), *range(first, 203)]


@in_loop
async def test_what_was_dropped_of_late_shows_in_the_figures() -> None:
    crawl = Crawl("drop")
    sink = crawl.house.attach(crawl.pipeline)
    sink.read()
    crawl.house.module.upkeep.tick(crawl.house.now, sample=False)
    assert crawl.house.module.health.figures().status == "healthy"
    sink.paused = True
    await crawl.run()
    crawl.house.module.upkeep.tick(crawl.house.now, sample=False)
    figures = crawl.house.module.health.figures()
    assert (figures.drop_ratio, figures.status) == (1.0, "unhealthy")
    sink.paused = False
    sink.read()
    crawl.house.module.upkeep.tick(crawl.house.now, sample=False)
    dropped, sent = crawl.house.metrics.protocols["ndjson"].dropped["slow_client"], THRESHOLD
    assert crawl.house.module.health.figures().drop_ratio == round(dropped / (dropped + sent), 4)
    crawl.house.now += 61
    assert crawl.house.module.health.figures().drop_ratio == 0.0
