"""What a closed stream keeps: its journal, as small as it goes, and a few figures."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from doubles import Pages, RecordingSink, in_order, settle
from house import House, check, in_loop

from fastmesh.streaming.fill.processor import StreamProcessor
from fastmesh.streaming.pipeline import StreamingPipeline

SLOT_BYTES, HEAD_BYTES = 32, 24


@pytest.fixture(autouse=True)
def _uncollected() -> Iterator[None]:
    """Nothing here waits for the collector of cycles."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Kept:
    """Streams that can be read after their end, and what they were made with."""

    def __init__(self, **settings: object) -> None:
        self.house = House(**{"STREAM__JOURNAL_BYTES": 1_000_000} | settings)
        self.pages = Pages()
        self.processors: list[weakref.ref[StreamProcessor]] = []

    def open(self, urls: list[str]) -> RecordingSink:
        return self.house.open(self._make(urls), len(urls), kept=True)

    async def crawl(self, *urls: str, text: str = "") -> StreamingPipeline:
        """A crawl of *urls*, read to its end."""
        sink = self.open([*urls])
        await settle()
        for url in urls:
            self.pages.finish(url, text=text)
            await settle()
            sink.read()
        await settle()
        sink.read()
        check(sink, len(urls))
        (pipeline,) = self.house.module.registry.all()
        return pipeline

    def _make(self, urls: list[str]) -> Callable[[StreamingPipeline], Any]:
        def make(pipeline: StreamingPipeline) -> StreamProcessor:
            processor = StreamProcessor(pipeline, in_order(self.pages.execute), 4, urls=urls)
            self.processors.append(weakref.ref(processor))
            return processor

        return make


@in_loop
async def test_a_closed_stream_has_no_processor_and_no_reader() -> None:
    kept = Kept()
    pipeline = await kept.crawl("a", "b")
    assert [ref() for ref in kept.processors] == [None]
    assert (pipeline.results, pipeline.status, pipeline.pacer.holder) == ((2, 0), "completed", None)


@in_loop
async def test_a_stream_lets_go_of_its_processor_with_its_summary_whoever_reads() -> None:
    kept = Kept()
    sink = kept.open(["a"])
    await settle()
    kept.pages.finish("a")
    await settle()
    assert not sink.ended  # it has read nothing yet
    assert [ref() for ref in kept.processors] == [None]
    sink.read()
    assert check(sink, 1)["successful"] == 1


@in_loop
async def test_a_cancelled_stream_has_no_processor() -> None:
    kept = Kept()
    sink = kept.open(["a", "b"])
    await settle()
    assert sink.subscriber is not None
    sink.subscriber.pipeline.stop("cancelled")
    await settle()
    assert [ref() for ref in kept.processors] == [None]


@in_loop
async def test_a_stream_that_is_forgotten_is_gone_at_once() -> None:
    kept = Kept()
    pipeline = weakref.ref(await kept.crawl("a"))
    kept.house.now += 1000
    kept.house.module.upkeep.tick(kept.house.now, sample=False)
    assert pipeline() is None


@in_loop
async def test_its_journal_is_as_small_as_its_frames_and_is_read_as_before() -> None:
    kept = Kept()
    pipeline = await kept.crawl("a", "b")
    ring = pipeline.journal.ring
    assert ring.allocated == ring.appended_bytes + HEAD_BYTES + 4 * SLOT_BYTES
    assert kept.house.module.health.figures().memory_bytes == ring.allocated
    for after in (None, 0, 2):
        again = kept.house.attach(pipeline, after)
        again.read()
        assert [frame["seq"] for frame in again.frames] == list(range((after or 0) + 1, 5))
        assert pipeline.pacer.holder is None


@in_loop
async def test_its_metadata_is_there_when_what_was_read_again_has_gone() -> None:
    kept = Kept(STREAM__JOURNAL_BYTES=100_000)
    pipeline = await kept.crawl("a", "b", "c", text="x" * 3000)
    metadata = pipeline.journal.metadata
    assert pipeline.journal.ring.first == 1
    pipeline.journal.trim(3, 5000)
    assert (pipeline.journal.metadata, pipeline.journal.ring.first) == (metadata, 3)
    again = kept.house.attach(pipeline)
    again.read()
    assert [frame["type"] for frame in again.frames] == ["metadata", "gap", "result", "result", "summary"]
