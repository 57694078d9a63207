"""The policies: told facts, they answer; no clock but the one that is turned by hand."""

from __future__ import annotations

from itertools import pairwise

import orjson
import pytest
from doubles import Soon, reader_of
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fastmesh._core import BackpressureHandler, Journal, overdue
from fastmesh.config import BufferSettings
from fastmesh.streaming.fill.results import Tally
from fastmesh.streaming.lifecycle import NEXT, State
from fastmesh.streaming.memory import BufferManager
from fastmesh.streaming.window import DynamicBuffer, WindowBounds
from fastmesh.telemetry.rates import RecentShare


class JournalModel(RuleBasedStateMachine):
    """Two journals on one BufferManager, against plain lists."""

    def __init__(self) -> None:
        super().__init__()
        self.buffers = BufferManager(BufferSettings(total_bytes=1), Soon())
        self.now = 0.0
        self.journals = [Journal(self.buffers.total, lambda: self.now, b"s") for _ in range(2)]
        self.kept: list[list[bytes]] = [[], []]
        self.entered: list[list[float]] = [[], []]
        self.first = [1, 1]

    @rule(seconds=st.floats(0, 10))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(which=st.integers(0, 1), text=st.text(max_size=50))
    def append(self, which: int, text: str) -> None:
        kept = self.kept[which]
        seq = self.first[which] + len(kept)
        assert self.journals[which].append({"type": "result", "seq": 0, "text": text}) == seq
        kept.append(orjson.dumps({"type": "result", "seq": seq, "text": text}))
        self.entered[which].append(self.now)

    @rule(which=st.integers(0, 1), wrong=st.sampled_from(["\ud800", {1: 2}, object(), 1 << 70]))
    def append_what_has_no_json(self, which: int, wrong: object) -> None:
        last = self.journals[which].last_seq
        with pytest.raises(TypeError):
            self.journals[which].append({"type": "result", "seq": 0, "text": wrong})
        assert self.journals[which].last_seq == last

    @rule(which=st.integers(0, 1), data=st.data())
    def evict(self, which: int, data: st.DataObject) -> None:
        count = data.draw(st.integers(0, len(self.kept[which])))
        self.first[which] += count
        del self.kept[which][:count], self.entered[which][:count]
        self.journals[which].trim(self.first[which], self.journals[which].ring.appended_bytes)

    @invariant()
    def agree(self) -> None:
        for which, (journal, kept, first) in enumerate(zip(self.journals, self.kept, self.first, strict=True)):
            assert journal.last_seq == first + len(kept) - 1
            assert journal.ring.read(first, 1 << 30) == (kept, sum(map(len, kept)))
            assert journal.ring.read(first, 1)[0] == kept[:1]
            assert [journal.ring.entered(first + at) for at in range(len(kept))] == self.entered[which]
        assert self.buffers.held_bytes == sum(journal.ring.allocated for journal in self.journals)

    def teardown(self) -> None:
        for journal in self.journals:
            journal.close()
        assert self.buffers.held_bytes == 0


TestJournalModel = JournalModel.TestCase


class TestLifecycle:
    def test_every_state_is_reached_and_only_closed_is_the_end(self) -> None:
        reached = {State.INITIALIZING}
        while more := {new for (old, _), new in NEXT.items() if old in reached} - reached:
            reached |= more
        assert reached == set(State)
        assert {state for state in State if not any(old is state for old, _ in NEXT)} == {State.CLOSED}


class TestWindow:
    @given(st.integers(1, 50), st.integers(1, 5000), st.integers(0, 60), st.integers(0, 6000), st.integers(0, 60))
    def test_room_is_below_both_bounds(
        self, frames: int, octets: int, unread: int, unread_bytes: int, running: int
    ) -> None:
        room = DynamicBuffer(frames, octets, WindowBounds(frames, frames, octets, octets)).has_room(
            unread, unread_bytes, running
        )
        assert room == (unread + running < frames and unread_bytes < octets)

    def test_is_lent_by_protocol(self) -> None:
        window = BufferManager(BufferSettings(initial_frames_ndjson=7, initial_bytes=9), Soon()).lend("ndjson")
        assert (window.capacity_frames, window.capacity_bytes) == (7, 9)


class TestTotal:
    def test_whoever_waits_is_told_once_when_there_is_room(self) -> None:
        told: list[str] = []
        soon = Soon()
        buffers = BufferManager(BufferSettings(total_bytes=100), soon)
        buffers.total.add(150)
        assert not buffers.has_room
        first, second = (lambda: told.append("first")), (lambda: told.append("second"))
        buffers.wait(first)
        buffers.wait(first)
        buffers.wait(second)
        buffers.forget(second)
        buffers.total.add(-10)
        soon.turn()
        assert told == []
        buffers.total.add(-41)
        assert told == []  # nobody is called by who counts
        soon.turn()
        assert told == ["first"]
        buffers.total.add(50)
        buffers.total.add(-50)
        soon.turn()
        assert told == ["first"]


class TestBackpressure:
    SLOW_S = 0.1

    def setup_method(self) -> None:
        self.reader = reader_of(BackpressureHandler(slow_ms=100))
        self.handler = self.reader.backpressure
        self.ring = self.reader.journal.ring

    def append(self, count: int, at: float) -> None:
        for _ in range(count):
            self.ring.append(b"x", at)

    def test_more_than_half_slow_of_at_least_25(self) -> None:
        self.append(24, 0.0)
        self.handler.took(self.ring, 1, 25, 0.2)
        assert not self.handler.under_backpressure(0.2)
        self.append(1, 0.0)
        self.handler.took(self.ring, 25, 26, 0.2)
        assert self.handler.under_backpressure(0.2)
        self.append(25, 0.2)
        self.handler.took(self.ring, 26, 51, 0.2)  # now half of 50 are slow, not more
        assert not self.handler.under_backpressure(0.2)

    def test_what_waits_counts_when_its_time_is_over_and_not_twice(self) -> None:
        self.append(30, 0.0)
        overdue([self.reader], 0.1)
        assert self.handler.slow == 0
        overdue([self.reader], 0.11)
        assert self.handler.under_backpressure(0.11)
        overdue([self.reader], 0.2)
        assert self.handler.took(self.ring, 1, 31, 0.3) == 0.3
        assert self.handler.slow_total == 30

    def test_does_not_latch(self) -> None:
        """Whatever was slow a second ago says nothing about now."""
        self.append(50, 0.0)
        overdue([self.reader], 0.5)
        assert self.handler.under_backpressure(0.5)
        assert self.handler.under_backpressure(1.5)
        assert not self.handler.under_backpressure(1.51)


class TestTally:
    @given(st.integers(1, 60), st.data())
    def test_counts_and_names_what_is_left(self, total: int, data: st.DataObject) -> None:
        order = data.draw(st.permutations(range(total)))
        done = order[: data.draw(st.integers(0, total))]
        tally = Tally(total)
        for index in done:
            tally.count(index, index % 3 != 0)
        assert (tally.completed, tally.successful, tally.failed) == (
            len(done),
            sum(index % 3 != 0 for index in done),
            sum(index % 3 == 0 for index in done),
        )
        ranges = tally.unfinished()
        named = [index for low, high in ranges for index in range(low, high + 1)]
        assert named == sorted(set(range(total)) - set(done))
        assert all(high + 1 < low for (_, high), (low, _) in pairwise(ranges))


class TestRecentShare:
    def test_forgets_after_a_minute(self) -> None:
        rate = RecentShare()
        assert rate.share(0.0) == 0.0
        rate.count(0.0, bad=True)
        rate.count(30.0, bad=False)
        assert rate.share(30.0) == 0.5
        assert rate.share(59.9) == 0.5
        assert rate.share(60.0) == 0.0
        rate.count(1e6, bad=True)
        assert rate.share(1e6) == 1.0

    @given(st.lists(st.tuples(st.floats(0, 30), st.booleans()), max_size=30))
    def test_counts_by_whole_seconds_what_a_minute_holds(self, events: list[tuple[float, bool]]) -> None:
        rate, seen, now = RecentShare(), [], 0.0
        for step, bad in events:
            now += step
            rate.count(now, bad)
            seen.append((int(now), bad))
            kept = [was_bad for second, was_bad in seen if second > now - 60]
            assert rate.share(now) == sum(kept) / len(kept)
        assert rate.share(now + 61) == 0.0
