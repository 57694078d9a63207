"""One wheel for all deadlines: who is due is told, and whoever raises costs the others nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fastmesh.server.timers import NEVER, TimerWheel
from fastmesh.telemetry.bugs import Bugs


class Waiting:
    """Something with a deadline."""

    def __init__(self, deadline: float, then: Callable[[Waiting], Any] = lambda self: None) -> None:
        self.deadline = deadline
        self.filed = 0
        self.expired_at: list[float] = []
        self.aborted = False
        self.named = {"deadline": deadline}
        self._then = then

    def expired(self, now: float) -> None:
        """Done, unless *then* says otherwise."""
        self.deadline = NEVER
        self.expired_at.append(now)
        self._then(self)

    def abort(self) -> None:
        """The end."""
        self.aborted = True


def broken(one: Waiting) -> None:
    one.deadline = 1.0  # it would have been looked at again, and again
    raise KeyError("broken")


def test_one_that_raises_ends_and_all_others_are_told() -> None:
    bugs = Bugs()
    wheel = TimerWheel(bugs)
    many = [Waiting(1.0, broken if at % 3 == 0 else lambda one: None) for at in range(30)]
    later = Waiting(2.0)
    for one in (*many, later):
        wheel.file(one)
    wheel.turn(1.2)
    assert [one.expired_at for one in many] == [[1.2]] * 30
    assert [one.aborted for one in many] == [at % 3 == 0 for at in range(30)]
    assert bugs.counts == {"deadlines": 10}
    assert len(wheel) == 1
    wheel.turn(2.2)
    assert later.expired_at == [2.2]
    assert len(wheel) == 0


@pytest.mark.parametrize("step_s", [0.05, 1.0])
def test_a_later_deadline_is_only_a_number_and_an_earlier_one_is_kept(step_s: float) -> None:
    wheel = TimerWheel(Bugs(), step_s)
    one = Waiting(1.0)
    wheel.file(one)
    one.deadline = 5.0
    wheel.file(one)
    wheel.turn(3.0)
    assert one.expired_at == []
    one.deadline = 4.0
    wheel.file(one)
    wheel.turn(3.9)
    assert one.expired_at == []
    wheel.turn(4.0 + 2 * step_s)
    assert one.expired_at == [4.0 + 2 * step_s]


def test_one_that_is_forgotten_by_another_in_the_same_turn_is_not_told() -> None:
    wheel = TimerWheel(Bugs())
    pair: list[Waiting] = []

    def forget_other(one: Waiting) -> None:
        wheel.forget(pair[1 - pair.index(one)])

    pair += [Waiting(1.0, forget_other), Waiting(1.0, forget_other)]
    for one in pair:
        wheel.file(one)
    wheel.turn(2.0)
    assert sorted(len(one.expired_at) for one in pair) == [0, 1]
