"""The line of those who sent more than a slice of work: fair, bounded a turn, and none ends it for the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from fastmesh.server.intake import TURN_S, Intake
from fastmesh.telemetry.bugs import Bugs


class Loop:
    """Runs what it was given when it is told to; its clock stands still."""

    def __init__(self) -> None:
        self.calls: deque[Callable[[], None]] = deque()
        self.now = 0.0
        self.bugs = Bugs(lambda: self.now)
        self.intake = Intake(self.calls.append, lambda: self.now, self.bugs)

    def turn(self) -> None:
        for _ in range(len(self.calls)):
            self.calls.popleft()()


class Crowd:
    """A source with so many slices, each of which takes *slice_s*."""

    def __init__(
        self, loop: Loop, slices: int, done: list[Crowd], slice_s: float = 0.0, *, broken: bool = False
    ) -> None:
        self.waits = False
        self.loop, self.left, self.done, self.slice_s, self.broken = loop, slices, done, slice_s, broken
        self.aborted = False
        self.named: dict[str, object] = {}

    def go_on(self) -> None:
        assert not self.waits
        if self.broken:
            raise ZeroDivisionError
        self.loop.now += self.slice_s
        self.done.append(self)
        self.left -= 1
        if self.left:
            self.loop.intake.wait(self)

    def abort(self) -> None:
        self.aborted = True


def test_all_have_their_turns_alike() -> None:
    loop, done = Loop(), list[Crowd]()
    sources = [Crowd(loop, count, done, TURN_S / 3) for count in (5, 1, 3, 2)]
    for source in sources:
        loop.intake.wait(source)
        loop.intake.wait(source)  # nobody stands in it twice
    assert done == []  # never at once
    turns = 0
    while loop.calls:
        before = len(done)
        loop.turn()
        turns += 1
        assert len(done) - before <= 3
        assert len(loop.calls) <= 1
    assert [sources.index(source) for source in done] == [0, 1, 2, 3, 0, 2, 3, 0, 2, 0, 0]
    assert turns >= 4


def test_a_turn_serves_nobody_twice_however_quick_he_is() -> None:
    """What the loop has else to do comes between two slices of one connection."""
    loop, done = Loop(), list[Crowd]()
    loop.intake.wait(Crowd(loop, 100, done))
    loop.turn()
    assert len(done) == 1


def test_a_slow_slice_ends_the_turn_and_the_next_one_comes() -> None:
    loop, done = Loop(), list[Crowd]()
    for _ in range(3):
        loop.intake.wait(Crowd(loop, 1, done, TURN_S * 10))
    for count in (1, 2, 3):
        loop.turn()
        assert len(done) == count
    assert not loop.calls


def test_one_that_raises_is_cut_off_and_the_others_go_on() -> None:
    loop, done = Loop(), list[Crowd]()
    broken, other = Crowd(loop, 1, done, broken=True), Crowd(loop, 2, done)
    loop.intake.wait(broken)
    loop.intake.wait(other)
    while loop.calls:
        loop.turn()
    assert broken.aborted
    assert done == [other, other]
    assert loop.bugs.counts == {"input": 1}
