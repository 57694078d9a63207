"""BufferManager against a plain model, and the bounds of a window."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fastmesh.config import BufferSettings
from fastmesh.streaming.buffer import GIVE_BACK_BYTES, UNLIMITED, BufferManager, DynamicBuffer, WindowBounds
from fastmesh.streaming.module import water_level

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


@given(st.lists(st.integers(0, 1000), max_size=30), st.integers(1, 30_000))
def test_a_water_level_takes_from_the_largest_and_no_more_than_it_must(sizes: list[int], wanted: int) -> None:
    level = water_level(sizes, wanted)
    given_back = sum(max(0, size - level) for size in sizes)
    if level:
        assert given_back >= wanted
        assert sum(max(0, size - level - 1) for size in sizes) < wanted
    else:
        assert given_back == sum(sizes)


def test_what_may_be_kept_behind_comes_back_when_memory_does() -> None:
    buffers = BufferManager(BufferSettings(total_bytes=TOTAL))
    assert buffers.behind_limit == UNLIMITED
    buffers.behind_limit = 0
    buffers.total.add(TOTAL * 3 // 4)
    buffers.relax()
    assert buffers.behind_limit == 0
    buffers.total.add(-1)
    limits = [buffers.behind_limit]
    while limits[-1] < UNLIMITED:
        buffers.relax()
        limits.append(buffers.behind_limit)
    assert limits == sorted(set(limits))
    assert len(limits) < 60


def test_memory_is_asked_back_an_eighth_at_a_time_and_in_vain_only_now_and_then() -> None:
    buffers = BufferManager(BufferSettings(total_bytes=6400))
    asked: list[int] = []
    buffers.reclaim = asked.append
    for _ in range(6650):
        buffers.total.add(1)
    assert asked == [800, 900, 1000]


def test_memory_is_given_back_when_less_than_half_is_left_and_it_is_worth_it() -> None:
    buffers = BufferManager(BufferSettings())
    steps = [
        (GIVE_BACK_BYTES - 1, False),
        (0, False),  # too little
        (GIVE_BACK_BYTES * 3, False),
        (GIVE_BACK_BYTES * 2, False),  # more than half is left
        (GIVE_BACK_BYTES * 3 // 2, True),
        (GIVE_BACK_BYTES, False),
        (0, True),
        (0, False),
    ]
    for held, emptied in steps:
        buffers.total.add(held - buffers.held_bytes)
        assert buffers.is_emptied() is emptied, held
