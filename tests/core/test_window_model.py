"""SendWindow against a deque."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fastmesh._core import RingBuffer, SendWindow

SIZE = 50
SLOW_S = 0.1


class WindowModel(RuleBasedStateMachine):
    """Frames enter a ring, wait, are taken; the time only goes forward."""

    def __init__(self) -> None:
        super().__init__()
        self.window = SendWindow()
        self.ring = RingBuffer()
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

    @rule(slow=st.booleans(), times=st.integers(1, 60))
    def record(self, slow: bool, times: int) -> None:
        for _ in range(times):
            self.window.record(self.now, slow)
            self.enter(slow)

    @rule(count=st.integers(1, 30))
    def append(self, count: int) -> None:
        for _ in range(count):
            self.ring.append(b"x", self.now)

    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        end = data.draw(st.integers(self.judged, self.ring.next))
        waits = [self.now - self.ring.entered(seq) for seq in range(self.judged, end)]
        assert self.window.took(self.ring, self.judged, end, self.now, SLOW_S) == max(waits, default=0)
        for waited in waits:
            self.enter(waited > SLOW_S)
        self.judged = end
        self.ring.evict(end)

    @rule()
    def overdue(self) -> None:
        end = self.judged
        while end < self.ring.next and self.now - self.ring.entered(end) > SLOW_S:
            self.enter(True)
            end += 1
        assert self.window.overdue(self.ring, self.judged, self.now, SLOW_S) == end
        self.judged = end

    @rule(age=st.floats(0, 2))
    def expire(self, age: float) -> None:
        self.window.expire(self.now - age)
        while self.entries and self.entries[0][0] < self.now - age:
            self.entries.popleft()

    @invariant()
    def counts(self) -> None:
        assert len(self.window) == len(self.entries)
        assert self.window.slow == sum(slow for _, slow in self.entries)
        assert self.window.slow_total == self.slow_total


TestWindowModel = WindowModel.TestCase


def test_a_ring_is_a_ring() -> None:
    window = SendWindow()
    with pytest.raises(TypeError):
        window.took(None, 1, 1, 0.0, 0.1)  # type: ignore[arg-type]
    with pytest.raises(IndexError):
        window.took(RingBuffer(), 1, 2, 0.0, 0.1)
    with pytest.raises(IndexError):
        window.overdue(RingBuffer(), 2, 0.0, 0.1)


def test_what_was_refused_entered_nothing() -> None:
    ring, window = RingBuffer(), SendWindow()
    for _ in range(5):
        ring.append(b"x", 0.0)
    ring.evict(3)
    for seq, end in ((1, 4), (3, 7), (7, 8)):
        with pytest.raises(IndexError):
            window.took(ring, seq, end, 9.0, SLOW_S)
    for seq in (2, 7):
        with pytest.raises(IndexError):
            window.overdue(ring, seq, 9.0, SLOW_S)
    assert (len(window), window.slow, window.slow_total) == (0, 0, 0)


@pytest.mark.parametrize(("waited", "slow"), [(SLOW_S, 0), (0.1001, 1)])
def test_slow_is_longer_than_the_limit_and_not_as_long(waited: float, slow: int) -> None:
    ring, window = RingBuffer(), SendWindow()
    ring.append(b"x", 0.0)
    assert window.overdue(ring, 1, waited, SLOW_S) == 1 + slow
    assert window.slow_total == slow
    again = SendWindow()
    assert again.took(ring, 1, 2, waited, SLOW_S) == waited
    assert again.slow_total == slow


def test_what_wrapped_round_in_the_ring_is_judged_by_its_own_entry() -> None:
    ring, window = RingBuffer(), SendWindow()
    for seq in range(1, 9):
        ring.append(b"x", float(seq))
    ring.evict(6)
    for seq in range(9, 14):  # eight slots: 9 to 13 lie before 6
        ring.append(b"x", float(seq))
    assert window.overdue(ring, 6, 11.0, 0.5) == 11
    assert window.took(ring, 11, 14, 14.0, 2.5) == 3.0
    assert (len(window), window.slow) == (8, 5 + 1)
