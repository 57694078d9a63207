"""Who waits for whom: every state of docs/protocol.md, caused."""

from __future__ import annotations

from typing import Any

import pytest
from doubles import Pages, RecordingSink, in_order, settle
from house import House, in_loop

from fastmesh.streaming.fill.processor import StreamProcessor
from fastmesh.streaming.pacer import Place
from fastmesh.streaming.pipeline import StreamingPipeline
from fastmesh.wire.encoders import Encoder, NdjsonEncoder, SseEncoder, WebSocketEncoder

URLS = [str(at) for at in range(40)]


class Crawl:
    """A crawl of 40 pages, four at a time, whose pages all end as soon as they are started."""

    def __init__(self, house: House, *, size: int = 10, **opening: Any) -> None:
        self.house = house
        self.pages = Pages()
        self.size = size
        self.pipeline = house.begin(self._fill, len(URLS), kept=True, **opening)

    def _fill(self, pipeline: StreamingPipeline) -> StreamProcessor:
        return StreamProcessor(pipeline, in_order(self.pages.execute), 4, urls=URLS)

    def attach(self, after: int | None = None) -> RecordingSink:
        return self.house.attach(self.pipeline, after)

    async def run(self) -> int:
        """Let it go as far as it may; return how many URLs it has started ever."""
        await settle()
        while self.pages.running:
            for url in list(self.pages.running):
                self.pages.finish(url, text="x" * self.size)
            await settle()
        return len(self.pages.started)


def seqs(sink: RecordingSink) -> list[Any]:
    """Each frame's number; of a gap, what it names."""
    return [f.get("seq") or (f["type"], f["from_seq"], f["to_seq"], f["reason"]) for f in sink.frames]


# ── window and pacer ─────────────────────────────────────────────────────────────────────


@in_loop
async def test_the_stream_runs_ahead_of_its_opener_by_the_window() -> None:
    crawl = Crawl(House(BUFFER__INITIAL_FRAMES_NDJSON=6))
    opener = crawl.attach()
    assert await crawl.run() == 5  # and the metadata
    opener.read()
    assert await crawl.run() == 11


@pytest.mark.parametrize(
    ("setting", "encoder"),
    [
        ("BUFFER__INITIAL_FRAMES_NDJSON", NdjsonEncoder(chunked=True)),
        ("BUFFER__INITIAL_FRAMES_SSE", SseEncoder(retry_ms=1, chunked=True)),
        ("BUFFER__INITIAL_FRAMES_WEBSOCKET", WebSocketEncoder()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@in_loop
async def test_each_protocol_has_a_window_of_its_own(setting: str, encoder: Encoder) -> None:
    crawl = Crawl(House(**{setting: 6, "BUFFER__MAX_FRAMES": 1000}))
    crawl.house.attach(crawl.pipeline, encoder=encoder)
    assert await crawl.run() == 5


@in_loop
async def test_the_window_in_bytes_holds_too() -> None:
    crawl = Crawl(House(BUFFER__INITIAL_BYTES=10_000), size=4000)
    crawl.attach()
    started = await crawl.run()
    assert 3 <= started <= 3 + 4  # what ran already may pass the bound


@in_loop
async def test_nothing_is_started_before_the_first_reader_comes() -> None:
    crawl = Crawl(House())
    assert await crawl.run() == 0
    opener = crawl.attach()
    opener.read()
    assert await crawl.run() == 40


@in_loop
async def test_others_never_hold_a_stream() -> None:
    crawl = Crawl(House(BUFFER__INITIAL_FRAMES_NDJSON=6))
    opener, other = crawl.attach(), crawl.attach()
    while not opener.ended:
        opener.read()
        await crawl.run()
    assert len(crawl.pages.started) == 40
    other.read()
    # Its frames were let go behind the opener: the metadata, what it missed, and what is left.
    assert seqs(other) == [1, ("gap", 2, 41, "expired"), 42]
    assert other.ended


@in_loop
async def test_another_is_told_one_gap_however_often_it_was_passed() -> None:
    crawl = Crawl(House(BUFFER__INITIAL_FRAMES_NDJSON=6))
    opener, other = crawl.attach(), crawl.attach()
    other.read()
    for _ in range(3):
        opener.read()
        await crawl.run()
    first = crawl.pipeline.journal.ring.first
    other.read()
    assert seqs(other) == [1, ("gap", 2, first - 1, "expired"), *range(first, crawl.pipeline.journal.last_seq + 1)]
    assert other.subscriber is not None
    assert other.subscriber.missed_frames == first - 2


@in_loop
async def test_so_much_is_kept_behind_the_reader() -> None:
    crawl = Crawl(House(STREAM__JOURNAL_BYTES=5000), size=600)
    opener = crawl.attach()
    for _ in range(50):
        opener.read(1)
        await crawl.run()
        assert opener.subscriber is not None
        if not opener.ended:
            assert crawl.pipeline.retention.behind_bytes <= 5000
        if opener.subscriber.next_seq > 12 and not opener.ended:
            assert crawl.pipeline.retention.behind_bytes > 3500


# ── leaving and returning ────────────────────────────────────────────────────────────────


@in_loop
async def test_with_nobody_attached_nothing_is_started_and_what_runs_is_kept() -> None:
    crawl = Crawl(House(BUFFER__INITIAL_FRAMES_NDJSON=6, STREAM__JOURNAL_BYTES=1 << 20))
    opener = crawl.attach()
    opener.read()
    await settle()
    assert len(crawl.pages.running) == 4
    opener.leave()
    assert await crawl.run() == 4
    assert crawl.pipeline.journal.last_seq == 5
    assert crawl.pipeline.pacer.place is Place.LEFT


@in_loop
async def test_with_others_attached_it_runs_until_the_left_place_is_full() -> None:
    crawl = Crawl(House(BUFFER__INITIAL_FRAMES_NDJSON=6))
    opener, other = crawl.attach(), crawl.attach()
    opener.read()
    opener.leave()
    assert await crawl.run() == 6
    while other.subscriber is not None and other.subscriber.unread_frames:
        other.read()
        assert await crawl.run() == 6
    assert seqs(other) == [1, *range(2, 8)]


@in_loop
async def test_who_returns_with_a_position_takes_the_place_and_loses_nothing() -> None:
    crawl = Crawl(House(BUFFER__INITIAL_FRAMES_NDJSON=6, STREAM__JOURNAL_BYTES=1 << 20))
    opener = crawl.attach()
    opener.read()
    await crawl.run()
    opener.read()
    opener.leave()  # of the seven frames that were written it received four
    back = crawl.attach(after=4)
    assert crawl.pipeline.pacer.holder is back.subscriber
    while not back.ended:
        back.read()
        await crawl.run()
    assert seqs(opener) == list(range(1, 8))
    assert seqs(back) == list(range(5, 43))
    assert crawl.pages.started == URLS


@in_loop
async def test_who_returns_too_late_for_some_is_told_so() -> None:
    crawl = Crawl(House(STREAM__JOURNAL_BYTES=3000), size=600)
    opener = crawl.attach()
    for _ in range(3):
        opener.read()
        await crawl.run()
    opener.leave()
    first = crawl.pipeline.journal.ring.first
    assert first > 4
    back = crawl.attach(after=2)
    back.read(1)
    assert seqs(back) == [("gap", 3, first - 1, "expired"), first]


@in_loop
async def test_after_0_says_the_metadata_first_although_what_followed_is_gone() -> None:
    crawl = Crawl(House())
    opener = crawl.attach()
    opener.read()
    await crawl.run()
    opener.read()
    back = crawl.attach(after=0)
    back.read()
    assert seqs(back)[:2] == [1, ("gap", 2, crawl.pipeline.journal.ring.first - 1, "expired")]


@in_loop
async def test_after_the_window_the_longest_attached_is_waited_for() -> None:
    house = House(BUFFER__INITIAL_FRAMES_NDJSON=6, STREAM__RESUME_WINDOW_S=120)
    crawl = Crawl(house)
    opener, other = crawl.attach(), crawl.attach()
    opener.read()
    opener.leave()
    await crawl.run()
    other.read()
    house.module.upkeep.tick(house.now + 119, sample=False)
    assert await crawl.run() == 6
    house.module.upkeep.tick(house.now + 120, sample=False)
    assert crawl.pipeline.pacer.holder is other.subscriber
    while not other.ended:
        other.read()
        await crawl.run()
    assert other.frames[-1]["status"] == "completed"


@in_loop
async def test_after_the_window_with_nobody_there_the_stream_is_cancelled() -> None:
    house = House(STREAM__RESUME_WINDOW_S=120)
    crawl = Crawl(house)
    opener = crawl.attach()
    opener.read()
    await settle()
    opener.leave()
    house.module.upkeep.tick(house.now + 119, sample=False)
    assert len(crawl.pages.running) == 4
    house.module.upkeep.tick(house.now + 120, sample=False)
    await settle()
    assert (crawl.pages.running, crawl.pipeline.status) == ({}, "cancelled")


@in_loop
async def test_a_stream_that_nobody_came_for_is_cancelled_too() -> None:
    house = House(STREAM__RESUME_WINDOW_S=120)
    crawl = Crawl(house)
    house.module.upkeep.tick(house.now + 120, sample=False)
    await settle()
    assert crawl.pipeline.status == "cancelled"


# ── its end ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", ["cancelled", "deadline", "shutdown"])
@in_loop
async def test_the_summary_passes_every_bound_and_what_was_not_read_is_still_handed_out(status: str) -> None:
    house = House(BUFFER__INITIAL_FRAMES_NDJSON=6, STREAM__RESUME_WINDOW_S=120)
    crawl = Crawl(house)
    opener = crawl.attach()
    await crawl.run()
    crawl.pipeline.stop(status)
    await settle()
    opener.leave()
    assert house.module.registry.find(crawl.pipeline.id, None) is crawl.pipeline
    back = crawl.attach(after=0)
    back.read()
    assert (seqs(back), back.frames[-1]["status"], back.ended) == (list(range(1, 8)), status, True)


@in_loop
async def test_a_closed_stream_can_be_read_for_the_resume_window_and_is_then_forgotten() -> None:
    house = House(STREAM__RESUME_WINDOW_S=120, STREAM__JOURNAL_BYTES=1 << 20)
    crawl = Crawl(house)
    opener = crawl.attach()
    while not opener.ended:
        opener.read()
        await crawl.run()
    again = crawl.attach()
    house.module.upkeep.tick(house.now + 500, sample=False)  # not while somebody reads it
    again.read(1)
    assert seqs(again) == [1]
    again.leave()
    house.module.upkeep.tick(house.now + 500, sample=False)
    assert house.module.registry.find(crawl.pipeline.id, None) is None
    assert house.module.health.figures().memory_bytes == 0


# ── detached ─────────────────────────────────────────────────────────────────────────────


@in_loop
async def test_a_detached_stream_runs_without_anybody_and_is_read_later() -> None:
    crawl = Crawl(House(BUFFER__INITIAL_FRAMES_NDJSON=6), detached=True)
    assert await crawl.run() == 40
    late = crawl.attach()
    late.read()
    assert (seqs(late), late.ended) == (list(range(1, 43)), True)


@in_loop
async def test_a_detached_stream_that_is_full_of_what_nobody_has_read_waits() -> None:
    crawl = Crawl(House(STREAM__DETACHED_BYTES=10_000), size=1000, detached=True)
    started = await crawl.run()
    assert 6 <= started < 12
    assert crawl.pipeline.state == "waiting"
    reader = crawl.attach()
    while not reader.ended:
        reader.read()
        await crawl.run()
    assert seqs(reader) == list(range(1, 43))  # it waited: nothing was lost
    assert crawl.pipeline.journal.ring.first > 20  # over its bound what was sent to somebody went first


@in_loop
async def test_who_begins_in_the_middle_of_a_detached_stream_lets_nothing_before_it_go() -> None:
    crawl = Crawl(House(STREAM__DETACHED_BYTES=10_000), size=1000, detached=True)
    started = await crawl.run()
    late = crawl.attach(4)
    late.read()
    assert await crawl.run() == started  # it still waits for who reads from its start
    assert crawl.pipeline.state == "waiting"
    first = crawl.attach(0)
    while not first.ended:
        first.read()
        late.read()
        await crawl.run()
    assert seqs(first) == list(range(1, 43))
    assert seqs(late) == list(range(5, 43))


@in_loop
async def test_readers_of_a_detached_stream_come_and_go_and_it_goes_on() -> None:
    crawl = Crawl(House(), detached=True)
    reader = crawl.attach()
    reader.read()
    reader.leave()
    assert await crawl.run() == 40
    assert crawl.pipeline.status == "completed"


@in_loop
async def test_a_detached_stream_that_was_never_read_is_kept_until_its_deadline() -> None:
    house = House(STREAM__RESUME_WINDOW_S=120, STREAM__DEADLINE_S=3600)
    crawl = Crawl(house, detached=True)
    await crawl.run()
    house.module.upkeep.tick(house.now + 3599, sample=False)
    assert house.module.registry.find(crawl.pipeline.id, None) is crawl.pipeline
    house.module.upkeep.tick(house.now + 3600, sample=False)
    assert house.module.registry.find(crawl.pipeline.id, None) is None


@in_loop
async def test_one_that_was_read_to_its_end_goes_with_the_resume_window() -> None:
    house = House(STREAM__RESUME_WINDOW_S=120)
    crawl = Crawl(house, detached=True)
    await crawl.run()
    reader = crawl.attach()
    reader.read()
    assert reader.ended
    house.module.upkeep.tick(house.now + 121, sample=False)
    assert house.module.registry.find(crawl.pipeline.id, None) is None


# ── total ────────────────────────────────────────────────────────────────────────────────


@in_loop
async def test_over_the_total_closed_streams_go_first_and_the_oldest_of_them() -> None:
    house = House(BUFFER__TOTAL_BYTES=100_000, STREAM__MAX_FRAME_BYTES=4096, STREAM__JOURNAL_BYTES=1 << 20)
    closed = []
    for _ in range(2):
        crawl = Crawl(house, size=500)
        opener = crawl.attach()
        while not opener.ended:
            opener.read()
            await crawl.run()
        closed.append(crawl.pipeline)
    kept = house.module.health.figures().memory_bytes
    assert kept > 40_000
    hog = Crawl(house, size=2000)
    reader = hog.attach()
    await settle()
    while house.module.registry.find(closed[0].id, None):
        hog.pages.finish(next(iter(hog.pages.running)), text="x" * 2000)
        await settle()
        reader.read()
    assert house.module.registry.find(closed[1].id, None) is closed[1]
    assert not reader.ended
    assert house.module.health.figures().memory_bytes < 100_000


@in_loop
async def test_then_what_the_largest_keep_behind_their_readers_goes_and_nothing_unread() -> None:
    house = House(BUFFER__TOTAL_BYTES=150_000, STREAM__MAX_FRAME_BYTES=4096, STREAM__JOURNAL_BYTES=1 << 20)
    large, small = Crawl(house, size=4000), Crawl(house, size=100)
    readers = [large.attach(), small.attach()]
    while not all(reader.ended for reader in readers):
        for reader in readers:
            if not reader.ended:
                reader.read()
        await large.run()
        await small.run()
        assert house.module.health.figures().memory_bytes < 150_000
    for reader in readers:
        assert seqs(reader) == list(range(1, 43))
    assert large.pipeline.journal.ring.first > 1


@in_loop
async def test_detached_streams_hold_unread_half_of_the_total_at_most() -> None:
    house = House(BUFFER__TOTAL_BYTES=100_000, STREAM__MAX_FRAME_BYTES=4096)
    crawls = [Crawl(house, size=1000, detached=True) for _ in range(3)]
    for crawl in crawls:
        await crawl.run()
    unread = sum(len(crawl.pages.started) for crawl in crawls) * 1000
    assert 40_000 < unread < 70_000
    assert any(crawl.pipeline.state == "waiting" for crawl in crawls)
    readers = [crawl.attach() for crawl in crawls]
    while not all(reader.ended for reader in readers):
        for crawl, reader in zip(crawls, readers, strict=True):
            if not reader.ended:
                reader.read()
            await crawl.run()
    for reader in readers:
        assert seqs(reader) == list(range(1, 43))


# ── fan-out ──────────────────────────────────────────────────────────────────────────────


@in_loop
async def test_every_reader_of_a_stream_gets_the_same_frames() -> None:
    crawl = Crawl(House(STREAM__JOURNAL_BYTES=1 << 20))
    readers = [crawl.attach() for _ in range(5)]
    turn = 0
    while not all(reader.ended for reader in readers):
        for at, reader in enumerate(readers):
            if not reader.ended and turn % (at + 1) == 0:
                reader.read(1 << at * 3)
        await crawl.run()
        turn += 1
    whole = b"".join(readers[0].written)
    assert all(b"".join(reader.written) == whole for reader in readers)


@in_loop
async def test_cancel_says_so_to_every_reader() -> None:
    crawl = Crawl(House())
    readers = [crawl.attach() for _ in range(3)]
    await settle()
    crawl.pipeline.stop("cancelled")
    await settle()
    for reader in readers:
        reader.read()
        assert reader.frames[-1]["status"] == "cancelled"
        assert reader.ended
    assert crawl.pages.running == {}
