"""One reader of a stream: a position in its journal, a window, and where its bytes go.

Nothing is queued here.  Whoever owns the sink calls serve() when it is this
subscriber's turn; one that is not served stands still, and if it holds the
pacer's place its window fills and the producer waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import orjson

from fastmesh.events import gap_event, heartbeat_event
from fastmesh.metrics import ProtocolCounts
from fastmesh.streaming.backpressure import BackpressureHandler
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


class Subscriber:
    """A position in a stream's journal: the frames before ``next_seq`` were written here, or named by a gap."""

    __slots__ = (
        "_gap_from",
        "_offset",
        "attached_at",
        "backpressure",
        "buffer",
        "counts",
        "dropping",
        "encoder",
        "last_sent_at",
        "missed_frames",
        "next_seq",
        "pipeline",
        "returning",
        "sent_bytes",
        "sent_frames",
        "sink",
    )

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
        self.pipeline = pipeline
        self.encoder = encoder
        self.buffer = buffer
        self.backpressure = backpressure
        self.sink = sink
        self.counts = counts
        self.dropping = dropping
        self._gap_from = 0  # the frames from here to the position were left out, and the reader was not told yet
        self.returning = after is not None
        self.next_seq = (after or 0) + 1
        ring = pipeline.journal.ring
        self._offset = ring.offset(max(self.next_seq, ring.first))  # bytes of text before the position, ever
        self.sent_frames = 0
        self.sent_bytes = 0  # framed
        self.missed_frames = 0
        self.attached_at = self.last_sent_at = pipeline.now()

    @property
    def unread_frames(self) -> int:
        """Frames in the journal that the sink has not taken."""
        return self.pipeline.journal.last_seq + 1 - self.next_seq

    @property
    def unread_bytes(self) -> int:
        """Their text."""
        return self.pipeline.journal.ring.appended_bytes - self._offset

    @property
    def offset(self) -> int:
        """How many bytes of text the stream ever had before this position."""
        return self._offset

    @property
    def wants_service(self) -> bool:
        """Whether serving it would write something."""
        return not self.sink.paused and self.next_seq <= self.pipeline.journal.last_seq

    def has_room(self, running: int) -> bool:
        """Whether the stream may start one more URL while *running* are under way."""
        return self.buffer.has_room(self.unread_frames, self.unread_bytes, running)

    def serve(self, max_bytes: int, head: bytes = b"") -> int:
        """Write *head* and about *max_bytes* of what is unread, tell the stream of the room; return bytes written.

        The sink is told when there is more.
        """
        pipeline = self.pipeline
        journal = pipeline.journal
        if self.next_seq < journal.ring.first or self._gap_from:
            head += self._catch_up()
        seq = self.next_seq
        if seq > journal.last_seq:
            if head:
                self.sent_bytes += len(head)
                self.sink.write(head)
            if pipeline.waits_for(self):
                pipeline.room()
            return len(head)
        end, text_bytes, framed = pipeline.framed(self.encoder, seq, max_bytes)
        self.next_seq = end
        self._offset += text_bytes
        now = self.last_sent_at = pipeline.now()
        waited = self.backpressure.took(journal.ring, seq, end, now)
        complete = end > journal.last_seq and pipeline.complete
        data = framed
        if complete or head:
            data = head + framed + (self.encoder.end() if complete else b"")
        written = len(data)
        self.sent_bytes += written
        self.sent_frames += end - seq
        counts = self.counts
        counts.bytes += written
        counts.results += end - seq
        counts.send_latency.observe(waited)
        if self.dropping is not None:
            self.dropping.sent(end - seq)
        if seq <= pipeline.last_type:
            pipeline.count_types(counts, seq, end)
        waited_for = pipeline.waits_for(self)
        if waited_for:
            pipeline.read(self, seq, end)
        self.sink.write(data)
        if complete:
            self.sink.end()
            return written
        if waited_for:
            if self.buffer.held_back and end > journal.last_seq and not self.sink.paused:
                self._grow(now)
            pipeline.room()
        if end <= journal.last_seq:
            self.sink.ready()
        return written

    def heartbeat(self) -> bool:
        """Say that the stream is alive; return whether anything had to be said."""
        data = self.encoder.heartbeat(orjson.dumps(heartbeat_event(self.pipeline.id)))
        self.last_sent_at = self.pipeline.now()
        if data:
            self.sent_bytes += len(data)
            self.pipeline.told(self, "heartbeat", len(data))
            self.sink.beat(data)
        return bool(data)

    def _grow(self, now: float) -> None:
        """All was read and the window is what held the stream back: it grows, unless the reader was slow just now."""
        if not self.backpressure.under_backpressure(now) and self.buffer.grow():
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
        window = self.backpressure.window
        return self.dropping.leaves_out(
            stuck=self.sink.paused,
            lag_frames=self.unread_frames,
            lag_bytes=self.unread_bytes,
            under_backpressure=self.backpressure.under_backpressure(now),
            slow=window.slow * 2 > len(window),
        )

    def leave_out(self) -> None:
        """Leave out the oldest unread frame; a gap names it before the next that is sent."""
        _, text_bytes = self.pipeline.journal.ring.read(self.next_seq, 0)
        self._gap_from = self._gap_from or self.next_seq
        self.next_seq += 1
        self._offset += text_bytes
        self.missed_frames += 1
        self.counts.dropped["slow_client"] += 1
        assert self.dropping is not None
        self.dropping.left_out()

    def _catch_up(self) -> bytes:
        """What comes next was evicted or left out: go on with the oldest that is kept, and name what is missing."""
        pipeline, missed = self.pipeline, self._gap_from or self.next_seq
        reason = "slow_client" if self._gap_from else "expired"
        self._gap_from = 0
        ring = pipeline.journal.ring
        first = max(ring.first, self.next_seq)
        said = b""
        if missed == 1:  # the metadata is never evicted
            said = self.encoder.frame([pipeline.journal.metadata], pipeline.id_bytes, 1)
            self.sent_frames += 1
            pipeline.told(self, "metadata", len(said))
            missed = 2
        if missed < first:
            gap = self.encoder.note(orjson.dumps(gap_event(pipeline.id, missed, first - 1, reason)))
            expired = max(0, first - max(missed, self.next_seq))
            self.missed_frames += expired
            self.counts.dropped["expired"] += expired
            pipeline.told(self, "gap", len(gap))
            said += gap
        if self.next_seq < first:
            self.next_seq = first
            self._offset = ring.evicted_bytes
        return said
