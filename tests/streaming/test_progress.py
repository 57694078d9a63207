"""Progress: every fifth result, the newest only, when nothing else waits (docs/protocol.md, *Frames*)."""

from __future__ import annotations

import pytest
from doubles import Pages, RecordingSink, settle
from house import House, check, in_loop

from fastmesh.wire.encoders import SseEncoder


class Run:
    """A crawl of *total* URLs that end one by one, as the test says."""

    def __init__(self, total: int, **more: object) -> None:
        self.house, self.pages = House(), Pages()
        self.urls = [f"u{at}" for at in range(total)]
        self.sink: RecordingSink = self.house.crawl(self.pages, self.urls, concurrency=total, **more)
        self._ended = 0

    async def end(self, count: int) -> None:
        """*count* more URLs are done; nothing is read."""
        await settle()
        for url in self.urls[self._ended : self._ended + count]:
            self.pages.finish(url)
        self._ended += count
        await settle()


def progress(sink: RecordingSink) -> list[int]:
    return [frame["items_completed"] for frame in sink.frames if frame["type"] == "progress"]


def without_progress(sink: RecordingSink) -> RecordingSink:
    lines = b"".join(sink.written).splitlines(keepends=True)
    return RecordingSink(written=[line for line in lines if b'"type":"progress"' not in line], ended=sink.ended)


@in_loop
async def test_every_fifth_result_is_followed_by_one() -> None:
    run = Run(12, progress=True)
    run.sink.read()
    for _ in range(12):
        await run.end(1)
        run.sink.read()
    run.sink.read()
    kinds = [frame["type"] for frame in run.sink.frames]
    assert kinds == ["metadata", *["result"] * 5, "progress", *["result"] * 5, "progress", *["result"] * 2, "summary"]
    assert check(without_progress(run.sink), 12)["successful"] == 12


@in_loop
async def test_it_says_how_far_the_stream_is() -> None:
    run = Run(20, progress=True)
    run.sink.read()
    run.house.now = 5.0
    await run.end(5)
    run.sink.read()
    told = run.sink.frames[-1]
    assert "seq" not in told
    stream_id = run.sink.frames[0]["stream_id"]
    assert (told["stream_id"], told["operation_id"], told["operation_type"]) == (stream_id, stream_id, "crawl")
    assert (told["items_completed"], told["items_total"], told["progress_percentage"]) == (5, 20, 25.0)
    assert (told["current_phase"], told["current_item"]) == ("flushing", "u4")
    assert told["started_at"] <= told["estimated_completion"]


@in_loop
async def test_who_has_not_read_is_told_the_newest_once_it_has() -> None:
    run = Run(20, progress=True)
    run.sink.read()
    await run.end(17)
    run.sink.read(1)  # one frame: more waits
    assert progress(run.sink) == []
    run.sink.read()
    assert progress(run.sink) == [15]
    run.sink.read()
    assert progress(run.sink) == [15]
    await run.end(3)
    run.sink.read()
    run.sink.read()
    assert progress(run.sink) == [15]  # the summary says it all


@in_loop
async def test_each_reader_is_told_by_its_own_protocol() -> None:
    run = Run(12, progress=True)
    late = run.house.attach(run.sink.subscriber.pipeline, encoder=SseEncoder(retry_ms=1, chunked=False))  # type: ignore[union-attr]
    await run.end(5)
    run.sink.read()
    assert progress(run.sink) == [5]
    await run.end(5)
    late.read()
    events = b"".join(late.written).split(b"\n\n")
    (told,) = [event for event in events if b"event: progress" in event]
    assert b'"items_completed":10' in told
    assert b"id:" not in told
    counts = late.subscriber.counts  # type: ignore[union-attr]
    assert counts.sent["progress"] == 1


@pytest.mark.parametrize(("total", "asked"), [(10, True), (30, False)])
@in_loop
async def test_a_short_stream_and_one_that_did_not_ask_have_none(total: int, asked: bool) -> None:
    run = Run(total, progress=asked)
    for _ in range(total // 5):
        await run.end(5)
        run.sink.read()
    run.sink.read()
    assert progress(run.sink) == []
    check(run.sink, total)
