"""What a journal has let go of may lie in a store: its reader waits and beats, and is served or leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from doubles import Pages, RecordingSink, in_order, settle
from house import House, in_loop

from fastmesh._core import Journal
from fastmesh.store.memory import MemoryStore
from fastmesh.streaming.fill.processor import StreamProcessor
from fastmesh.streaming.pipeline import StreamingPipeline

URLS = [str(at) for at in range(20)]


class Late(MemoryStore):
    """Has all that *texts* holds, by number from 1, and answers when the test says so."""

    def __init__(self, house: House) -> None:
        buffers = house.module.buffers
        super().__init__(buffers.total, lambda: house.now)
        self.texts: list[bytes] = []
        self.asked: list[tuple[int, asyncio.Future[Sequence[bytes]]]] = []

    def read(self, journal: Journal, seq: int) -> asyncio.Future[Sequence[bytes]]:  # type: ignore[override]
        """An answer that is not there yet."""
        answer: asyncio.Future[Sequence[bytes]] = asyncio.get_running_loop().create_future()
        self.asked.append((seq, answer))
        return answer

    def answer(self, count: int = 1000) -> None:
        """Answer the newest question with *count* frames at most."""
        seq, answer = self.asked[-1]
        answer.set_result(self.texts[seq - 1 : seq - 1 + count])


class Crawl:
    """A crawl whose opener keeps nothing behind it, and a reader that comes late."""

    def __init__(self) -> None:
        self.house = House(BUFFER__INITIAL_FRAMES_NDJSON=8)
        self.store = self.house.module.registry.store = Late(self.house)
        self.pages = Pages()
        self.pipeline = self.house.begin(self._fill, len(URLS), kept=True)
        self.opener = self.house.attach(self.pipeline)

    def _fill(self, pipeline: StreamingPipeline) -> StreamProcessor:
        return StreamProcessor(pipeline, in_order(self.pages.execute), 4, urls=URLS)

    async def run(self, urls: int) -> None:
        """So many more pages, each read by the opener."""
        for _ in range(urls):
            await settle()
            self.pages.finish(next(iter(self.pages.running)))
            await settle()
            if not self.opener.ended:
                self.opener.read()
        lines = b"".join(self.opener.written).splitlines()
        self.store.texts = [line for line in lines if b"heartbeat" not in line]

    def beat(self) -> None:
        """The heartbeat's time has passed."""
        self.house.now += 1000
        self.house.module.upkeep.tick(self.house.now, sample=False)

    async def late(self, after: int | None = None) -> RecordingSink:
        """Comes when there is nothing in the journal for it, and is told nothing yet."""
        await self.run(10)
        sink = self.house.attach(self.pipeline, after)
        sink.read()
        assert sink.written == []
        return sink


def told(sink: RecordingSink) -> list[object]:
    return [f.get("seq") or (f["from_seq"], f["to_seq"], f["reason"]) for f in sink.frames if f["type"] != "heartbeat"]


@in_loop
async def test_a_reader_waits_for_the_answer_and_beats_meanwhile() -> None:
    crawl = Crawl()
    sink = await crawl.late()
    assert sink.subscriber is not None
    assert not sink.subscriber.wants_service
    await crawl.run(1)  # it is not woken by what comes, since it could not take it
    assert sink.woken == 0
    sink.read()
    assert sink.written == []
    crawl.beat()
    assert [frame["type"] for frame in sink.frames] == ["heartbeat"]
    assert sink.subscriber.backpressure.slow_total == 0  # it is not its reader that is slow
    crawl.store.answer()
    await settle()
    assert sink.woken == 1
    sink.read()
    assert told(sink) == told(crawl.opener) == list(range(1, 13))
    await crawl.run(9)
    await settle()
    crawl.opener.read()
    sink.read()
    crawl.store.answer()
    await settle()
    sink.read()
    assert sink.ended
    assert told(sink) == told(crawl.opener) == list(range(1, 23))
    counts = crawl.house.metrics.protocols["ndjson"]
    assert counts.sent_by_type() == {
        **dict.fromkeys(counts.sent, 0),
        "metadata": 2,
        "result": 40,
        "summary": 2,
        "heartbeat": counts.sent["heartbeat"],
    }


@pytest.mark.parametrize("count", [1, 3, 10])
@pytest.mark.parametrize("after", [None, 0, 4])
def test_what_is_loaded_comes_in_pieces_and_in_its_order(after: int | None, count: int) -> None:
    @in_loop
    async def run() -> None:
        crawl = Crawl()
        sink = await crawl.late(after)
        while (after or 0) + len(told(sink)) < 11:
            assert sink.subscriber is not None
            assert sink.subscriber.loading
            crawl.store.answer(count)
            await settle()
            sink.read()
            sink.read()  # what is loaded asks for the next
        assert told(sink) == list(range((after or 0) + 1, crawl.pipeline.journal.last_seq + 1))
        assert sink.subscriber.unread_bytes == 0

    run()


@pytest.mark.parametrize(
    "answer",
    [lambda future: future.set_exception(OSError("the disk is gone")), lambda future: future.set_result([])],
    ids=["failed", "let go meanwhile"],
)
def test_what_the_store_cannot_read_is_named_and_the_reader_goes_on(
    answer: Callable[[asyncio.Future[Sequence[bytes]]], None],
) -> None:
    @in_loop
    async def run() -> None:
        crawl = Crawl()
        sink = await crawl.late(after=3)
        answer(crawl.store.asked[0][1])
        await settle()
        assert sink.woken == 1
        sink.read()
        assert told(sink) == [(4, 11, "expired")]
        assert len(crawl.store.asked) == 1  # and it is not asked again for these
        await crawl.run(1)
        sink.read()
        crawl.store.answer()
        await settle()
        sink.read()
        assert told(sink) == [(4, 11, "expired"), 12]

    run()


@in_loop
async def test_a_reader_that_leaves_gives_its_answer_up() -> None:
    crawl = Crawl()
    sink = await crawl.late()
    sink.leave()
    (_, answer) = crawl.store.asked[0]
    assert answer.cancelled()
    await settle()
    assert (sink.woken, sink.written) == (0, [])


@in_loop
async def test_an_answer_that_comes_after_its_reader_has_left_is_for_nobody() -> None:
    crawl = Crawl()
    sink = await crawl.late()
    crawl.store.answer()  # its callback is in the next turn, and the reader leaves in this one
    sink.leave()
    await settle()
    assert (sink.woken, sink.written) == (0, [])
    assert crawl.pipeline.lifecycle.open


@in_loop
async def test_who_is_waited_for_waits_for_the_store_and_its_stream_for_it() -> None:
    crawl = Crawl()
    await crawl.run(10)
    crawl.opener.leave()
    back = crawl.house.attach(crawl.pipeline, after=5)
    back.read()
    assert crawl.pipeline.pacer.holder is back.subscriber
    crawl.store.answer(3)
    await settle()
    back.read()
    back.read()
    crawl.store.answer()
    await settle()
    while not back.ended:
        back.read()
        await settle()
        for url in list(crawl.pages.running):
            crawl.pages.finish(url)
        await settle()
    assert told(back) == list(range(6, 23))


def test_memory_has_nothing_behind_its_journals() -> None:
    house: list[House] = []

    @in_loop
    async def run() -> None:
        house.append(House())
        store = house[0].module.registry.store
        journal = store.open("a")
        assert (journal.stream_id, store.read(journal, 1)) == (b"a", None)
        journal.append({"type": "result"})
        assert house[0].module.buffers.held_bytes > 0
        store.forget(journal)
        assert house[0].module.buffers.held_bytes == 0

    run()
