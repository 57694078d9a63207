"""BackpressureHandler against a deque."""

from __future__ import annotations

from collections import deque

import pytest
from doubles import reader_of
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fastmesh._core import BackpressureHandler, RingBuffer, overdue

SIZE, FEWEST, FORGET_S = 50, 25, 1.0
SLOW_MS = 100
SLOW_S = 0.1


class HandlerModel(RuleBasedStateMachine):
    """Frames enter a ring, wait, are taken; the time only goes forward."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = reader_of(BackpressureHandler(SLOW_MS))
        self.handler = self.reader.backpressure
        self.ring = self.reader.journal.ring
        self.entries: deque[tuple[float, bool]] = deque(maxlen=SIZE)
        self.slow_total = 0
        self.now = 0.0
        self.judged = 1  # frames before it are in the window

    def enter(self, slow: bool) -> None:
        self.entries.append((self.now, slow))
        self.slow_total += slow

    @rule(seconds=st.floats(0, 2))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(count=st.integers(1, 60))
    def append(self, count: int) -> None:
        for _ in range(count):
            self.ring.append(b"x", self.now)

    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        first = self.ring.first
        end = data.draw(st.integers(first, self.ring.next))
        waits = [self.now - self.ring.entered(seq) for seq in range(first, end)]
        assert self.handler.took(self.ring, first, end, self.now) == max(waits, default=0)
        for waited in waits[max(0, self.judged - first) :]:  # what was overdue before is there already
            self.enter(waited > SLOW_S)
        self.judged = max(self.judged, end)
        self.ring.trim(end, self.ring.appended_bytes)

    @rule()
    def overdue(self) -> None:
        while self.judged < self.ring.next and self.now - self.ring.entered(self.judged) > SLOW_S:
            self.enter(True)
            self.judged += 1
        overdue([self.reader], self.now)

    @rule()
    def judge(self) -> None:
        while self.entries and self.entries[0][0] < self.now - FORGET_S:
            self.entries.popleft()
        slow = sum(slow for _, slow in self.entries)
        assert self.handler.under_backpressure(self.now) == (
            len(self.entries) >= FEWEST and slow * 2 > len(self.entries)
        )

    @invariant()
    def counts(self) -> None:
        slow = sum(slow for _, slow in self.entries)
        assert len(self.handler) == len(self.entries)
        assert self.handler.slow == slow
        assert self.handler.mostly_slow == (slow * 2 > len(self.entries))
        assert self.handler.slow_total == self.slow_total


TestHandlerModel = HandlerModel.TestCase


def test_a_ring_is_a_ring() -> None:
    handler = BackpressureHandler(SLOW_MS)
    with pytest.raises(TypeError):
        handler.took(None, 1, 1, 0.0)  # type: ignore[arg-type]
    with pytest.raises(IndexError):
        handler.took(RingBuffer(), 1, 2, 0.0)


def test_what_was_refused_entered_nothing() -> None:
    ring, handler = RingBuffer(), BackpressureHandler(SLOW_MS)
    for _ in range(5):
        ring.append(b"x", 0.0)
    ring.trim(3, 2)
    for seq, end in ((1, 4), (3, 7), (7, 8)):
        with pytest.raises(IndexError):
            handler.took(ring, seq, end, 9.0)
    assert (len(handler), handler.slow, handler.slow_total) == (0, 0, 0)


@pytest.mark.parametrize(("waited", "slow"), [(SLOW_S, 0), (0.1001, 1)])
def test_slow_is_longer_than_the_limit_and_not_as_long(waited: float, slow: int) -> None:
    reader = reader_of(BackpressureHandler(SLOW_MS))
    ring = reader.journal.ring
    ring.append(b"x", 0.0)
    overdue([reader], waited)
    assert reader.backpressure.slow_total == slow
    again = BackpressureHandler(SLOW_MS)
    assert again.took(ring, 1, 2, waited) == waited
    assert again.slow_total == slow


def test_what_wrapped_round_in_the_ring_is_judged_by_its_own_entry() -> None:
    reader = reader_of(BackpressureHandler(2500))
    ring, handler = reader.journal.ring, reader.backpressure
    for seq in range(1, 9):
        ring.append(b"x", float(seq))
    ring.trim(6, 5)
    for seq in range(9, 14):  # eight slots: 9 to 13 lie before 6
        ring.append(b"x", float(seq))
    overdue([reader], 9.0)
    assert (len(handler), handler.slow) == (1, 1)
    assert handler.took(ring, 6, 14, 14.0) == 8.0
    assert (len(handler), handler.slow) == (8, 1 + 5)  # 7 to 11 waited for longer than 2.5 s
