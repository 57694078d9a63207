"""One reader of a stream: a position in its journal, a window, and where its bytes go.

Nothing is queued here.  Whoever owns the sink calls serve() when it is this
subscriber's turn; one that is not served stands still, and if it holds the
pacer's place its window fills and the producer waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import orjson

from fastmesh._core import BackpressureHandler, Batch, Reader
from fastmesh.events import gap_event, heartbeat_event
from fastmesh.metrics import ProtocolCounts
from fastmesh.streaming.buffer import DynamicBuffer
from fastmesh.streaming.dropping import DropPolicy
from fastmesh.wire.encoders import Encoder

if TYPE_CHECKING:
    from fastmesh.streaming.pipeline import StreamingPipeline


class Sink(Protocol):
    """Where a subscriber's bytes go: a connection, a part of one, or standard output."""

    @property
    def paused(self) -> bool:
        """Whether nothing may be written now."""
        ...

    def write(self, data: bytes) -> None:
        """Take *data*; may be paused when it returns."""
        ...

    def beat(self, data: bytes) -> None:
        """Take a heartbeat."""
        ...

    def ready(self) -> None:
        """There is something to serve."""
        ...

    def end(self) -> None:
        """The last byte of the stream was written."""
        ...

    def give_up(self) -> None:
        """Its reader is too slow and asked to be cut off then; the stream can be resumed."""
        ...


class Subscriber(Reader):
    """A position in a stream's journal, with a window on it.  What every delivery does is in C: Reader.serve()."""

    __slots__ = ("buffer",)

    pipeline: StreamingPipeline
    encoder: Encoder
    counts: ProtocolCounts
    dropping: DropPolicy | None
    sink: Sink

    def __init__(
        self,
        pipeline: StreamingPipeline,
        encoder: Encoder,
        buffer: DynamicBuffer,
        backpressure: BackpressureHandler,
        sink: Sink,
        counts: ProtocolCounts,
        dropping: DropPolicy | None = None,
        after: int | None = None,
    ) -> None:
        """*after* is the last frame that the reader has from before; None for one that is new.

        Without *dropping* it is waited for, however slow it is.
        """
        super().__init__(pipeline, pipeline.journal, encoder, backpressure, sink, counts, dropping, after)
        self.buffer = buffer

    def has_room(self, running: int, held_bytes: int) -> bool:
        """Whether the stream may start one more URL while *running* are under way or held, with so many bytes."""
        return self.buffer.has_room(self.unread_frames, self.unread_bytes + held_bytes, running)

    def heartbeat(self) -> bool:
        """Say that the stream is alive; return whether anything had to be said."""
        data = self.encoder.heartbeat(orjson.dumps(heartbeat_event(self.pipeline.id)))
        self.last_sent_at = self.pipeline.now()
        if data:
            self.sent_bytes += len(data)
            self.counts.bytes += len(data)
            self.pipeline.told(self, "heartbeat")
            self.sink.beat(data)
        return bool(data)

    def grow(self) -> None:
        """All was read and the window is what held the stream back: it grows.

        Also when the reader was slow just now: who pauses for a while and then reads
        all is held back by its window more than any other (docs/decisions.md).
        """
        self.held_back = False
        if self.buffer.grow():
            self.counts.grows += 1

    def shrink(self) -> None:
        """The reader is slow: it gets a smaller window."""
        if self.buffer.shrink():
            self.counts.shrinks += 1

    def would_leave_out(self, now: float) -> bool:
        """Whether the oldest unread frame is a result that is left out for a reader that is stuck."""
        pipeline = self.pipeline
        if self.dropping is None or self.next_seq < pipeline.journal.ring.first or pipeline.is_no_result(self.next_seq):
            return False
        return self.dropping.leaves_out(
            stuck=self.sink.paused,
            lag_frames=self.unread_frames,
            lag_bytes=self.unread_bytes,
            under_backpressure=self.backpressure.under_backpressure(now),
            slow=self.backpressure.mostly_slow,
        )

    def leave_out(self) -> None:
        """Leave out the oldest unread frame; a gap names it before the next that is sent."""
        _, text_bytes = self.pipeline.journal.ring.read(self.next_seq, 0)
        self.gap_from = self.gap_from or self.next_seq
        self.next_seq += 1
        self.offset += text_bytes
        self.missed_frames += 1
        self.counts.dropped["slow_client"] += 1
        assert self.dropping is not None
        self.dropping.left_out()

    def catch_up(self) -> bytes:
        """What comes next was evicted or left out: go on with the oldest that is kept, and name what is missing."""
        pipeline, missed = self.pipeline, self.gap_from or self.next_seq
        reason = "slow_client" if self.gap_from else "expired"
        self.gap_from = 0
        ring = pipeline.journal.ring
        first = max(ring.first, self.next_seq)
        said = b""
        if missed == 1:  # the metadata is never evicted
            said = self.encoder.frame(Batch([pipeline.journal.metadata]), pipeline.journal.stream_id, 1)
            self.sent_frames += 1
            pipeline.told(self, "metadata")
            missed = 2
        if missed < first:
            gap = self.encoder.note(orjson.dumps(gap_event(pipeline.id, missed, first - 1, reason)))
            expired = max(0, first - max(missed, self.next_seq))
            self.missed_frames += expired
            self.counts.dropped["expired"] += expired
            pipeline.told(self, "gap")
            said += gap
        if self.next_seq < first:
            self.next_seq = first
            self.offset = ring.evicted_bytes
        return said
