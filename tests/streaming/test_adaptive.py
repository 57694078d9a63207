"""Windows that adapt: larger for who is held back, smaller for who is slow, and no latch (docs/protocol.md)."""

from __future__ import annotations

from doubles import Pages, RecordingSink, settle
from house import House, in_loop
from hypothesis import given
from hypothesis import strategies as st

from fastmesh.streaming.window import DynamicBuffer, WindowBounds

ALL = {
    "BUFFER__INITIAL_FRAMES_NDJSON": 100,
    "BUFFER__INITIAL_BYTES": 10_000,
    "BUFFER__MIN_FRAMES": 20,
    "BUFFER__MAX_FRAMES": 400,
    "BUFFER__MAX_BYTES": 70_000,
}


@given(
    low=st.integers(1, 500),
    start=st.integers(0, 500),
    high=st.integers(0, 5000),
    steps=st.lists(st.booleans(), max_size=60),
)
def test_a_window_stays_within_its_bounds_and_says_whether_it_moved(
    low: int, start: int, high: int, steps: list[bool]
) -> None:
    bounds = WindowBounds(low, low + start + high, low * 10, (low + start + high) * 10)
    window = DynamicBuffer(low + start, (low + start) * 10, bounds)
    for larger in steps:
        frames, octets = window.capacity_frames, window.capacity_bytes
        moved = window.grow() if larger else window.shrink()
        now = window.capacity_frames, window.capacity_bytes
        assert moved == (now != (frames, octets))
        assert bounds.min_frames <= now[0] <= bounds.max_frames
        assert bounds.min_bytes <= now[1] <= bounds.max_bytes
        if larger:
            assert now[0] == bounds.max_frames or frames * 1.5 <= now[0] < frames * 1.5 + 1
        else:
            assert now[0] == bounds.min_frames or frames * 0.75 - 1 < now[0] <= frames * 0.75


def test_from_the_start_to_either_end_and_back() -> None:
    window = DynamicBuffer(256, 65_536, WindowBounds(64, 2048, 65_536, 1_048_576))
    sizes = [window.capacity_frames for _ in range(10) if window.grow()]
    assert sizes == [384, 576, 864, 1296, 1944, 2048, 2048]  # the bytes grow a step longer
    assert window.capacity_bytes == 1_048_576
    while window.shrink():
        pass
    assert (window.capacity_frames, window.capacity_bytes) == (64, 65_536)


class Slow:
    """A crawl of many pages, and one reader that the test lets read."""

    def __init__(self, house: House, pages: int = 3000) -> None:
        self.house = house
        self.pages = Pages()
        self.sink: RecordingSink = house.crawl(self.pages, [str(at) for at in range(pages)], concurrency=256)
        assert self.sink.subscriber is not None
        self.reader = self.sink.subscriber
        self.ticks = 0

    @property
    def window(self) -> int:
        return self.reader.buffer.capacity_frames

    async def fill(self) -> None:
        """Let the stream go as far as its window lets it."""
        await settle()
        while self.pages.running:
            for url in list(self.pages.running):
                self.pages.finish(url)
            await settle()

    def wait(self, seconds: float) -> None:
        """Turn the clock, with the module's looks at its readers every 0.1 s and at their windows every second."""
        for _ in range(round(seconds * 10)):
            self.ticks += 1
            self.house.now += 0.1
            self.house.module.upkeep.tick(self.house.now, sample=self.ticks % 10 == 0)

    async def trickle(self, seconds: int) -> None:
        """Read some frames a second and never all, as a client does that is slow for good."""
        for _ in range(seconds):
            self.sink.paused = True
            self.wait(1.0)
            self.sink.paused = False
            for _ in range(min(40, self.reader.unread_frames - 1)):
                self.sink.read(1)
            await self.fill()


@in_loop
async def test_a_reader_that_reads_all_gets_a_larger_window_as_long_as_it_is_held_back() -> None:
    house = House(**ALL)
    crawl = Slow(house)
    crawl.sink.read()
    sizes = [(crawl.window, crawl.reader.buffer.capacity_bytes)]
    for _ in range(6):
        await crawl.fill()
        crawl.sink.read()
        sizes.append((crawl.window, crawl.reader.buffer.capacity_bytes))
    assert [frames for frames, _ in sizes] == [100, 150, 225, 338, 400, 400, 400]
    assert [octets for _, octets in sizes] == [10_000, 15_000, 22_500, 33_750, 50_625, 70_000, 70_000]
    assert house.metrics.protocols["ndjson"].grows == 5


@in_loop
async def test_a_reader_whose_window_holds_nothing_back_keeps_it() -> None:
    house = House(**ALL)
    crawl = Slow(house, pages=50)
    crawl.sink.read()
    await crawl.fill()
    crawl.sink.read()
    assert crawl.window == 100


@in_loop
async def test_who_has_read_only_a_part_gets_no_larger_window() -> None:
    crawl = Slow(House(**ALL))
    crawl.sink.read()
    await crawl.fill()
    crawl.sink.read(1)
    assert crawl.window == 100


@in_loop
async def test_what_waits_is_slow_when_its_100_ms_are_over_not_when_it_is_read() -> None:
    house = House(**ALL)
    crawl = Slow(house)
    crawl.sink.read()
    await crawl.fill()
    crawl.sink.paused = True
    crawl.wait(0.1)
    assert not crawl.reader.backpressure.under_backpressure(house.now)
    crawl.wait(0.1)
    assert crawl.reader.backpressure.under_backpressure(house.now)
    crawl.wait(0.8)
    assert crawl.window == 75


@in_loop
async def test_a_reader_that_is_slow_for_good_gets_a_smaller_window_each_second() -> None:
    house = House(**ALL)
    crawl = Slow(house)
    await crawl.fill()
    await crawl.trickle(1)
    assert crawl.window == 75
    await crawl.trickle(30)
    assert crawl.window < 25  # so few frames say nothing any more
    assert house.metrics.protocols["ndjson"].shrinks >= 5


@in_loop
async def test_one_pause_does_not_undo_what_a_reader_had() -> None:
    """Who pauses and then reads all is held back by its window more than any other."""
    crawl = Slow(House(**ALL))
    crawl.sink.read()
    await crawl.fill()
    before = crawl.window
    crawl.sink.paused = True
    crawl.wait(0.7)
    crawl.sink.paused = False
    crawl.sink.read()
    assert crawl.window > before


@in_loop
async def test_a_client_that_reads_again_is_served_as_before_within_a_second() -> None:
    house = House(**ALL)
    crawl = Slow(house)
    await crawl.fill()
    await crawl.trickle(31)
    assert crawl.window < 25  # so few frames say nothing any more
    crawl.sink.paused = False
    began = house.now
    while crawl.window < 100:
        crawl.sink.read()
        await crawl.fill()
        crawl.sink.read()
        crawl.wait(0.1)
        assert house.now - began <= 1.0
    assert not crawl.reader.backpressure.under_backpressure(house.now)
