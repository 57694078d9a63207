"""One stream: its journal, who fills it, who reads it, and its life."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fastmesh.events import Event, error_event, heartbeat_event, metadata_event
from fastmesh.log import get_logger
from fastmesh.metrics import Metrics
from fastmesh.streaming.buffer import BufferManager
from fastmesh.streaming.delivery import Subscriber
from fastmesh.streaming.journal import Journal
from fastmesh.streaming.lifecycle import Lifecycle, State, Step

log = get_logger()


class Processor(Protocol):
    """What fills a stream: a crawl or the firehose."""

    def start(self) -> None:
        """Begin; results are appended as the stream has room."""
        ...

    def room(self) -> None:
        """The reader took something: there may be room for more."""
        ...

    def stop(self, status: str) -> None:
        """End early; the summary says *status*."""
        ...

    async def join(self) -> None:
        """Wait until nothing of it runs any more."""
        ...


@dataclass(frozen=True, slots=True)
class Opening:
    """What is known of a stream when it is opened."""

    stream_id: str
    stream_type: str
    request_id: str
    client: str
    total_urls: int | None


class StreamingPipeline:
    """A stream from its metadata frame to its summary.

    The processor appends, the subscriber reads; in between stands the journal,
    and ``may_start`` is the only place that decides who waits for whom.
    """

    def __init__(
        self,
        opening: Opening,
        buffers: BufferManager,
        metrics: Metrics,
        clock: Callable[[], float],
        on_closed: Callable[[StreamingPipeline], None],
    ) -> None:
        self.opening = opening
        self.id = opening.stream_id
        self.now = clock
        self.opened_at = clock()
        self.journal = Journal(buffers, clock)
        self.lifecycle = Lifecycle(self._changed)
        self.subscriber: Subscriber | None = None
        self.status = ""  # the summary's, once there is one
        self._buffers = buffers
        self._metrics = metrics
        self._on_closed = on_closed
        self._processor: Processor | None = None
        self._error_seq = 0

    # ── the stream's verbs ───────────────────────────────────────────────────────────────

    def start(self, processor: Processor) -> None:
        """Append the metadata and let *processor* begin."""
        opening = self.opening
        self._processor = processor
        self.journal.append(metadata_event(self.id, opening.request_id, opening.stream_type, opening.total_urls))
        self.lifecycle.step(Step.START)
        processor.start()

    def append(self, event: Event) -> None:
        """Append *event* and let the reader know."""
        self.journal.append(event)
        self.wake()

    def fail(self, type_: str, message: str) -> None:
        """The stream as a whole failed: an error frame; the processor's summary follows."""
        self.lifecycle.step(Step.FAIL)
        self._metrics.errors.labels(type_).inc()
        self._error_seq = self.journal.append(error_event(self.id, type_, message, retryable=False))
        self.wake()

    def finish(self, summary: Event) -> None:
        """Append the *summary*, past every bound; when it is read, or nobody reads, the stream is closed."""
        self.status = summary["status"]
        self.lifecycle.step(Step.CLOSE)
        self._buffers.forget(self.room)
        self.append(summary)
        if self.subscriber is None:
            self._close()

    def stop(self, status: str) -> None:
        """End the stream early: what runs is cancelled, the summary says *status*."""
        if self._processor is not None and self.lifecycle.open:
            self._processor.stop(status)

    async def join(self) -> None:
        """Wait until the processor has ended."""
        if self._processor is not None:
            await self._processor.join()

    # ── who waits for whom ───────────────────────────────────────────────────────────────

    def may_start(self, running: int) -> bool:
        """Whether one more URL may be started while *running* are under way."""
        subscriber = self.subscriber
        if subscriber is None or not self.lifecycle.open or not subscriber.has_room(running):
            return False
        # A stream that holds nothing may always go on by one frame, so that streams cannot lock each other out.
        if self._buffers.has_room or (running == 0 and subscriber.unread_frames == 0):
            if self.lifecycle.state is State.FLUSHING:
                self.lifecycle.step(Step.RESUME)
            return True
        if self.lifecycle.state is State.ACTIVE:
            self.lifecycle.step(Step.FLUSH)
        self._buffers.wait(self.room)
        return False

    @property
    def over_total(self) -> bool:
        """Whether all streams together hold as much as they may: one frame at a time, then."""
        return not self._buffers.has_room

    def room(self) -> None:
        """Something was read, here or elsewhere: the processor may look again."""
        if self._processor is not None and self.lifecycle.open:
            self._processor.room()

    def wake(self) -> None:
        """There is something to read."""
        if self.subscriber is not None:
            self.subscriber.sink.ready()

    # ── the reader ───────────────────────────────────────────────────────────────────────

    @property
    def complete(self) -> bool:
        """Whether the summary is appended."""
        return self.lifecycle.state in (State.CLOSING, State.CLOSED)

    def attach(self, subscriber: Subscriber) -> None:
        """*subscriber* reads from now on."""
        self.subscriber = subscriber
        counts = self._metrics.protocols[subscriber.encoder.protocol]
        counts.active += 1
        counts.connections += 1
        self._metrics.capacity.observe(subscriber.buffer.capacity_frames)

    def detach(self, status: str = "cancelled") -> None:
        """The reader is gone; a stream that nobody reads is ended with *status*."""
        subscriber, self.subscriber = self.subscriber, None
        if subscriber is None:
            return
        protocol = subscriber.encoder.protocol
        self._metrics.protocols[protocol].active -= 1
        self._metrics.connection_duration.labels(protocol).observe(self.now() - self.opened_at)
        if self.complete:
            self._close()
        else:
            self.stop(status)

    def sent(self, seq: int, end: int, written: int, waited: float) -> None:
        """The reader took the frames *seq* to *end* (excluded): *written* bytes; the oldest had *waited* seconds."""
        assert self.subscriber is not None
        self.journal.evict(end)
        counts = self._metrics.protocols[self.subscriber.encoder.protocol]
        counts.bytes += written
        counts.send_latency.observe(waited)
        last = self.complete and end > self.journal.last_seq
        fault = seq <= self._error_seq < end
        counts.sent["result"] += end - seq - (seq == 1) - fault - last
        if seq == 1 or fault or last:
            counts.sent["metadata"] += seq == 1
            counts.sent["error"] += fault
            counts.sent["summary"] += last

    def heartbeat(self) -> None:
        """Tell the reader that the stream is alive."""
        if self.subscriber is not None:
            counts = self._metrics.protocols[self.subscriber.encoder.protocol]
            counts.bytes += self.subscriber.tell(heartbeat_event(self.id))
            counts.sent["heartbeat"] += 1

    # ── its end ──────────────────────────────────────────────────────────────────────────

    def _close(self) -> None:
        if self.lifecycle.closed:
            return
        self.lifecycle.step(Step.DONE)
        self.journal.close()
        self._on_closed(self)

    def _changed(self, old: State, new: State) -> None:
        log.debug("stream.state", stream_id=self.id, request_id=self.opening.request_id, old=old, new=new)
