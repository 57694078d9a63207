"""Every close ends: who takes nothing, takes crumbs or never says goodbye is not waited for without a bound."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from fastmesh.server.peer import LEAST_RATE, LINGER_S, Peer
from fastmesh.server.timers import TimerWheel
from fastmesh.telemetry.bugs import Bugs

STALL_S = 60.0


class Pipe(asyncio.Transport):
    """A transport that keeps what is written until the test takes it, as a peer that does not read."""

    def __init__(self, *, tls: bool = False) -> None:
        super().__init__()
        self.left = 0
        self.aborted = False
        self._tls = tls

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Any."""

    def get_write_buffer_size(self) -> int:
        return self.left

    def write(self, data: Any) -> None:
        self.left += len(data)

    def can_write_eof(self) -> bool:
        return not self._tls

    def write_eof(self) -> None:
        """What was written is sent first."""

    def close(self) -> None:
        """Likewise."""

    def abort(self) -> None:
        self.aborted = True

    def is_reading(self) -> bool:
        return True


class Writing(Peer):
    """A connection that only writes."""

    request_id = client = None
    idle = True

    def _too_late(self) -> None:
        """Nothing is awaited."""

    def _go_on(self, slice_s: float = 0.0) -> None:
        """Nothing is read."""

    def drain(self) -> None:
        """Nothing is under way."""


class Room:
    """A clock that is turned, a wheel, and a peer on a transport."""

    def __init__(self, written: int, *, tls: bool = False) -> None:
        self.now = 100.0
        self.wheel = TimerWheel(Bugs())
        shared: Any = SimpleNamespace(
            pump=SimpleNamespace(),
            settings=SimpleNamespace(write_stall_timeout_s=STALL_S, max_age_s=0),
            high_water=65_536,
            low_water=16_384,
            wheel=self.wheel,
            clock=lambda: self.now,
            connections=set(),
        )
        from fastmesh.server.daemon import make_pump

        shared.pump = make_pump(SimpleNamespace(call_soon=lambda turn: None))  # type: ignore[arg-type]
        self.pipe = Pipe(tls=tls)
        self.peer = Writing(shared)
        self.peer.connection_made(self.pipe)
        self.peer.send(b"x" * written)

    def closed_after(self, within_s: float | None = None, crumb: int = 0, every_s: float = 1.0) -> float:
        """Close, with a peer that takes *crumb* bytes *every_s*; how long until it is cut off."""
        begun = self.now
        self.peer._close(within_s)
        while not self.pipe.aborted:
            self.now += every_s
            self.pipe.left = max(0, self.pipe.left - crumb)
            self.wheel.turn(self.now)
            assert self.now - begun < 100_000, "it is waited for for ever"
        return self.now - begun


@pytest.mark.parametrize("tls", [False, True])
def test_who_takes_nothing_is_cut_off_after_the_write_stall_timeout(tls: bool) -> None:
    assert STALL_S <= Room(100_000, tls=tls).closed_after() <= STALL_S + LINGER_S + 1


@pytest.mark.parametrize("tls", [False, True])
def test_who_takes_crumbs_is_cut_off_when_the_rest_could_have_been_taken(tls: bool) -> None:
    """It takes a byte before each look, so it never stalls."""
    took_s = Room(100_000, tls=tls).closed_after(crumb=1)
    assert took_s == pytest.approx(STALL_S + 100_000 / LEAST_RATE, abs=LINGER_S + 1)


def test_who_takes_what_is_left_at_any_fair_rate_gets_all_of_it() -> None:
    room = Room(1_000_000)
    room.closed_after(crumb=2 * LEAST_RATE)
    assert room.pipe.left == 0


def test_who_has_all_and_says_no_goodbye_is_closed_after_the_linger() -> None:
    assert Room(1000).closed_after(crumb=1000, every_s=0.5) <= 2 * LINGER_S + 1


def test_who_can_have_it_again_is_waited_for_as_long_as_is_said() -> None:
    assert 5.0 <= Room(10_000_000).closed_after(5.0, crumb=100_000) <= 5.0 + LINGER_S + 1
