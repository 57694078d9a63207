"""A free stress of ring, journal, reader and pump: any order of what can happen to them, and callbacks that misbehave.

What comes out is held against what went in: each frame's text, its order, and the bytes that all of it holds.  Run as
``python stress.py ROUNDS SEED``: the same two make the same run.  With the extension built under sanitizers
(test_sanitized.py) it is they who look.
"""

from __future__ import annotations

import gc
import random
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson

from fastmesh import _core
from fastmesh.wire.encoders import NdjsonEncoder, SseEncoder, WebSocketEncoder

# Around the sizes at which a block is full, a frame gets one of its own, and a WebSocket's length grows.
SIZES = (
    0,
    1,
    10,
    60,
    80,
    81,
    82,
    100,
    125,
    126,
    400,
    450,
    496,
    3000,
    4000,
    4050,
    4096,
    5000,
    16_300,
    16_368,
    65_500,
    70_000,
)
STEPS = 60
EXPECTED = (IndexError, BufferError, RuntimeError, TypeError, AttributeError, ZeroDivisionError)
LINES = NdjsonEncoder(chunked=False)


class Chance(random.Random):
    """What is by chance."""

    def one_in(self, count: int) -> bool:
        return self.randrange(count) == 0


class Stream:
    """A journal with its readers, and what it should hold."""

    def __init__(self, house: House) -> None:
        self.house, self.chance = house, house.chance
        self.journal = _core.Journal(house.total, lambda: house.now, b"stream-id")
        self.texts: dict[int, bytes] = {}
        self.readers: list[Attached] = []
        self.append()
        self.journal.shared = self.chance.one_in(2)

    # What a reader calls.

    def room(self, *_: object) -> None:
        self.house.mischief()

    read = room

    # What may happen to it.

    def append(self) -> None:
        event = {"type": "result", "seq": 0, "text": "x" * self.chance.choice(SIZES)}
        before = self.journal.last_seq
        if not self.journal.sealed:
            with suppress(EXPECTED):
                self.journal.append(event)
            if self.journal.last_seq > before:
                self.texts[event["seq"]] = orjson.dumps(event)

    def let_go(self) -> None:
        ring = self.journal.ring
        seq = self.chance.randint(ring.first - 1, ring.next + 1)
        self.chance.choice(
            [
                lambda: self.journal.trim(seq, ring.appended_bytes),
                lambda: self.journal.trim(seq, self.chance.randint(0, ring.appended_bytes)),
                lambda: self.journal.trim(seq, self.chance.randint(0, ring.appended_bytes)),
                self.journal.close if self.chance.one_in(4) else self.append,
                self.end if self.chance.one_in(4) else self.append,
            ]
        )()

    def end(self) -> None:
        self.journal.seal()
        if not any(reader.unread_frames for reader in self.readers):
            self.journal.pack()

    def news(self) -> None:
        self.journal.publish({"type": "progress", "at": self.chance.random()})
        self.journal.last_other = self.journal.last_seq
        self.journal.shared = len(self.readers) > 1

    def attach(self) -> None:
        chance, sink = self.chance, self.house.sink()
        after = chance.choice([None, None, 0, self.journal.ring.next - 1])
        encoder = chance.choice(
            [LINES, LINES, SseEncoder(retry_ms=1, chunked=True), WebSocketEncoder(), Misframing(self)]
        )
        reader = Attached(
            self, self.journal, encoder, _core.BackpressureHandler(50.0), sink, self.house.counts, None, after
        )
        reader.waited_for = reader.held_back = chance.one_in(2)
        sink.reader = reader if isinstance(sink, Socket) else None
        self.readers.append(reader)
        if chance.one_in(3):
            reader.serve(1000, b"")

    def detach(self) -> None:
        if self.readers:
            reader = self.readers.pop(self.chance.randrange(len(self.readers)))
            if isinstance(reader.sink, Socket):
                reader.sink.reader = None
            reader.sink = _core.Outlet(self.house.pump) if self.chance.one_in(2) else self.house.sink()

    def serve(self) -> None:
        if self.readers:
            self.chance.choice(self.readers).serve(self.chance.choice([0, 1, 500, 16_384]), b"")

    def look(self) -> None:
        _core.wake(self.readers)
        _core.overdue(self.readers, self.house.now)
        assert set(_core.silent(self.readers, self.house.now)) <= set(self.readers)

    def check(self) -> None:
        """What the ring holds is what was appended."""
        ring = self.journal.ring
        frames, size = ring.read(ring.first, 1 << 30)
        assert frames == [self.texts[seq] for seq in range(ring.first, ring.next)]
        assert size == ring.appended_bytes - ring.evicted_bytes == sum(map(len, frames))
        if len(ring):
            assert ring.length(ring.first) == len(frames[0])
            assert ring.offset(ring.next - 1) == ring.appended_bytes - len(frames[-1])
            ring.entered(ring.first)


class Attached(_core.Reader):
    """A reader; the frames it has written it checks as they are handed to its sink."""

    def catch_up(self) -> bytes:
        ring = self.journal.ring
        self.gap_from, self.next_seq = 0, max(ring.first, self.next_seq)
        self.offset = ring.offset(self.next_seq)
        self.pipeline.house.mischief()
        return b""

    def grow(self) -> None:
        self.held_back = False
        self.pipeline.house.mischief()

    def count_others(self, *_: object) -> None:
        self.pipeline.house.mischief()

    count_news = count_others


class Misframing:
    """An encoder that fails, keeps what it was lent, or does what it should not before it frames."""

    protocol = "ndjson"

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def frame(self, batch: _core.Batch, stream_id: bytes, seq: int) -> bytes:
        assert list(batch) == [self.stream.texts[seq + at] for at in range(len(batch))]
        self.stream.house.lent.append(batch)
        self.stream.house.mischief()
        return _core.frame_events(batch, stream_id, seq, self.stream.chance.one_in(2))

    def note(self, frame: bytes) -> bytes:
        self.stream.house.mischief()
        return frame

    def end(self) -> bytes:
        return b""


class Port:
    """A sink that is no outlet, or a transport."""

    def __init__(self, house: House) -> None:
        self.house, self.paused, self.written = house, False, 0

    def write(self, data: bytes) -> None:
        self.written += len(data)
        for line in data.splitlines() if data.startswith(b"{") else []:
            orjson.loads(line)
        self.paused = self.house.chance.one_in(5)
        self.house.mischief()

    def ready(self) -> None:
        self.house.mischief()

    end = ready


class Socket(_core.Outlet):
    """An outlet."""

    house: House

    def end(self) -> None:
        self.house.mischief()

    def failed(self, error: Exception) -> None:
        assert isinstance(error, EXPECTED), repr(error)
        self.reader = None

    def serve(self, max_bytes: int) -> int:
        self.house.mischief()
        return self.house.chance.choice([0, 1, -1, max_bytes])


class House:
    """Streams under one total, on one pump."""

    def __init__(self, chance: Chance) -> None:
        self.chance, self.now, self.depth = chance, 0.0, 0
        self.calls: list[Callable[[], None]] = []
        self.total = _core.MemoryTotal(chance.choice([1, 2000, 1 << 20]), self.calls.append, self.mischief)
        self.pump = _core.Pump(self.calls.append, quantum_bytes=2000, turn_bytes=9000, least_bytes=100)
        self.counts = _core.SentCounts((0.1, 1.0))
        self.lent: list[_core.Batch] = []
        self.sockets: list[Socket] = []
        self.streams = [Stream(self) for _ in range(chance.randint(1, 3))]

    def sink(self) -> Any:
        """Where a reader may write to."""
        if self.chance.one_in(3):
            return Port(self)
        made = Socket(self.pump)
        made.house, made.transport = self, Port(self)  # type: ignore[assignment]
        self.sockets.append(made)
        return made

    def mischief(self) -> None:
        """Somebody is called, and now and then does what he should not."""
        if self.depth < 3 and self.chance.one_in(12):
            self.depth += 1
            try:
                if self.chance.one_in(4):
                    raise ZeroDivisionError
                self.step()
            finally:
                self.depth -= 1

    def press(self) -> None:
        """A transport has enough, has room again, or is gone."""
        if self.sockets:
            socket = self.chance.choice(self.sockets)
            socket.paused = self.chance.one_in(3)
            if self.chance.one_in(10):
                socket.life, socket.transport = 1, None
                self.sockets.remove(socket)
            socket.ready()

    def turn(self) -> None:
        for _ in range(len(self.calls)):
            if self.calls:
                self.calls.pop(0)()

    def step(self) -> None:
        """Anything, once."""
        stream = self.chance.choice(self.streams)
        likely = [stream.append] * 6 + [stream.serve, self.turn] * 3 + [stream.look] * 2
        seldom = [stream.let_go, stream.news, stream.attach, stream.detach, self.press]
        self.chance.choice(likely + seldom)()

    def run(self) -> None:
        for _ in range(STEPS):
            self.now += self.chance.choice([0.0, 0.01, 0.1])
            with suppress(EXPECTED):
                self.step()
            for stream in self.streams:
                stream.check()
            assert not any(len(batch) for batch in self.lent)
            assert self.total.held == sum(stream.journal.ring.allocated for stream in self.streams)

    def leave(self) -> None:
        """Nobody is there any more."""
        for gone in (self.streams, self.sockets, self.calls, self.lent):
            gone.clear()  # type: ignore[attr-defined]
        del self.pump


def batches(chance: Chance) -> None:
    """Frames of any size, framed in every way."""
    frames = [
        b'{"type":"%b"' % (b"a" * chance.choice(SIZES)) + b"x" * chance.choice(SIZES)
        for _ in range(chance.randrange(9))
    ]
    batch = _core.Batch(frames)
    assert list(batch) == frames
    assert _core.frame_lines(batch, False) == b"".join(frame + b"\n" for frame in frames)
    _core.frame_messages(batch)
    first = chance.choice([0, 1, 9, 10, 2**31, 2**63 - 10])
    assert _core.frame_events(batch, b"s" * chance.randrange(40), first, chance.one_in(2)).count(b"data: ") == len(
        frames
    )
    with suppress(ValueError):
        _core.frame_events(
            _core.Batch([*frames, chance.choice([b"", b"{", b'{"type":', b'{"type":"', b'{"type":"a'])]), b"", 1, True
        )


def main(rounds: int, seed: int) -> None:
    """So many rounds."""
    print(f"{rounds} rounds, seed {seed}", flush=True)
    for number in range(rounds):
        chance = Chance(f"{seed} {number}")
        try:
            house = House(chance)
            house.run()
            batches(chance)
        except BaseException:
            print(f"round {number} of seed {seed}", flush=True)
            raise
        if number % 50 == 0:
            house.leave()
            gc.collect()
            assert house.total.held == 0, house.total.held
    print("done")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
