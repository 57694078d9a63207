"""One reader of a stream: a position in its journal, a window, and where its bytes go.

Nothing is queued here.  Whoever owns the sink calls serve() when it is this subscriber's turn; one that is not served
stands still, and if it has the pacer's place its window fills and the producer waits.
"""

from __future__ import annotations

import orjson

from fastmesh._core import BackpressureHandler, Batch, Reader
from fastmesh.events import gap_event, heartbeat_event
from fastmesh.streaming.dropping import DropPolicy
from fastmesh.streaming.ports import Loading, Sink, Source
from fastmesh.streaming.window import DynamicBuffer
from fastmesh.telemetry.log import get_logger
from fastmesh.telemetry.metrics import ProtocolCounts
from fastmesh.wire.encoders import Encoder

log = get_logger()


class Subscriber(Reader):
    """A position in a stream's journal, with a window on it.  What every delivery does is in C: Reader.serve()."""

    __slots__ = ("_aside", "_load", "buffer")

    pipeline: Source[Subscriber]
    encoder: Encoder
    counts: ProtocolCounts
    dropping: DropPolicy | None
    sink: Sink

    def __init__(
        self,
        pipeline: Source[Subscriber],
        encoder: Encoder,
        buffer: DynamicBuffer,
        backpressure: BackpressureHandler,
        sink: Sink,
        counts: ProtocolCounts,
        dropping: DropPolicy | None = None,
        after: int | None = None,
    ) -> None:
        """*after*: the last frame that the reader has, None if it is new.  Without *dropping* it is waited for."""
        super().__init__(pipeline, pipeline.journal, encoder, backpressure, sink, counts, dropping, after)
        self.buffer = buffer
        self._aside: tuple[tuple[int, bytes], ...] = ()  # frames that are no results, passed unsent
        self._load: Loading | None = None  # what comes next, under way or to be had

    def has_room(self, running: int, held_bytes: int) -> bool:
        """Whether the stream may start one more URL while *running* are under way or held back, with so many bytes."""
        return self.buffer.has_room(self.unread_frames, self.unread_bytes + held_bytes, running)

    def heartbeat(self) -> bool:
        """Say that the stream is alive; return whether anything had to be said."""
        data = self.encoder.heartbeat(orjson.dumps(heartbeat_event(self.pipeline.id)))
        self.last_sent_at = self.pipeline.now()
        if data:
            self.sent_bytes += len(data)
            self.counts.bytes += len(data)
            self.counts.sent["heartbeat"] += 1
            self.sink.beat(data)
        return bool(data)

    def grow(self) -> None:
        """All was read and the window held the stream back: it grows, also for one slow just now (decisions.md)."""
        self.held_back = False
        if self.buffer.grow():
            self.counts.grows += 1

    def shrink(self) -> None:
        """The reader is slow: it gets a smaller window."""
        if self.buffer.shrink():
            self.counts.shrinks += 1

    def would_leave_out(self) -> bool:
        """Whether a result that came has the oldest unread one left out, for a reader that is stuck."""
        return self.dropping is not None and self.dropping.leaves_out(
            stuck=self.sink.paused,
            lag_frames=self.unread_frames,
            lag_bytes=self.unread_bytes,
            under_backpressure=self.backpressure.under_backpressure(self.pipeline.now()),
            slow=self.backpressure.mostly_slow,
        )

    @property
    def lags_too_far(self) -> bool:
        """Whether it is stuck and has more unread than it may."""
        return (
            self.dropping is not None
            and self.sink.paused
            and self.dropping.lags_too_far(self.unread_frames, self.unread_bytes, slow=self.backpressure.mostly_slow)
        )

    def leave_out(self) -> None:
        """Leave out the oldest unread result, and more while it lags too far; a gap names them before the next frame.
        Every frame is passed once, so all that a stream leaves out takes as many steps as it has frames."""
        self.give_up_loading()
        self._pass_evicted()
        more = self._leave_out_one()
        while more and self.lags_too_far:
            more = self._leave_out_one()

    def _pass_evicted(self) -> None:
        """Move past what the journal has already let go of: that need not be left out."""
        ring = self.journal.ring
        if self.next_seq < ring.first:
            self.gap_from = self.gap_from or self.next_seq
            self._count_expired(ring.first - max(2, self.next_seq))
            self.next_seq, self.offset = ring.first, ring.evicted_bytes

    def _leave_out_one(self) -> bool:
        """Pass the oldest unread result, if any; frames before it that are no results are set aside."""
        assert self.dropping is not None
        ring = self.journal.ring
        if self.unread_frames <= sum(seq >= self.next_seq for seq, _ in self.pipeline.others):
            return False
        self.gap_from = self.gap_from or self.next_seq
        while (kind := self._kind_of(self.next_seq)) != "result":
            if kind != "metadata":  # that is never evicted
                self._aside += ((self.next_seq, ring.read(self.next_seq, 0)[0][0]),)
            self._pass_one()
        self._pass_one()
        self.dropping.left_out()
        self.missed_frames += 1
        self.counts.dropped["slow_client"] += 1
        return True

    def _pass_one(self) -> None:
        self.offset += self.journal.ring.length(self.next_seq)
        self.next_seq += 1

    def catch_up(self) -> bytes | None:
        """What comes next was evicted or left out: the store's frames, or a gap up to the oldest that is kept.  What is
        missing is named.  None: the store is asked, and the reader waits for its answer."""
        load, self._load = self._load, None
        if load is None and self.next_seq < self.journal.ring.first:
            self._load = load = self.pipeline.load(self.next_seq)
            if load is not None:
                self.loading = True
                load.add_done_callback(self._loaded)
                return None
        loaded = [] if load is None else self._frames_of(load)
        if not loaded:
            return self._pass_missing()
        return (self._pass_missing(up_to=self.next_seq) if self.gap_from else b"") + self._say_loaded(loaded)

    def give_up_loading(self) -> None:
        """The reader left or was moved on: it waits for no answer of the store."""
        load, self._load = self._load, None
        self.loading = False
        if load is not None:
            load.cancel()

    def _loaded(self, load: Loading) -> None:
        if load is self._load:
            self.loading = False
            self.sink.ready()

    def _frames_of(self, load: Loading) -> list[bytes]:
        """What the store answered of what the journal has not; none where it cannot: then the frames are missing."""
        try:
            return list(load.result()[: self.journal.ring.first - self.next_seq])
        except Exception:
            log.exception("stream.unreadable", **self.pipeline.named, seq=self.next_seq)
            return []

    def _say_loaded(self, frames: list[bytes]) -> bytes:
        """Move on by *frames*, which are what comes next."""
        seq, ring = self.next_seq, self.journal.ring
        end = self.next_seq = seq + len(frames)
        if end == ring.first:
            self.offset = ring.evicted_bytes  # before, nobody knows it
        self.last_sent_at = self.pipeline.now()
        self.sent_frames += len(frames)
        self.counts.results += len(frames)
        self.count_others(seq, end)
        if self.waited_for:
            self.pipeline.read(seq, end, self.offset)
        return self.encoder.frame(Batch(frames), self.journal.stream_id, seq)

    def _pass_missing(self, up_to: int = 0) -> bytes:
        """Name what was left out or evicted before *up_to*, or else before the oldest that is kept, and go on there."""
        journal, missed = self.journal, self.gap_from or self.next_seq
        reason = "slow_client" if self.gap_from else "expired"
        self.gap_from = 0
        ring = journal.ring
        first = up_to or max(ring.first, self.next_seq)
        said = b""
        if missed == 1:
            said = self._say(1, journal.metadata)
            missed = 2
        aside, self._aside = self._aside, ()
        for seq, text in aside:
            said += self._gap(missed, seq, reason) + self._say(seq, text)
            missed = seq + 1
        said += self._gap(missed, first, reason)
        self._count_expired(max(0, first - max(missed, self.next_seq)))
        if self.next_seq < first:
            self.next_seq = first
            self.offset = ring.evicted_bytes
        return said

    def _say(self, seq: int, text: bytes) -> bytes:
        """One frame that was passed or that the journal no longer has: the metadata, or one set aside."""
        self.sent_frames += 1
        self.counts.sent[self._kind_of(seq)] += 1
        return self.encoder.frame(Batch([text]), self.journal.stream_id, seq)

    def _gap(self, missed: int, first: int, reason: str) -> bytes:
        """Name the frames from *missed* to *first* (excluded), if there are any."""
        if missed >= first:
            return b""
        self.counts.sent["gap"] += 1
        return self.encoder.note(orjson.dumps(gap_event(self.pipeline.id, missed, first - 1, reason)))

    def count_others(self, seq: int, end: int) -> None:
        """Of the frames *seq* to *end* (excluded), which were counted as results, some are none."""
        counts = self.counts
        for at, kind in self.pipeline.others:
            if seq <= at < end:
                counts.sent[kind] += 1
                counts.results -= 1

    def count_news(self) -> None:
        """The stream's newest progress was written."""
        self.counts.sent["progress"] += 1

    def _kind_of(self, seq: int) -> str:
        return next((kind for at, kind in self.pipeline.others if at == seq), "result")

    def _count_expired(self, count: int) -> None:
        self.missed_frames += count
        self.counts.dropped["expired"] += count
