"""Whoever the C code calls does what nobody should do from there.  A script: what it looks for is a crash.

Every callback that a round of deliveries makes, by every deed below: raise, evict, close, detach, serve again, drop
the last reference.  Which callbacks there are is found by one round that does nothing.  Afterwards whatever was
written must be whole frames that were appended, each once and in their order.

Run as ``python reentry.py``; it says what it tries before it tries it, so that its last line is the guilty one.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from typing import Any

from fastmesh import _core

REFUSALS = (TypeError, ValueError, OverflowError, IndexError, AttributeError, RuntimeError, BufferError)


NOTHING = object()


class Interrupted(BaseException):
    """What is no Exception."""


class Party:
    """A stream, a sink, an encoder or a transport: each call to it is one of the world's moments."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.data: list[bytes] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "paused":
            return self.world.moment(f"{self.name}.paused", False)  # type: ignore[no-any-return]
        return lambda *given: self.world.moment(f"{self.name}.{name}", self.answer(name, given), given)

    def answer(self, name: str, given: tuple[Any, ...]) -> Any:
        if name == "write":
            self.data.append(given[0])
        if name == "frame":  # which may be framed again, after the deed
            return lambda: _core.frame_lines(given[0], False)
        return {"note": b"", "end": b""}.get(name) if self.name == "encoder" else None


class Listener(_core.Reader):
    """A reader, what it is called for told to the world as well."""

    def catch_up(self) -> bytes:
        self.gap_from = 0
        self.next_seq, self.offset = max(self.next_seq, self.journal.ring.first), self.journal.ring.evicted_bytes
        return self.pipeline.world.moment("reader.catch_up", b"")  # type: ignore[no-any-return]

    def grow(self) -> None:
        self.held_back = False
        self.pipeline.world.moment("reader.grow", None)

    def count_others(self, seq: int, end: int) -> None:
        self.pipeline.world.moment("reader.count_others", None)

    def count_news(self) -> None:
        self.pipeline.world.moment("reader.count_news", None)


class Socket(_core.Outlet):
    """An outlet whose turn is Python's when it carries no reader."""

    world: World

    def serve(self, max_bytes: int) -> int:
        return self.world.moment("outlet.serve", 1)  # type: ignore[no-any-return]

    def failed(self, error: Exception) -> None:
        self.world.moment("outlet.failed", None)


class World:
    """A journal, a reader on an outlet and one on a sink, and the moment at which something happens."""

    def __init__(self, when: str = "", deed: Callable[[World], Any] | None = None) -> None:
        self.when, self.deed = when, deed
        self.seen: set[str] = set()
        self.batches: list[Any] = []
        self.scheduled: list[Callable[[], None]] = []
        self.armed = False
        self.total = _core.MemoryTotal(600, self.call_soon, lambda: self.moment("react", None))
        self.pump = _core.Pump(self.call_soon, quantum_bytes=300, turn_bytes=1000, least_bytes=10)
        self.journal = _core.Journal(self.total, lambda: self.moment("clock", 1.0), b"id")
        self.journal.shared = True
        self.wire, self.sink = Party(self, "transport"), Party(self, "sink")
        self.outlet, self.bare = Socket(self.pump), Socket(self.pump)
        self.outlet.world = self.bare.world = self
        self.outlet.transport = self.wire
        self.append()
        self.readers = [self.reader(self.outlet), self.reader(self.sink)]
        self.outlet.reader = self.readers[0]
        self.armed = True

    def reader(self, sink: object) -> Listener:
        party, handler = Party(self, "pipeline"), _core.BackpressureHandler(100.0)
        counts = _core.SentCounts((1.0,))
        dropping = Party(self, "dropping")
        made = Listener(party, self.journal, Party(self, "encoder"), handler, sink, counts, dropping, None)
        made.waited_for = made.held_back = True
        return made

    def append(self) -> None:
        self.journal.append({"type": "result", "text": "x" * 40})

    def evict(self, seq: int) -> None:
        self.journal.trim(seq, self.journal.ring.appended_bytes)

    def call_soon(self, call: Callable[[], None]) -> None:
        self.scheduled.append(call)
        self.moment("call_soon", None)

    def moment(self, name: str, answer: Any, given: tuple[Any, ...] = ()) -> Any:
        """Something of Python's is called; *answer* is what it says, or makes what it says."""
        if self.armed:
            self.seen.add(name)
            if name == self.when and self.deed is not None:
                self.armed = False
                self.batches += [each for each in given if isinstance(each, _core.Batch)]
                try:
                    instead = self.deed(self)
                finally:
                    self.armed = True
                if instead is not None:
                    return None if instead is NOTHING else instead
        return answer() if callable(answer) else answer

    def step(self, deed: Callable[..., Any], *given: Any) -> None:
        try:
            deed(*given)
        except REFUSALS:
            pass
        except (ZeroDivisionError, Interrupted):
            assert self.deed is not None
            assert self.deed in (DEEDS["raises"], DEEDS["interrupts"])

    def turn(self) -> None:
        for _ in range(len(self.scheduled)):
            if self.scheduled:
                self.step(self.scheduled.pop(0))

    def round(self) -> None:
        """All that can happen, twice."""
        for last in (False, True):
            for _ in range(4):
                self.step(self.append)
            self.journal.last_other = 3
            self.step(self.journal.publish, {"type": "progress"})
            if last:  # unread ones, too
                self.step(self.evict, self.journal.last_seq)
                self.journal.seal()
            self.step(_core.wake, self.readers)
            self.step(self.bare.ready)
            self.turn()
            for reader in self.readers[1:]:
                self.step(lambda reader=reader: reader.serve(100, b""))
            self.step(_core.overdue, self.readers, 99.0)
            self.step(_core.silent, self.readers, 99.0)
            self.step(self.evict, self.journal.ring.first + 1)
            for reader in self.readers[:]:
                self.step(lambda reader=reader: reader.wants_service)
                self.step(lambda reader=reader: reader.serve(1 << 20, b""))
            self.turn()
            self.step(self.outlet.send, b"")

    def check(self) -> None:
        """What was written are frames that were appended; what was lent is empty."""
        for party in (self.wire, self.sink):
            text = b"".join(party.data)
            frames = [json.loads(line) for line in text.splitlines()]
            assert all(frame["text"] == "x" * 40 for frame in frames), text[:500]
            numbers = [frame["seq"] for frame in frames]
            asked_for = self.deed is DEEDS["has no position"]  # and so from the first again
            assert asked_for or numbers == sorted(set(numbers)), numbers
        assert not any(list(batch) for batch in self.batches)


def raises(_: World) -> None:
    raise ZeroDivisionError


def interrupts(_: World) -> None:
    raise Interrupted


def clear(world: World) -> None:
    world.journal.close()


def forget(world: World) -> None:
    """Drop every reference that Python has."""
    for reader in world.readers:
        reader.sink = None
    world.outlet.reader = world.outlet.transport = None
    world.readers.clear()
    world.outlet = world.bare = Socket(world.pump)
    world.outlet.world = world
    world.journal = _core.Journal(world.total, lambda: 1.0, b"other")
    world.scheduled.clear()
    gc.collect()


def refused(deed: Callable[[World], Any]) -> Callable[[World], None]:
    """*deed*, which may be refused."""

    def done(world: World) -> None:
        world.step(deed, world)

    return done


DEEDS: dict[str, Callable[[World], Any]] = {
    "raises": raises,
    "interrupts": interrupts,
    "forgets all": forget,
    "answers None": lambda _: NOTHING,
    "answers a string": lambda _: "x",
    "answers a huge number": lambda _: 1 << 90,
    "answers -1": lambda _: -1,
    "answers an object": lambda _: object(),
    "leaves the list": lambda world: world.readers.clear(),
    "joins the list": lambda world: world.readers.append(world.readers[0]) if len(world.readers) < 9 else None,
    **{
        name: refused(deed)
        for name, deed in {
            "closes": clear,
            "packs": lambda world: world.journal.pack(),
            "evicts": lambda world: world.evict(world.journal.last_seq),
            "trims": lambda world: world.journal.trim(world.journal.last_seq, 1 << 40),
            "appends": World.append,
            "appends much": lambda world: [world.append() for _ in range(200)],
            "seals": lambda world: world.journal.seal(),
            "tells": lambda world: world.journal.publish({"type": "news"}),
            "serves the first": lambda world: world.readers[0].serve(1 << 20, b""),
            "serves the second": lambda world: world.readers[1].serve(1 << 20, b""),
            "wakes": lambda world: _core.wake(world.readers),
            "wakes who is none": lambda world: world.readers.append(None),
            "runs a turn": lambda world: world.pump.turn(),
            "is ready": lambda world: (world.outlet.ready(), world.bare.ready()),
            "closes the outlet": lambda world: setattr(world.outlet, "life", 1),
            "pauses": lambda world: setattr(world.outlet, "paused", True),
            "lets go of the transport": lambda world: setattr(world.outlet, "transport", None),
            "lets go of the reader": lambda world: setattr(world.outlet, "reader", None),
            "lets go of the sinks": lambda world: [setattr(reader, "sink", None) for reader in world.readers],
            "lets go of the encoders": lambda world: [setattr(reader, "encoder", None) for reader in world.readers],
            "begins the outlet again": lambda world: world.outlet.__init__(world.pump),  # type: ignore[misc]
            "has no position": lambda world: [setattr(reader, "next_seq", -(1 << 62)) for reader in world.readers],
            "goes beyond": lambda world: [setattr(reader, "next_seq", (1 << 63) - 1) for reader in world.readers],
            "shares no more": lambda world: setattr(world.journal, "shared", False),
            "takes all there is": lambda world: world.total.add(1 << 40),
        }.items()
    },
}
MOMENTS = {
    *("encoder.frame", "encoder.note", "encoder.end", "sink.write", "sink.end", "sink.ready", "sink.paused", "clock"),
    *("transport.write", "outlet.serve", "outlet.failed", "pipeline.read", "pipeline.room", "reader.count_news"),
    *("reader.count_others", "dropping.sent", "dropping.caught_up", "reader.catch_up", "reader.grow", "call_soon"),
}


def moments() -> list[str]:
    """Every call into Python that a round makes."""
    seen: set[str] = set()
    for deed in (None, raises):
        world = World("encoder.frame", deed)
        world.round()
        world.check()
        seen |= world.seen
    assert seen >= MOMENTS, MOMENTS - seen
    return sorted(seen | {"react"})


def main() -> None:
    """Each moment by each deed."""
    unraisable: list[str] = []
    sys.unraisablehook = lambda about: unraisable.append(f"{about.err_msg} {about.object!r} {about.exc_value!r}")
    for moment in moments():
        for name, deed in DEEDS.items():
            print(f"{moment} {name}", flush=True)
            world = World(moment, deed)
            world.round()
            world.check()
            assert not unraisable, unraisable
    print("done")


if __name__ == "__main__":
    main()
