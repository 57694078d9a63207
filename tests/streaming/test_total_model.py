"""Streams of every kind under one small total, in any order of events: what each holds and what all hold is bounded.

Openers wait, drop or are cut off, streams are detached or not, results leave in order or not; readers come with
and without a position, are paused, read, leave; memory runs out.  At every moment each stream holds no more than
its own bounds say, all together what is counted, and nobody is refused while anything could be let go of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from doubles import Pages, RecordingSink, TurnedLoop, in_order, settle
from house import House
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from fastmesh.errors import Overloaded
from fastmesh.streaming.fill.processor import StreamProcessor
from fastmesh.streaming.pacer import Place

TOTAL, BEHIND, AHEAD, DETACHED, WINDOW_S = 40_000, 2000, 4000, 6000, 120.0
LARGEST, OVERHEAD = 2000, 700
FRAME = LARGEST + OVERHEAD
URLS, MOST_STREAMS, MOST_READERS = 40, 6, 3


class Stream:
    """One of them, and how much it may hold."""

    def __init__(self, house: House, on_slow: str, concurrency: int, *, detached: bool, ordered: bool) -> None:
        self.pages = Pages()
        self.on_slow, self.detached = on_slow, detached
        self.readers: list[RecordingSink] = []
        running = (concurrency + 1) * FRAME  # what runs may pass the bounds, and so may the summary
        # With the input's order as much as may be held back comes at once.
        self.most = running + (DETACHED if detached else BEHIND + AHEAD) + (max(AHEAD, DETACHED) if ordered else 0)
        self.most_held_back = running + max(AHEAD, DETACHED)
        self.pipeline = house.begin(
            lambda pipeline: StreamProcessor(
                pipeline,
                in_order(self.pages.execute),
                concurrency,
                urls=[str(at) for at in range(URLS)],
                in_order=ordered,
            ),
            URLS,
            on_slow=on_slow,
            detached=detached,
            kept=True,
        )
        processor = self.pipeline._processor
        assert isinstance(processor, StreamProcessor)
        self.outbox = processor._results.outbox

    @property
    def story(self) -> str:
        """How it is, for whom it fails."""
        pipeline, outbox = self.pipeline, self.outbox
        return (
            f"{self.on_slow} detached={self.detached} {pipeline.lifecycle.state} {pipeline.pacer.place}"
            f" frames {pipeline.journal.ring.first}-{pipeline.journal.last_seq}"
            f" kept from {pipeline.retention.kept_from()[0]}"
            f" running {len(self.pages.running)} started {len(self.pages.started)} held {outbox.frames}"
            f" waits {pipeline.room in self.buffers._waiting} readers {len(self.here)}/{len(self.readers)}"
            f" unread {[sink.subscriber.unread_frames for sink in self.here if sink.subscriber]}"
        )

    @property
    def closed(self) -> bool:
        return self.pipeline.lifecycle.closed

    @property
    def held_back(self) -> int:
        """Outside of the journal; what is left when a stream ends is given up with it."""
        return 0 if self.pipeline.complete else self.outbox.memory

    @property
    def here(self) -> list[RecordingSink]:
        return [sink for sink in self.readers if sink.subscriber in self.pipeline.audience.attached]


class TotalModel(RuleBasedStateMachine):
    """The house and its streams."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=TurnedLoop)
        self.streams: list[Stream] = []

        async def house() -> House:
            return House(
                BUFFER__INITIAL_FRAMES_NDJSON=6,
                BUFFER__INITIAL_BYTES=AHEAD,
                BUFFER__TOTAL_BYTES=TOTAL,
                STREAM__MAX_FRAME_BYTES=4096,
                STREAM__JOURNAL_BYTES=BEHIND,
                STREAM__DETACHED_BYTES=DETACHED,
                STREAM__RESUME_WINDOW_S=WINDOW_S,
            )

        self.house = self.runner.run(house())
        self.buffers = self.house.module.buffers

    def act(self, doing: Callable[[], object]) -> None:
        """Do it, and let follow what follows; whose stream does not wait for him reads as soon as he is not stuck."""

        async def go() -> None:
            doing()
            await settle(turns=8)
            for stream in self.streams:
                for sink in stream.here:
                    if stream.on_slow != "block" and not sink.paused:
                        sink.read()
            await settle(turns=8)

        self.runner.run(go())

    def readers(self) -> list[RecordingSink]:
        return [sink for stream in self.streams for sink in stream.here]

    # ── what may happen ──────────────────────────────────────────────────────────────────

    @precondition(lambda self: sum(not stream.closed for stream in self.streams) < MOST_STREAMS)
    @rule(
        kind=st.sampled_from(
            [("block", False), ("drop", False), ("disconnect", False), ("block", True), ("drop", True)]
        ),
        concurrency=st.integers(1, 3),
        ordered=st.booleans(),
    )
    def open(self, kind: tuple[str, bool], concurrency: int, ordered: bool) -> None:
        on_slow, detached = kind

        def begin() -> None:
            try:
                stream = Stream(self.house, on_slow, concurrency, detached=detached, ordered=ordered)
            except Overloaded:
                self.nothing_could_be_let_go()
            else:
                self.streams.append(stream)
                stream.readers.append(self.house.attach(stream.pipeline))

        self.act(begin)

    @precondition(lambda self: self.streams)
    @rule(data=st.data(), after=st.sampled_from([None, 0, "middle", "last"]))
    def attach(self, data: st.DataObject, after: Any) -> None:
        stream = data.draw(st.sampled_from(self.streams))
        pipeline = stream.pipeline
        if self.house.module.registry.find(pipeline.id, None) is None or len(stream.here) >= MOST_READERS:
            return
        last = pipeline.journal.last_seq
        after = {"middle": last // 2, "last": last}.get(after, after)
        if not (pipeline.complete and after == last):  # that is a 204
            self.act(lambda: stream.readers.append(self.house.attach(pipeline, after)))

    @precondition(lambda self: self.readers())
    @rule(data=st.data(), max_bytes=st.sampled_from([1, 3000, 1 << 20]))
    def read(self, data: st.DataObject, max_bytes: int) -> None:
        sink = data.draw(st.sampled_from(self.readers()))
        if not sink.paused:
            self.act(lambda: sink.read(max_bytes))

    @precondition(lambda self: self.readers())
    @rule(data=st.data())
    def pause_or_resume(self, data: st.DataObject) -> None:
        sink = data.draw(st.sampled_from(self.readers()))
        sink.paused = not sink.paused
        self.act(lambda: None)

    @precondition(lambda self: self.readers())
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        self.act(data.draw(st.sampled_from(self.readers())).leave)

    @precondition(lambda self: any(stream.pages.running for stream in self.streams))
    @rule(data=st.data(), size=st.integers(0, LARGEST), count=st.integers(1, 20), fails=st.booleans())
    def finish(self, data: st.DataObject, size: int, count: int, fails: bool) -> None:
        """One stream's pages end, one after the other, as many as it starts."""
        stream = data.draw(st.sampled_from([stream for stream in self.streams if stream.pages.running]))
        for _ in range(count):
            running = sorted(stream.pages.running)
            if running:
                url = running[-1 if fails else 0]
                self.act(lambda url=url: stream.pages.finish(url, text="x" * size, fails=fails))
                self.each_holds_no_more_than_it_may()

    @precondition(lambda self: self.streams)
    @rule(data=st.data(), status=st.sampled_from(["cancelled", "deadline"]))
    def stop(self, data: st.DataObject, status: str) -> None:
        self.act(lambda: data.draw(st.sampled_from(self.streams)).pipeline.stop(status))

    @rule(seconds=st.sampled_from([0.1, WINDOW_S]))
    def tick(self, seconds: float) -> None:
        def turn() -> None:
            self.house.now += seconds
            self.house.module.upkeep.tick(self.house.now, sample=True)
            if not self.buffers.make_room():
                self.nothing_could_be_let_go()
            self.who_is_stuck_and_not_waited_for_lags_no_more_than_he_may()

        self.act(turn)

    def who_is_stuck_and_not_waited_for_lags_no_more_than_he_may(self) -> None:
        for stream in self.streams:
            pacer = stream.pipeline.pacer
            if stream.on_slow == "drop" and pacer.place is Place.HELD and pacer.holder is not None:
                unread = pacer.holder.unread_bytes
                assert unread <= AHEAD or not pacer.holder.sink.paused or stream.pipeline.complete

    def nothing_could_be_let_go(self) -> None:
        for stream in self.streams:
            pipeline = stream.pipeline
            if self.house.module.registry.find(pipeline.id, None) is None:
                assert pipeline.journal.ring.allocated == 0
                continue
            assert not pipeline.lifecycle.closed or pipeline.audience.attached
            if not pipeline.complete:  # the last frame of a stream is never let go of
                assert pipeline.retention.behind_bytes == 0, (self.buffers.held_bytes, stream.story)
            if pipeline.lifecycle.closed:
                assert pipeline.retention.beyond_window_bytes <= FRAME

    # ── what must hold ───────────────────────────────────────────────────────────────────

    @invariant()
    def what_is_counted_is_what_is_held(self) -> None:
        journals = sum(stream.pipeline.journal.ring.allocated for stream in self.streams)
        held_back = sum(stream.held_back for stream in self.streams)
        assert self.house.module.health.figures().memory_bytes == journals + held_back
        unsent = [
            stream.pipeline.retention.unsent_bytes for stream in self.streams if stream.detached and not stream.closed
        ]
        assert self.buffers.unsent_bytes == sum(unsent)

    @invariant()
    def each_holds_no_more_than_it_may(self) -> None:
        for stream in self.streams:
            ring = stream.pipeline.journal.ring
            assert ring.appended_bytes - ring.evicted_bytes <= stream.most
            assert stream.held_back <= stream.most_held_back

    @invariant()
    def the_alarm_falls_with_what_is_held(self) -> None:
        total = self.buffers.total
        assert total.held < total.alarm
        assert total.held >= TOTAL or total.alarm == TOTAL

    def teardown(self) -> None:
        """Everybody reads and every page ends: so does every stream, and nothing is held at the end."""

        def drain(stream: Stream) -> None:
            for url in list(stream.pages.running):
                stream.pages.finish(url)
            for sink in stream.here:
                sink.paused = False
                sink.read()

        try:
            for stream in self.streams:
                # What a detached stream holds it was to send to somebody, who begins at its start.
                if (stream.detached or not stream.here) and self.house.module.registry.find(
                    stream.pipeline.id, None
                ) is not None:
                    self.act(lambda stream=stream: stream.readers.append(self.house.attach(stream.pipeline)))
            self.tick(WINDOW_S + 1)  # who came without a position takes the place
            for _ in range(3 * URLS):
                for stream in self.streams:
                    self.act(lambda stream=stream: drain(stream))
                if all(stream.closed for stream in self.streams):
                    break
            still_open = [stream.story for stream in self.streams if not stream.closed]
            assert not still_open, still_open
            assert not self.readers()
            self.tick(WINDOW_S)
            self.house.now += 3600.0
            self.tick(WINDOW_S)
            figures = self.house.module.health.figures()
            assert (figures.memory_bytes, self.buffers.unsent_bytes) == (0, 0)
        finally:
            for stream in self.streams:
                self.act(lambda stream=stream: stream.pipeline.stop("cancelled"))
            self.runner.close()


TestTotalModel = TotalModel.TestCase
TestTotalModel.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)


@pytest.mark.long
def test_for_longer() -> None:
    run_state_machine_as_test(TotalModel, settings=settings(max_examples=1000, stateful_step_count=50, deadline=None))
