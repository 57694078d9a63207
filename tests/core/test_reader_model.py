"""Reader, and what looks at many of them, against a plain Python twin."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fastmesh._core import BackpressureHandler, Journal, MemoryTotal, Reader, SentCounts, overdue, silent, wake
from fastmesh.wire.encoders import NdjsonEncoder

SLOW_S = 0.1
ENCODER = NdjsonEncoder(chunked=False)


@dataclass
class Told:
    """A stream and a sink in one: writes down what it is told, in its order."""

    holds: int
    paused: bool = False
    said: list[Any] = field(default_factory=list)

    def write(self, data: bytes) -> None:
        self.said.append(data)
        self.paused = len(data) > self.holds

    def ready(self) -> None:
        self.said.append("ready")

    def end(self) -> None:
        self.said.append("end")

    def read(self, seq: int, end: int, offset: int) -> None:
        self.said.append(("read", seq, end, offset))

    def room(self) -> None:
        self.said.append("room")


class Telling(Reader):
    """A reader that writes down what it is called for."""

    def grow(self) -> None:
        self.held_back = False
        self.pipeline.said.append("grow")

    def count_news(self) -> None:
        self.pipeline.said.append("news")

    def count_others(self, seq: int, end: int) -> None:
        self.pipeline.said.append(("others", seq, end))


@dataclass
class Stream:
    """The journal's twin."""

    frames: list[bytes] = field(default_factory=list)
    entered: list[float] = field(default_factory=list)
    sealed: bool = False
    last_other: int = 0
    news: bytes = b""
    published: int = 0


class Twin:
    """What a Reader does, without speed."""

    def __init__(self, stream: Stream, port: Told, after: int, now: float, *, waited_for: bool) -> None:
        self.stream = stream
        self.port = port
        self.next_seq = after + 1
        self.waited_for = waited_for
        self.held_back = False
        self.sent_frames = self.sent_bytes = 0
        self.last_sent_at = now
        self.news_seen = 0
        self.waits: list[float] = []

    @property
    def unread(self) -> list[bytes]:
        return self.stream.frames[self.next_seq - 1 :]

    def serve(self, max_bytes: int, head: bytes, now: float) -> int:
        stream, port = self.stream, self.port
        if not self.unread:
            if head:
                self.sent_bytes += len(head)
                port.write(head)
            if self.waited_for:
                port.room()
            return len(head)
        batch = [self.unread[0]]
        for frame in self.unread[1:]:
            if sum(map(len, batch)) + len(frame) > max_bytes:
                break
            batch.append(frame)
        seq, end = self.next_seq, self.next_seq + len(batch)
        self.next_seq, self.last_sent_at = end, now
        self.waits.append(now - stream.entered[seq - 1])
        data = head + b"".join(frame + b"\n" for frame in batch)
        if self.news_seen < stream.published and not self.unread and not stream.sealed:
            self.news_seen = stream.published
            data += stream.news + b"\n"
            port.said.append("news")
        self.sent_frames += len(batch)
        self.sent_bytes += len(data)
        if seq <= stream.last_other:
            port.said.append(("others", seq, end))
        if self.waited_for:
            port.read(seq, end, sum(map(len, stream.frames[: end - 1])))
        port.write(data)
        if stream.sealed and not self.unread:
            port.end()
            return len(data)
        if self.waited_for:
            if self.held_back and not self.unread and not port.paused:
                self.held_back = False
                port.said.append("grow")
            port.room()
        if self.unread:
            port.ready()
        return len(data)


class ReaderModel(RuleBasedStateMachine):
    """Some readers of one journal, and each one's twin."""

    @initialize(count=st.integers(1, 3), waited=st.booleans(), holds=st.integers(0, 2000))
    def begin(self, count: int, waited: bool, holds: int) -> None:
        self.now = 0.0
        self.stream = Stream()
        self.journal = Journal(MemoryTotal(1 << 40, lambda _: None, lambda: None), lambda: self.now, b"id")
        self.journal.shared = count > 1
        self.counts = SentCounts((0.1, 1.0))
        self.readers: list[Telling] = []
        self.twins: list[Twin] = []
        self.append(10, other=True)
        for at in range(count):
            port, mirror = Told(holds), Told(holds)
            after = None if at == 0 else at % 2
            pressure = BackpressureHandler(SLOW_S * 1000)
            reader = Telling(port, self.journal, ENCODER, pressure, port, self.counts, None, after)
            reader.waited_for = waited and at == 0
            self.readers.append(reader)
            self.twins.append(Twin(self.stream, mirror, after or 0, self.now, waited_for=reader.waited_for))

    @rule(size=st.integers(0, 900), other=st.booleans())
    def append(self, size: int, other: bool) -> None:
        if self.stream.sealed:
            return
        seq = self.journal.append({"type": "result", "seq": 0, "text": "x" * size})
        self.stream.frames.append(b'{"type":"result","seq":%d,"text":"%b"}' % (seq, b"x" * size))
        self.stream.entered.append(self.now)
        if other:
            self.journal.last_other = self.stream.last_other = seq

    @rule(text=st.text("abc", max_size=5))
    def tell(self, text: str) -> None:
        self.journal.publish({"news": text})
        self.stream.news = b'{"news":"%b"}' % text.encode()
        self.stream.published += 1

    @precondition(lambda self: len(self.stream.frames) > 3)
    @rule()
    def seal(self) -> None:
        self.journal.seal()
        self.stream.sealed = True

    @rule(at=st.integers(0, 2), max_bytes=st.integers(1, 3000), head=st.binary(max_size=3))
    def serve(self, at: int, max_bytes: int, head: bytes) -> None:
        at %= len(self.readers)
        reader, twin = self.readers[at], self.twins[at]
        assert reader.serve(max_bytes, head) == twin.serve(max_bytes, head, self.now)

    @rule(at=st.integers(0, 2), paused=st.booleans())
    def pause(self, at: int, paused: bool) -> None:
        at %= len(self.readers)
        self.readers[at].sink.paused = self.twins[at].port.paused = paused

    @rule(at=st.integers(0, 2))
    def hold_back(self, at: int) -> None:
        at %= len(self.readers)
        self.readers[at].held_back = self.twins[at].held_back = True

    @rule(seconds=st.sampled_from([0.05, 0.5, 5.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def wake(self) -> None:
        wake(self.readers)
        for twin in self.twins:
            twin.port.ready()

    @rule(seconds=st.sampled_from([0.0, 0.3, 4.0]))
    def look_after(self, seconds: float) -> None:
        overdue(self.readers, self.now)
        for reader, twin in zip(self.readers, self.twins, strict=True):
            late = [at for at in self.stream.entered[twin.next_seq - 1 :] if self.now - at > SLOW_S]
            sent = [at for at in twin.waits if at > SLOW_S]
            assert reader.backpressure.slow_total >= len(late)
            assert reader.backpressure.slow_total > 0 or not (late or sent)
        since = self.now - seconds
        expected = [
            reader
            for reader, twin in zip(self.readers, self.twins, strict=True)
            if not twin.unread and twin.last_sent_at <= since and not self.stream.sealed
        ]
        assert silent(self.readers, since) == expected

    @invariant()
    def agree(self) -> None:
        for reader, twin in zip(self.readers, self.twins, strict=True):
            assert reader.sink.said == twin.port.said
            assert (reader.next_seq, reader.offset) == (twin.next_seq, self._text(twin.next_seq))
            assert (reader.unread_frames, reader.unread_bytes) == (len(twin.unread), sum(map(len, twin.unread)))
            assert (reader.sent_frames, reader.sent_bytes) == (twin.sent_frames, twin.sent_bytes)
            assert reader.wants_service == (bool(twin.unread) and not twin.port.paused)
            assert (reader.last_sent_at, reader.held_back) == (twin.last_sent_at, twin.held_back)
        assert self.counts.results == sum(twin.sent_frames for twin in self.twins)
        assert self.counts.bytes == sum(twin.sent_bytes for twin in self.twins)
        waits = [waited for twin in self.twins for waited in twin.waits]
        assert sum(self.counts.send_latency.counts) == len(waits)
        assert abs(self.counts.send_latency.total - sum(waits)) < 1e-6

    def _text(self, seq: int) -> int:
        return sum(map(len, self.stream.frames[: seq - 1]))


TestReaderModel = ReaderModel.TestCase
