"""BufferManager against a plain model, and the bounds of a window."""

from __future__ import annotations

import pytest
from doubles import Soon
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fastmesh.config import BufferSettings
from fastmesh.streaming.memory import UNLIMITED, BufferManager
from fastmesh.streaming.reclaim import water_level
from fastmesh.streaming.window import DynamicBuffer, WindowBounds

TOTAL = 100
PINNED = WindowBounds(4, 4, 1000, 1000)


class ManagerModel(RuleBasedStateMachine):
    """Journals take and give back; streams wait for the total, and some wait again, or take, when they are told."""

    def __init__(self) -> None:
        super().__init__()
        self.soon = Soon()
        self.buffers = BufferManager(BufferSettings(total_bytes=TOTAL), self.soon)
        self.buffers.reclaim = self.reclaim
        self.held = 0
        self.idle = 0  # of these, what nobody waits for
        self.waiting: list[int] = []
        self.stubborn: set[int] = set()
        self.greedy: set[int] = set()
        self.told: list[int] | None = None
        self.wakes = [lambda name=name: self.wake(name) for name in range(4)]

    def reclaim(self, wanted: int) -> None:
        assert self.told is not None  # never by who counts
        given_back = min(wanted, self.idle)
        self.idle -= given_back
        self.held -= given_back
        self.buffers.total.add(-given_back)

    def wake(self, name: int) -> None:
        assert self.told is not None
        assert self.buffers.has_room
        self.told.append(name)
        self.waiting.remove(name)
        if name in self.greedy:
            self.buffers.total.add(60)
            self.held += 60
        if name in self.stubborn:
            self.buffers.wait(self.wakes[name])
            self.waiting.append(name)

    @rule(count=st.integers(1, 60), idle=st.booleans())
    def hold(self, count: int, idle: bool) -> None:
        self.held += count
        self.idle += count if idle else 0
        self.buffers.total.add(count)

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(0, self.held - self.idle))
        self.held -= count
        self.buffers.total.add(-count)

    @rule()
    def turn(self) -> None:
        """The loop's next turn: who waits is told, in the order of waiting, as long as there is room."""
        asked, self.told = list(self.waiting), []
        self.soon.turn()
        assert self.told == asked[: len(self.told)]
        self.told = None

    @rule(name=st.integers(0, 3), again=st.booleans(), greedy=st.booleans())
    def wait(self, name: int, again: bool, greedy: bool) -> None:
        """Whoever waits has found no room."""
        if self.buffers.has_room:
            return
        self.buffers.wait(self.wakes[name])
        if name not in self.waiting:
            self.waiting.append(name)
        (self.stubborn.add if again else self.stubborn.discard)(name)
        (self.greedy.add if greedy else self.greedy.discard)(name)

    @rule(name=st.integers(0, 3))
    def forget(self, name: int) -> None:
        self.buffers.forget(self.wakes[name])
        if name in self.waiting:
            self.waiting.remove(name)

    @rule()
    def admit(self) -> None:
        """Refused is only who could be given no room at all."""
        self.told = []
        assert self.buffers.make_room() or self.idle == 0
        self.told = None

    @invariant()
    def total(self) -> None:
        assert self.buffers.held_bytes == self.held
        assert self.buffers.has_room == (self.held < TOTAL)

    @invariant()
    def nobody_waits_for_room_that_is_there(self) -> None:
        if not self.soon.calls:
            assert not self.buffers.has_room or self.stubborn.issuperset(self.waiting)
            assert self.held < self.buffers.total.alarm

    def teardown(self) -> None:
        """Below the bound the alarm is the bound again: it does not only rise."""
        self.buffers.total.add(-self.held)
        assert self.buffers.total.alarm == TOTAL


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
    buffers = BufferManager(BufferSettings(), Soon())
    one, other = buffers.lend("ndjson"), buffers.lend("ndjson")
    one.capacity_frames = 1
    assert (other.capacity_frames, other.capacity_bytes) == (256, 65_536)


@pytest.mark.parametrize(("held", "room"), [(0, True), (TOTAL - 1, True), (TOTAL, False), (TOTAL + 1, False)])
def test_the_total_itself_is_too_much(held: int, room: bool) -> None:
    buffers = BufferManager(BufferSettings(total_bytes=TOTAL), Soon())
    buffers.total.add(held)
    assert buffers.has_room is room


def test_giving_back_down_to_the_total_is_no_room_yet() -> None:
    told: list[str] = []
    soon = Soon()
    buffers = BufferManager(BufferSettings(total_bytes=TOTAL), soon)
    buffers.total.add(TOTAL + 1)
    buffers.wait(lambda: told.append("room"))
    buffers.total.add(-1)
    soon.turn()
    assert told == []
    buffers.total.add(-1)
    soon.turn()
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
    """With any room, and memory not short for a second: closed streams may keep the total nearly full for good."""
    buffers = BufferManager(BufferSettings(total_bytes=TOTAL), Soon())
    assert buffers.behind_limit == UNLIMITED
    buffers.total.add(TOTAL)
    buffers.keep_behind(0)
    for _ in range(3):
        buffers.relax()
    assert buffers.behind_limit == 0
    buffers.total.add(-1)
    buffers.keep_behind(0)
    buffers.relax()
    assert buffers.behind_limit == 0
    limits = [buffers.behind_limit]
    while limits[-1] < UNLIMITED:
        buffers.relax()
        limits.append(buffers.behind_limit)
    assert limits == sorted(set(limits))
    assert len(limits) < 60


def test_memory_is_asked_back_an_eighth_at_a_time_and_in_vain_only_now_and_then() -> None:
    soon = Soon()
    buffers = BufferManager(BufferSettings(total_bytes=6400), soon)
    asked: list[int] = []
    buffers.reclaim = asked.append
    for _ in range(6650):
        buffers.total.add(1)
        soon.turn()
    assert asked == [800, 900, 1000]
    buffers.total.add(-300)  # there was room since: it is asked for at the total again
    buffers.total.add(50)
    soon.turn()
    assert asked == [800, 900, 1000, 800]


def test_one_who_fails_when_he_is_told_costs_the_others_nothing() -> None:
    soon, told = Soon(), []
    buffers = BufferManager(BufferSettings(total_bytes=TOTAL), soon)
    buffers.total.add(TOTAL)
    buffers.wait(lambda: told.append("first"))
    buffers.wait(lambda: told[7])
    buffers.wait(lambda: told.append("last"))
    buffers.total.add(-1)
    with pytest.raises(IndexError):
        soon.turn()
    soon.turn()
    assert told == ["first", "last"]
