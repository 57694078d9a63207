"""BufferManager against a plain model, and the bounds of a window."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fastmesh.config import BufferSettings
from fastmesh.streaming.buffer import BufferManager, DynamicBuffer, WindowBounds

TOTAL = 100
PINNED = WindowBounds(4, 4, 1000, 1000)


class ManagerModel(RuleBasedStateMachine):
    """Journals take and give back; streams wait for the total, and some wait again when they are told."""

    def __init__(self) -> None:
        super().__init__()
        self.buffers = BufferManager(BufferSettings(total_bytes=TOTAL))
        self.held = 0
        self.waiting: set[int] = set()
        self.stubborn: set[int] = set()
        self.told: list[int] = []
        self.wakes = [lambda name=name: self.wake(name) for name in range(4)]

    def wake(self, name: int) -> None:
        assert self.buffers.has_room
        self.told.append(name)
        if name in self.stubborn:
            self.buffers.wait(self.wakes[name])

    @rule(count=st.integers(1, 60))
    def hold(self, count: int) -> None:
        self.buffers.total.add(count)
        self.held += count

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(0, self.held))
        self.told.clear()
        self.buffers.total.add(-count)
        self.held -= count
        if self.held < TOTAL:
            assert sorted(self.told) == sorted(self.waiting)
            self.waiting &= self.stubborn
        else:
            assert self.told == []

    @rule(name=st.integers(0, 3), again=st.booleans())
    def wait(self, name: int, again: bool) -> None:
        self.buffers.wait(self.wakes[name])
        self.waiting.add(name)
        (self.stubborn.add if again else self.stubborn.discard)(name)

    @rule(name=st.integers(0, 3))
    def forget(self, name: int) -> None:
        self.buffers.forget(self.wakes[name])
        self.waiting.discard(name)

    @invariant()
    def total(self) -> None:
        assert self.buffers.held_bytes == self.held
        assert self.buffers.has_room == (self.held < TOTAL)


TestManagerModel = ManagerModel.TestCase


@pytest.mark.parametrize(
    ("unread", "unread_bytes", "running", "room"),
    [
        (0, 0, 0, True),
        (3, 0, 0, True),
        (4, 0, 0, False),
        (0, 0, 3, True),
        (0, 0, 4, False),
        (2, 0, 1, True),
        (2, 0, 2, False),
        (0, 999, 0, True),
        (0, 1000, 0, False),
        (1, 50_000, 0, False),  # one large frame has passed alone; nothing follows it
    ],
)
def test_a_window_of_4_frames_and_1000_bytes(unread: int, unread_bytes: int, running: int, room: bool) -> None:
    assert DynamicBuffer(4, 1000, PINNED).has_room(unread, unread_bytes, running) is room


def test_every_subscriber_has_a_window_of_its_own() -> None:
    buffers = BufferManager(BufferSettings())
    one, other = buffers.lend("ndjson"), buffers.lend("ndjson")
    one.capacity_frames = 1
    assert (other.capacity_frames, other.capacity_bytes) == (256, 65_536)


@pytest.mark.parametrize(("held", "room"), [(0, True), (TOTAL - 1, True), (TOTAL, False), (TOTAL + 1, False)])
def test_the_total_itself_is_too_much(held: int, room: bool) -> None:
    buffers = BufferManager(BufferSettings(total_bytes=TOTAL))
    buffers.total.add(held)
    assert buffers.has_room is room


def test_giving_back_down_to_the_total_is_no_room_yet() -> None:
    told: list[str] = []
    buffers = BufferManager(BufferSettings(total_bytes=TOTAL))
    buffers.total.add(TOTAL + 1)
    buffers.wait(lambda: told.append("room"))
    buffers.total.add(-1)
    assert told == []
    buffers.total.add(-1)
    assert told == ["room"]
