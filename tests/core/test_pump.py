"""The Pump: against a plain Python twin, and what an Outlet may do in its turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fastmesh._core import Outlet, Pump

QUANTUM, TURN, LEAST = 100, 400, 10


class Loop:
    """Runs what it was given when it is told to."""

    def __init__(self) -> None:
        self.calls: deque[Callable[[], None]] = deque()

    def call_soon(self, call: Callable[[], None]) -> None:
        self.calls.append(call)

    def turn(self) -> None:
        for _ in range(len(self.calls)):
            self.calls.popleft()()


class Stock(Outlet):
    """Has so many bytes to write, in portions, and is ready again while it has more."""

    def __init__(self, pump: Pump, name: int, served: list[tuple[int, int]]) -> None:
        super().__init__(pump)
        self.name, self.left, self.served = name, 0, served

    def give(self, count: int) -> None:
        self.left += count
        self.ready()

    def serve(self, max_bytes: int) -> int:
        taken = min(self.left, max_bytes)
        self.left -= taken
        self.served.append((self.name, taken))
        if self.left:
            self.ready()
        return taken


class Twin:
    """The same queue, in plain Python."""

    def __init__(self) -> None:
        self.left: dict[int, int] = {}
        self.closed: set[int] = set()
        self.paused: set[int] = set()
        self.queue: deque[int] = deque()
        self.served: list[tuple[int, int]] = []

    def ready(self, name: int) -> None:
        if name not in self.queue and name not in self.closed | self.paused:
            self.queue.append(name)

    def turn(self) -> None:
        left, count = TURN, len(self.queue)
        while count and left > 0:
            name = self.queue.popleft()
            count -= 1
            if name in self.closed:  # since it was queued
                left -= LEAST
                continue
            taken = min(self.left[name], QUANTUM)
            self.left[name] -= taken
            self.served.append((name, taken))
            if self.left[name]:
                self.ready(name)
            left -= max(taken, LEAST)


class PumpMachine(RuleBasedStateMachine):
    """Some outlets that get bytes to write, pause, resume and close."""

    @initialize(count=st.integers(1, 8))
    def begin(self, count: int) -> None:
        self.loop, self.twin = Loop(), Twin()
        pump = Pump(self.loop.call_soon, quantum_bytes=QUANTUM, turn_bytes=TURN, least_bytes=LEAST)
        self.served: list[tuple[int, int]] = []
        self.outlets = [Stock(pump, name, self.served) for name in range(count)]
        self.twin.left = dict.fromkeys(range(count), 0)

    @rule(which=st.integers(0, 7), count=st.integers(0, 350))
    def give(self, which: int, count: int) -> None:
        name = which % len(self.outlets)
        self.outlets[name].give(count)
        self.twin.left[name] += count
        self.twin.ready(name)

    @rule(which=st.integers(0, 7), paused=st.booleans())
    def pause(self, which: int, paused: bool) -> None:
        name = which % len(self.outlets)
        self.outlets[name].paused = paused
        (self.twin.paused.add if paused else self.twin.paused.discard)(name)

    @rule(which=st.integers(0, 7))
    def close(self, which: int) -> None:
        name = which % len(self.outlets)
        self.outlets[name].life = 1
        self.twin.closed.add(name)

    @rule()
    def turn(self) -> None:
        self.loop.turn()
        self.twin.turn()

    @invariant()
    def served_alike(self) -> None:
        assert self.served == self.twin.served
        assert [outlet.left for outlet in self.outlets] == list(self.twin.left.values())
        assert len(self.loop.calls) == bool(self.twin.queue)


TestPump = PumpMachine.TestCase


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=30))
def test_all_is_served_and_nobody_twice_before_the_others_once(stocks: list[int]) -> None:
    loop, served = Loop(), list[tuple[int, int]]()
    pump = Pump(loop.call_soon, quantum_bytes=QUANTUM, turn_bytes=TURN, least_bytes=LEAST)
    outlets = [Stock(pump, name, served) for name in range(len(stocks))]
    for outlet, count in zip(outlets, stocks, strict=True):
        outlet.give(count)
    while loop.calls:
        loop.turn()
    assert [sum(taken for name, taken in served if name == each) for each in range(len(stocks))] == stocks
    first_round = [name for name, _ in served[: len(stocks)]]
    assert first_round == list(range(len(stocks)))


class Broken(Outlet):
    """Its turn is a bug."""

    def serve(self, max_bytes: int) -> int:
        raise ZeroDivisionError


def test_a_turn_that_raises_does_not_take_the_others_turns() -> None:
    loop, served = Loop(), list[tuple[int, int]]()
    pump = Pump(loop.call_soon, quantum_bytes=QUANTUM, turn_bytes=TURN, least_bytes=LEAST)
    broken, other = Broken(pump), Stock(pump, 1, served)
    broken.ready()
    other.give(5)
    with pytest.raises(ZeroDivisionError):
        loop.turn()
    loop.turn()
    assert served == [(1, 5)]


class Wire:
    """A transport that notes what is written."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data


def test_who_is_gone_since_it_was_queued_is_not_served() -> None:
    """Its reader would read on, with nobody to read to: a detached stream would count as read to its end."""
    loop, served = Loop(), list[tuple[int, int]]()
    pump = Pump(loop.call_soon, quantum_bytes=QUANTUM, turn_bytes=TURN, least_bytes=LEAST)
    outlet = Stock(pump, 0, served)
    outlet.give(5)
    outlet.life = 2  # as Peer.abort() has it; the transport tells it with the next turn of the loop
    loop.turn()
    assert (served, outlet.left) == ([], 5)


def test_nothing_is_written_once_it_is_closing_or_gone() -> None:
    outlet = Outlet(Pump(Loop().call_soon, quantum_bytes=QUANTUM, turn_bytes=TURN, least_bytes=LEAST))
    outlet.send(b"nowhere yet")
    wire = outlet.transport = Wire()
    outlet.send(b"one")
    outlet.life = 1
    outlet.send(b"two")
    assert (wire.data, outlet.written) == (b"one", 3)
