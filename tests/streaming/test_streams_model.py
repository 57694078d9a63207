"""Several streams of one module in any order of events, and what holds at every moment.

Pages finish and fail, clients read a little, much or nothing, leave, are cancelled; the total is small
enough to be hit.  Whatever happened, once everybody reads every stream comes to its end.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from doubles import Pages, TurnedLoop, in_order, settle
from house import House, check
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fastmesh.streaming.fill.processor import StreamProcessor
from fastmesh.streaming.lifecycle import State
from fastmesh.streaming.pipeline import StreamingPipeline

WINDOW_FRAMES, WINDOW_BYTES, TOTAL_BYTES = 5, 4000, 6000


class _Asked:
    """A stream whose admission's ``may_start`` is *may_start*."""

    def __init__(self, pipeline: StreamingPipeline, may_start: Callable[[int, int], bool]) -> None:
        self._pipeline = pipeline
        self.may_start = may_start

    @property
    def admission(self) -> _Asked:
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline.admission if name in ("may_append", "count_held") else self._pipeline, name)


class Watched:
    """A crawl whose every start is held against the rule of credit, with counts that are not the processor's own."""

    def __init__(self, house: House, urls: int, concurrency: int) -> None:
        self.pages = Pages()
        self.urls = urls
        self.concurrency = concurrency
        self.started = self.finished = 0
        self.left = False
        self.asked = ""
        self._house = house
        self.sink = house.open(self._make, urls)

    def _make(self, pipeline: StreamingPipeline) -> StreamProcessor:
        self._pipeline = pipeline
        watched: Any = _Asked(pipeline, self._watch)
        urls = [str(at) for at in range(self.urls)]
        return StreamProcessor(watched, in_order(self._execute), self.concurrency, urls=urls)

    async def _execute(self, url: str) -> Any:
        page = await self.pages.execute(url)
        self.finished += 1
        return page

    def _watch(self, claimed: int, held_bytes: int) -> bool:
        running, reader = self.started - self.finished, self.reader
        assert (claimed, held_bytes) == (running, 0)
        batch = self._pipeline.journal.ring.read(reader.next_seq, 1 << 30)[0] if reader else []
        unread, unread_bytes = len(batch), len(b"".join(batch))
        may = self._pipeline.admission.may_start(claimed, held_bytes)
        if may:
            assert reader is not None
            assert running < self.concurrency
            assert unread + running < WINDOW_FRAMES
            assert unread_bytes < WINDOW_BYTES
            held = self._house.module.health.figures().memory_bytes
            assert held < TOTAL_BYTES or (unread, running) == (0, 0)
            self.started += 1
        return may

    @property
    def reader(self) -> Any:
        return self._pipeline.pacer.holder if self._pipeline.audience.attached else None

    @property
    def closed(self) -> bool:
        return self._pipeline.lifecycle.closed


class StreamsModel(RuleBasedStateMachine):
    """The house and up to six crawls in it."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=TurnedLoop)
        self.crawls: list[Watched] = []
        self.house = self.run(self._house())

    async def _house(self) -> House:
        return House(
            BUFFER__INITIAL_FRAMES_NDJSON=WINDOW_FRAMES,
            BUFFER__INITIAL_BYTES=WINDOW_BYTES,
            BUFFER__TOTAL_BYTES=TOTAL_BYTES,
            STREAM__MAX_FRAME_BYTES=4096,
        )

    def run(self, doing: Any) -> Any:
        return self.runner.run(doing)

    def act(self, doing: Callable[[], object]) -> None:
        """Do it in the loop, and let everything follow that follows from it."""

        async def go() -> None:
            doing()
            await settle()

        self.run(go())

    def choose(self, data: st.DataObject) -> Watched:
        return data.draw(st.sampled_from(self.crawls))

    @precondition(lambda self: len(self.crawls) < 6 and self.house.module.health.figures().memory_bytes < TOTAL_BYTES)
    @rule(urls=st.integers(1, 12), concurrency=st.integers(1, 6))
    def open(self, urls: int, concurrency: int) -> None:
        self.act(lambda: self.crawls.append(Watched(self.house, urls, concurrency)))

    @precondition(lambda self: any(crawl.pages.running for crawl in self.crawls))
    @rule(data=st.data(), size=st.integers(0, 9000), fails=st.booleans())
    def finish(self, data: st.DataObject, size: int, fails: bool) -> None:
        crawl = data.draw(st.sampled_from([crawl for crawl in self.crawls if crawl.pages.running]))
        url = data.draw(st.sampled_from(sorted(crawl.pages.running)))
        self.act(lambda: crawl.pages.finish(url, text="x" * size, fails=fails))

    @precondition(lambda self: self.crawls)
    @rule(data=st.data(), max_bytes=st.integers(1, 20_000))
    def read(self, data: st.DataObject, max_bytes: int) -> None:
        crawl = self.choose(data)
        if not crawl.left:
            self.act(lambda: crawl.sink.read(max_bytes))

    @precondition(lambda self: self.crawls)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        crawl = self.choose(data)
        crawl.left = True
        self.act(crawl.sink.abandon)
        assert crawl.closed
        assert crawl.pages.running == {}

    @precondition(lambda self: self.crawls)
    @rule(data=st.data(), status=st.sampled_from(["cancelled", "deadline", "shutdown"]))
    def stop(self, data: st.DataObject, status: str) -> None:
        crawl = self.choose(data)
        if crawl._pipeline.lifecycle.open:
            crawl.asked = status
        self.act(lambda: crawl._pipeline.stop(status))
        assert crawl.pages.running == {}

    @invariant()
    def memory_is_what_the_journals_hold(self) -> None:
        held = sum(crawl._pipeline.journal.ring.allocated for crawl in self.crawls)
        assert self.house.module.health.figures().memory_bytes == held

    @invariant()
    def figures_are_the_open_streams(self) -> None:
        figures = self.house.module.health.figures()
        assert figures.active_streams == sum(not crawl.closed for crawl in self.crawls)
        assert figures.active_connections == sum(crawl.reader is not None for crawl in self.crawls)
        assert self.house.metrics.protocols["ndjson"].active == figures.active_connections

    @invariant()
    def counters_are_the_frames_that_were_written(self) -> None:
        counts = self.house.metrics.protocols["ndjson"]
        frames = Counter(frame["type"] for crawl in self.crawls for frame in crawl.sink.frames)
        assert +Counter(counts.sent_by_type()) == frames
        assert counts.bytes == sum(len(b"".join(crawl.sink.written)) for crawl in self.crawls)
        assert counts.connections == len(self.crawls)

    @invariant()
    def nothing_runs_beyond_its_concurrency(self) -> None:
        for crawl in self.crawls:
            assert crawl.pages.most <= crawl.concurrency
            assert len(set(crawl.pages.started)) == len(crawl.pages.started)

    def teardown(self) -> None:
        """Everybody reads now and every page ends: so does every stream, with totals that reconcile."""

        async def drain() -> None:
            for _ in range(100):
                for crawl in self.crawls:
                    for url in list(crawl.pages.running):
                        crawl.pages.finish(url)
                    if not crawl.left:
                        crawl.sink.read()
                await settle()

        self.run(drain())
        for crawl in self.crawls:
            assert crawl._pipeline.lifecycle.state is State.CLOSED
            if not crawl.left:
                summary = check(crawl.sink, crawl.urls)
                assert summary["status"] == (crawl.asked or "completed")
        assert self.house.module.health.figures().memory_bytes == 0
        self.runner.close()


TestStreamsModel = StreamsModel.TestCase
TestStreamsModel.settings = settings(max_examples=60, stateful_step_count=40)
