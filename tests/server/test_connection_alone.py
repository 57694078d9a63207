"""A Connection by itself, with a clock that is turned, a loop that is told to turn, and a transport that notes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import pytest

from fastmesh.api.calls import Reply, Route
from fastmesh.api.router import Router
from fastmesh.config import Settings
from fastmesh.server.context import Context
from fastmesh.server.daemon import make_pump
from fastmesh.server.http.connection import AT_ONCE_BYTES, Connection
from fastmesh.server.intake import Intake
from fastmesh.server.timers import TimerWheel
from fastmesh.telemetry.bugs import Bugs
from fastmesh.telemetry.metrics import Metrics
from fastmesh.wire.http1 import MAX_STEPS

GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKED = b"POST /livez HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


class Wire(asyncio.Transport):
    """A Unix socket's transport that takes everything."""

    def __init__(self) -> None:
        super().__init__()
        self.data = b""
        self.reading = True
        self.ended = self.aborted = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: Any) -> None:
        self.data += data

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.aborted = True


class Room:
    """What connections share, with a handler that takes *answer_s* seconds."""

    def __init__(self, answer_s: float = 0.0) -> None:
        self.now = 1000.0
        self.answer_s = answer_s
        self.calls: deque[Callable[[], None]] = deque()
        settings = Settings()
        router = Router(settings.server)
        for method in ("GET", "POST"):
            router.add(Route("/livez", method, lambda call: self._answer(), health=True))
        loop = cast(Any, self)
        bugs = Bugs(lambda: self.now)
        self.wheel = TimerWheel(bugs)
        self.shared = Context(
            settings=settings.server,
            stream=settings.stream,
            high_water=65536,
            low_water=16384,
            router=router,
            module=cast(Any, None),
            plans=cast(Any, None),
            metrics=Metrics(),
            pump=make_pump(loop),
            intake=Intake(self.call_soon, lambda: self.now, bugs),
            wheel=self.wheel,
            clock=lambda: self.now,
            loop=loop,
            encoders={},
        )

    def _answer(self) -> Reply:
        self.now += self.answer_s
        return Reply(b"{}")

    def call_soon(self, call: Callable[[], None]) -> None:
        self.calls.append(call)

    def turn(self) -> None:
        """One turn of the loop."""
        for _ in range(len(self.calls)):
            self.calls.popleft()()

    def connect(self) -> tuple[Connection, Wire]:
        connection, wire = Connection(self.shared), Wire()
        connection.connection_made(wire)
        return connection, wire


def answers(wire: Wire) -> int:
    return wire.data.count(b"HTTP/1.1 200")


def test_an_ordinary_request_is_answered_in_its_read() -> None:
    room = Room(answer_s=1.0)
    connection, wire = room.connect()
    for count in (1, 2, 3):
        connection.data_received(GET)
        assert (answers(wire), wire.reading, len(room.calls)) == (count, True, 0)
    assert connection.idle


@pytest.mark.parametrize("first", [False, True], ids=["behind each other", "at once"])
def test_requests_of_a_read_are_answered_a_slice_a_turn(first: bool) -> None:
    room = Room(answer_s=0.000_4)
    connection, wire = room.connect()
    count = 100 if first else 1000  # which is over AT_ONCE_BYTES, or not
    assert (len(GET) * count > AT_ONCE_BYTES) is not first
    connection.data_received(GET * count)
    assert answers(wire) == (3 if first else 0)
    while not wire.reading:  # no more is read until all is answered
        before = answers(wire)
        room.turn()
        assert 0 < answers(wire) - before <= 3
    assert answers(wire) == count
    assert not room.calls


def test_a_costly_answer_ends_its_slice_and_the_others_have_their_turns() -> None:
    room = Room(answer_s=5.0)
    pairs = [room.connect() for _ in range(3)]
    for connection, _ in pairs:
        connection.data_received(GET * 3)
    assert [answers(wire) for _, wire in pairs] == [1, 1, 1]
    seen = []
    while room.calls:
        room.turn()
        seen.append([answers(wire) for _, wire in pairs])
    assert seen == [[2, 1, 1], [2, 2, 1], [2, 2, 2], [3, 2, 2], [3, 3, 2], [3, 3, 3]]


def test_chunks_are_parsed_so_many_steps_a_turn() -> None:
    room = Room()
    connection, wire = room.connect()
    chunks = MAX_STEPS * 4
    connection.data_received(CHUNKED)
    connection.data_received(b"1\r\nx\r\n" * chunks + b"0\r\n\r\n")
    turns = 0
    while not answers(wire):
        assert wire.reading is (not room.calls)
        room.turn()
        turns += 1
    assert turns >= chunks * 2 // MAX_STEPS


def test_a_deadline_that_comes_while_the_daemon_is_late_is_kept_afterwards() -> None:
    """What is late may be here, and wait for its turn; then it is judged, and a body without an end ends."""
    room = Room()
    connection, wire = room.connect()
    connection.data_received(CHUNKED)
    due = connection.deadline
    connection.data_received(b"1\r\nx\r\n" * 10_000)  # without the last chunk
    assert not wire.reading
    room.now = due + 1
    room.wheel.turn(room.now)
    assert wire.data == b""  # it stands in the line: not its fault
    while room.calls:
        room.turn()
    assert wire.reading
    room.now += 5
    room.wheel.turn(room.now)
    assert wire.data.startswith(b"HTTP/1.1 408")


def test_who_is_gone_while_he_waits_costs_nothing() -> None:
    room = Room()
    connection, wire = room.connect()
    connection.data_received(GET * 1000)
    connection.abort()
    connection.connection_lost(None)
    room.turn()
    assert (wire.data, len(room.calls)) == (b"", 0)


def test_what_fails_while_it_waits_ends_that_connection_alone() -> None:
    room = Room()
    (broken, first), (whole, second) = room.connect(), room.connect()
    for connection in (broken, whole):
        connection.data_received(GET * 500)
    broken._parser = cast(Any, object())
    while room.calls:
        room.turn()
    assert first.aborted
    assert answers(second) == 500
