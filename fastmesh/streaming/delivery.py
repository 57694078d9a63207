"""One reader of a stream: a position in its journal, a window, and where its bytes go.

Nothing is queued here.  The pump calls serve() when it is this subscriber's
turn; a paused sink is simply not served, so its position stops, its window
fills and the producer waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import orjson

from fastmesh.events import Event
from fastmesh.streaming.backpressure import BackpressureHandler
from fastmesh.streaming.buffer import DynamicBuffer
from fastmesh.wire.encoders import Encoder

if TYPE_CHECKING:
    from fastmesh.streaming.pipeline import StreamingPipeline


class Sink(Protocol):
    """Where a subscriber's bytes go: a connection, or standard output."""

    paused: bool

    def write(self, data: bytes) -> None:
        """Take *data*; may set ``paused`` before it returns."""
        ...

    def ready(self) -> None:
        """There is something to serve."""
        ...

    def end(self) -> None:
        """The last byte of the stream was written."""
        ...


class Subscriber:
    """A position in a stream's journal."""

    __slots__ = (
        "_read_bytes",
        "backpressure",
        "buffer",
        "encoder",
        "last_sent_at",
        "next_seq",
        "pipeline",
        "sent_bytes",
        "sink",
    )

    def __init__(
        self,
        pipeline: StreamingPipeline,
        encoder: Encoder,
        buffer: DynamicBuffer,
        backpressure: BackpressureHandler,
        sink: Sink,
    ) -> None:
        self.pipeline = pipeline
        self.encoder = encoder
        self.buffer = buffer
        self.backpressure = backpressure
        self.sink = sink
        self.next_seq = 1
        self._read_bytes = 0  # of text, ever
        self.sent_bytes = 0  # framed, ever
        self.last_sent_at = pipeline.now()

    @property
    def unread_frames(self) -> int:
        """Frames in the journal that the sink has not taken."""
        return self.pipeline.journal.last_seq + 1 - self.next_seq

    @property
    def unread_bytes(self) -> int:
        """Their text."""
        return self.pipeline.journal.ring.appended_bytes - self._read_bytes

    def has_room(self, running: int) -> bool:
        """Whether the stream may start one more URL while *running* are under way."""
        return self.buffer.has_room(self.unread_frames, self.unread_bytes, running)

    def serve(self, max_bytes: int, head: bytes = b"") -> int:
        """Write *head* and about *max_bytes* of what is unread, tell the stream of the room; return bytes written."""
        pipeline = self.pipeline
        seq = self.next_seq
        written = 0
        if seq <= pipeline.journal.last_seq:
            batch, text_bytes = pipeline.journal.read(seq, max_bytes)
            end = self.next_seq = seq + len(batch)
            self._read_bytes += text_bytes
            now = self.last_sent_at = pipeline.now()
            waited = self.backpressure.took(pipeline.journal.ring, seq, end, now)
            complete = end > pipeline.journal.last_seq and pipeline.complete
            data = head + self.encoder.frame(batch, text_bytes) + (self.encoder.end() if complete else b"")
            written = len(data)
            self.sent_bytes += written
            pipeline.sent(seq, end, written, waited)
            self.sink.write(data)
            if complete:
                self.sink.end()
                return written
        pipeline.room()
        return written

    def tell(self, event: Event) -> int:
        """Write one frame that is no part of the journal, told to this subscriber alone; return the bytes written."""
        frame = orjson.dumps(event)
        data = self.encoder.frame([frame], len(frame))
        self.sent_bytes += len(data)
        self.last_sent_at = self.pipeline.now()
        self.sink.write(data)
        return len(data)

    @property
    def wants_service(self) -> bool:
        """Whether serving it would write something."""
        return not self.sink.paused and self.next_seq <= self.pipeline.journal.last_seq
