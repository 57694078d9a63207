"""Any order of readers that come, read, leave and return, pages that end, windows that pass and memory that runs out.

Whatever happens: no durable frame is left out for a reader without a gap that
names it, none comes twice, the stream runs ahead of who it waits for by its
window at most, over its bytes by no more than what was running, and nothing that
is waited for is evicted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from doubles import Pages, RecordingSink, TurnedLoop, in_order, settle
from house import House
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fastmesh.streaming.fill.processor import StreamProcessor
from fastmesh.streaming.pacer import Place
from fastmesh.streaming.pipeline import StreamingPipeline

FRAMES, BYTES, BEHIND, DETACHED, WINDOW_S = 4, 4000, 2000, 6000, 120.0
CONCURRENCY, PAGES, LARGEST = 3, 9, 1500
OVERHEAD = 600  # of a result beside its text


class Reader:
    """What one reader was told, checked as it comes."""

    def __init__(self, sink: RecordingSink, after: int) -> None:
        self.sink = sink
        self.next = after + 1  # the next durable frame that it must hear of
        self.seen = 0
        self.here = True

    def check(self, stream: dict[int, Any]) -> None:
        """Each frame follows the one before, or the gap that names what is missing."""
        for frame in self.sink.frames[self.seen :]:
            self.seen += 1
            if frame["type"] == "heartbeat":
                continue
            if frame["type"] == "gap":
                assert frame["from_seq"] == self.next <= frame["to_seq"]
                self.next = frame["to_seq"] + 1
            else:
                assert frame["seq"] == self.next
                assert stream.setdefault(frame["seq"], frame) == frame  # the same for everybody
                self.next += 1


class PositionsModel(RuleBasedStateMachine):
    """One stream and its readers."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=TurnedLoop)
        self.pages = Pages()
        self.readers: list[Reader] = []
        self.stream: dict[int, Any] = {}

    def act(self, doing: Callable[[], object]) -> None:
        async def go() -> None:
            doing()
            await settle()

        self.runner.run(go())

    @initialize(detached=st.booleans(), total=st.sampled_from([12_000, 1 << 20]))
    def open(self, detached: bool, total: int) -> None:
        self.detached = detached

        def begin() -> None:
            self.house = House(
                BUFFER__INITIAL_FRAMES_NDJSON=FRAMES,
                BUFFER__INITIAL_BYTES=BYTES,
                BUFFER__TOTAL_BYTES=total,
                STREAM__MAX_FRAME_BYTES=4096,
                STREAM__JOURNAL_BYTES=BEHIND,
                STREAM__DETACHED_BYTES=DETACHED,
                STREAM__RESUME_WINDOW_S=WINDOW_S,
            )
            self.pipeline = self.house.begin(self._fill, PAGES, detached=detached, kept=True)

        async def go() -> None:
            begin()
            await settle()

        self.runner.run(go())

    def _fill(self, pipeline: StreamingPipeline) -> StreamProcessor:
        return StreamProcessor(
            pipeline, in_order(self.pages.execute), CONCURRENCY, urls=[str(at) for at in range(PAGES)]
        )

    @property
    def here(self) -> list[Reader]:
        return [reader for reader in self.readers if reader.here and not reader.sink.ended]

    @property
    def kept(self) -> bool:
        return self.house.module.registry.find(self.pipeline.id, None) is not None

    # ── what may happen ──────────────────────────────────────────────────────────────────

    @precondition(lambda self: self.kept and len(self.here) < 4)
    @rule(data=st.data(), with_position=st.booleans())
    def attach(self, data: st.DataObject, with_position: bool) -> None:
        after = data.draw(st.integers(0, self.pipeline.journal.last_seq)) if with_position else None
        if self.pipeline.complete and after == self.pipeline.journal.last_seq:
            return  # 204
        self.act(lambda: self.readers.append(Reader(self.house.attach(self.pipeline, after), after or 0)))

    @precondition(lambda self: self.here)
    @rule(data=st.data(), max_bytes=st.integers(1, 6000))
    def read(self, data: st.DataObject, max_bytes: int) -> None:
        reader = data.draw(st.sampled_from(self.here))
        self.act(lambda: reader.sink.read(max_bytes))

    @precondition(lambda self: self.here)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        reader = data.draw(st.sampled_from(self.here))
        reader.here = False
        self.act(reader.sink.leave)

    @precondition(lambda self: self.pages.running)
    @rule(data=st.data(), size=st.integers(0, LARGEST))
    def finish(self, data: st.DataObject, size: int) -> None:
        urls = data.draw(st.lists(st.sampled_from(sorted(self.pages.running)), min_size=1, unique=True))
        self.act(lambda: [self.pages.finish(url, text="x" * size) for url in urls])

    @rule(seconds=st.sampled_from([1.0, WINDOW_S]))
    def wait(self, seconds: float) -> None:
        def tick() -> None:
            self.house.now += seconds
            self.house.module.upkeep.tick(self.house.now, sample=True)

        self.act(tick)

    @precondition(lambda self: self.pipeline.lifecycle.open)
    @rule(status=st.sampled_from(["cancelled", "deadline"]))
    def stop(self, status: str) -> None:
        self.act(lambda: self.pipeline.stop(status))
        assert self.pages.running == {}

    # ── what must hold ───────────────────────────────────────────────────────────────────

    @invariant()
    def nobody_misses_anything_in_silence(self) -> None:
        for reader in self.readers:
            reader.check(self.stream)
            if reader.sink.ended:
                assert reader.next == self.pipeline.journal.last_seq + 1
                assert reader.sink.frames[-1]["type"] == "summary"

    @invariant()
    def who_is_waited_for_loses_nothing_and_is_not_run_ahead_of(self) -> None:
        pipeline = self.pipeline
        holder = pipeline.pacer.holder
        if holder is None or not pipeline.lifecycle.open:
            return
        if pipeline.pacer.place is Place.HELD and holder is self.readers[0].sink.subscriber:
            # The opener; who took its place over may have been behind already.
            assert pipeline.journal.ring.first <= holder.next_seq
            assert holder.unread_frames + len(self.pages.running) <= FRAMES
            assert holder.unread_bytes < BYTES + CONCURRENCY * (LARGEST + OVERHEAD)

    @invariant()
    def what_is_unread_is_counted(self) -> None:
        ring = self.pipeline.journal.ring
        for reader in self.here:
            subscriber = reader.sink.subscriber
            assert subscriber is not None
            if subscriber.next_seq >= ring.first:
                batch, octets = ring.read(subscriber.next_seq, 1 << 30)
                assert (subscriber.unread_frames, subscriber.unread_bytes) == (len(batch), octets)

    @invariant()
    def nothing_runs_without_a_reader(self) -> None:
        if not self.detached and not self.readers:
            assert self.pages.started == []

    @invariant()
    def memory_is_what_the_journal_holds(self) -> None:
        assert self.house.module.health.figures().memory_bytes == self.pipeline.journal.ring.allocated

    @invariant()
    def so_much_is_kept_behind(self) -> None:
        if self.pipeline.lifecycle.open and not self.detached and self.pipeline.pacer.holder is not None:
            assert self.pipeline.retention.behind_bytes <= BEHIND or any(reader.seen == 0 for reader in self.readers)

    def teardown(self) -> None:
        """Everybody who is here reads on: the stream comes to its end, and everybody to its summary."""
        try:
            if hasattr(self, "pipeline"):
                self.finish_all()
        finally:
            self.act(lambda: self.pipeline.stop("cancelled") if hasattr(self, "pipeline") else None)
            self.runner.close()

    def finish_all(self) -> None:
        if self.kept and not self.here and not (self.pipeline.complete or self.detached):
            self.act(lambda: self.readers.append(Reader(self.house.attach(self.pipeline, 0), 0)))
        if self.pipeline.pacer.place is Place.LEFT:
            self.wait(WINDOW_S)  # who came without a position takes the place only now
        if self.detached and self.kept:  # what was sent to nobody is waited for until somebody reads from the start
            self.act(lambda: self.readers.append(Reader(self.house.attach(self.pipeline, None), 0)))
        for _ in range(400):
            if self.pipeline.complete and not self.here:
                break
            for url in list(self.pages.running):
                self.act(lambda url=url: self.pages.finish(url))
            for reader in self.here:
                self.act(lambda reader=reader: reader.sink.read(1 << 20))
        assert self.pipeline.complete
        assert not self.here
        self.nobody_misses_anything_in_silence()
        assert self.pages.started == [str(at) for at in range(len(self.pages.started))]  # each URL once


TestPositionsModel = PositionsModel.TestCase
TestPositionsModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
