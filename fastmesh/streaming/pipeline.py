"""One stream: its journal, who fills it, who reads it, and its life."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from fastmesh._core import Journal, wake
from fastmesh.events import Event, error_event, metadata_event, progress_event
from fastmesh.streaming.lifecycle import Lifecycle, State, Step
from fastmesh.streaming.memory import BufferManager
from fastmesh.streaming.pacer import PacerPlace, Place
from fastmesh.streaming.subscriber import Subscriber
from fastmesh.telemetry.log import get_logger
from fastmesh.telemetry.metrics import Metrics, ProtocolCounts
from fastmesh.telemetry.trace import Trace

log = get_logger()


class Processor(Protocol):
    """What fills a stream: a crawl, a deep search or the firehose."""

    @property
    def results(self) -> tuple[int, int]:
        """How many URLs succeeded and failed so far."""
        ...

    def start(self) -> None:
        """Begin; results are appended as the stream has room."""
        ...

    def room(self) -> None:
        """A reader took something: there may be room for more."""
        ...

    def stop(self, status: str) -> None:
        """End early; the summary says *status*."""
        ...

    async def join(self) -> None:
        """Wait until nothing of it runs any more."""
        ...


METADATA: Final = (1, "metadata")
PROGRESS_EVERY: Final = 5  # URLs
SHORT: Final = 10


@dataclass(frozen=True, slots=True)
class Opening:
    """What is known of a stream when it is opened."""

    stream_type: str
    request_id: str
    client: str | None  # whose it is, and whom it is counted for; None: this machine's, and nobody
    total_urls: int | None
    deadline_s: float
    detached: bool = False  # nobody is waited for
    on_slow: Literal["block", "drop", "disconnect"] = "block"  # what a slow reader in the pacer's place means
    progress: bool = False  # its readers are told now and then how far it is
    kept: bool = True  # its journal can be read after its end
    connection: int = 0  # the number of the one that it was asked for on; 0: none
    trace: Trace = field(default_factory=Trace.begin)

    @property
    def asker(self) -> Hashable:
        """Whom its turns count for: its client; of this machine's, who have no token, each connection is one."""
        return self.connection if self.client is None else self.client


@dataclass(frozen=True, slots=True)
class JournalBounds:
    """How much of its text a stream keeps, in bytes."""

    behind: int  # behind who has the pacer's place
    detached: int  # in all, when it is detached
    ahead: int  # of a place that it does not wait for, or whose holder has left


class StreamingPipeline:
    """A stream from its metadata frame to its summary.

    The processor appends, subscribers read; in between stands the journal, and
    ``may_start`` is the only place that decides who waits for whom.

    With its summary it lets go of the processor, and closed it holds its journal, some figures and nobody:
    there are far more closed streams than open ones, and nothing may wait for the collector of cycles.
    """

    __slots__ = (
        "__weakref__",
        "_bounds",
        "_buffers",
        "_counted_offset",
        "_detached",
        "_metrics",
        "_on_closed",
        "_on_slow",
        "_others",
        "_processor",
        "_results",
        "_sent_before",
        "_sent_offset",
        "closed_at",
        "cut_off",
        "fault",
        "faulty",
        "id",
        "journal",
        "lifecycle",
        "missed_frames",
        "now",
        "opened_at",
        "opened_wall",
        "opening",
        "pacer",
        "protocol",
        "readers",
        "sent_bytes",
        "sent_frames",
        "status",
        "stopped",
        "subscribers",
        "waiting",
    )

    def __init__(
        self,
        stream_id: str,
        opening: Opening,
        bounds: JournalBounds,
        buffers: BufferManager,
        metrics: Metrics,
        clock: Callable[[], float],
        on_closed: Callable[[StreamingPipeline], None],
    ) -> None:
        self.id = stream_id
        self.opening = opening
        self.now = clock
        self.opened_at = clock()
        self.opened_wall = time.time()
        self.closed_at = 0.0
        self.journal = Journal(buffers.total, clock, stream_id.encode())
        self.lifecycle = Lifecycle()
        self.pacer: PacerPlace[Subscriber] = PacerPlace(clock(), detached=opening.detached)
        self.subscribers: list[Subscriber] = []  # attached, the longest first
        self.protocol = "none"  # of its first subscriber
        self.status = ""  # the summary's, once there is one
        self.faulty = False  # failed, and not as its request asked for
        self.fault: str | None = None  # the type of its error frame
        self.readers = self.sent_frames = self.sent_bytes = self.missed_frames = 0  # of all that were attached
        self.cut_off: str | None = None  # why who read it was, and has not been told
        self.stopped = False  # told to end early: the summary is under way
        self.waiting = False  # a detached stream that is full of what nobody has read
        self._bounds = bounds
        self._buffers = buffers
        self._metrics = metrics
        self._on_closed: Callable[[StreamingPipeline], None] | None = on_closed  # until it is
        self._processor: Processor | None = None  # from its start to its summary
        self._results = (0, 0)  # since its summary
        self._detached = opening.detached
        self._on_slow = opening.on_slow
        self._others: tuple[tuple[int, str], ...] = ()  # the frames that are no results: seq and type
        self._sent_before = 1  # the frames before it were sent to somebody
        self._sent_offset = 0
        self._counted_offset = 0  # what of the text was counted as unsent

    @property
    def named(self) -> dict[str, str]:
        """What every log line of it has."""
        opening = self.opening
        return {"stream_id": self.id, "request_id": opening.request_id, "trace_id": opening.trace.trace_id}

    # ── the stream's verbs ───────────────────────────────────────────────────────────────

    def start(self, processor: Processor) -> None:
        """Append the metadata and let *processor* begin."""
        opening = self.opening
        self._processor = processor
        self.journal.begin(metadata_event(self.id, opening.request_id, opening.stream_type, opening.total_urls))
        self._appended("metadata")
        self.step(Step.START)
        processor.start()

    def step(self, step: Step) -> None:
        """Go on in its life."""
        old = self.lifecycle.step(step)
        log.debug("stream.state", **self.named, old=old, new=self.lifecycle.state)

    def append(self, event: Event) -> None:
        """Append the result *event* and let readers know."""
        self.journal.append(event)
        self.wake()
        if self._detached:
            self._keep_detached()
        elif self._on_slow != "block":
            self._go_on()

    def append_search(self, event: Event) -> None:
        """Append what a search found."""
        self._append(event)
        self.wake()

    def tell_progress(self, completed: int, total: int, item: str) -> None:
        """Tell who has read all how far the stream is, unless the *item* (a URL) was not one of every fifth.

        A short stream says as much by its results.
        """
        opening = self.opening
        if opening.progress and total > SHORT and completed % PROGRESS_EVERY == 0:
            self.journal.tell(
                progress_event(self.id, opening.stream_type, self.opened_wall, self.state, completed, total, item)
            )

    def fail(self, type_: str, message: str, *, retryable: bool = False, asked_for: bool = False) -> None:
        """The stream as a whole failed: an error frame; the processor's summary follows.

        One whose request *asked_for* it says nothing about the daemon's health.
        """
        self.step(Step.FAIL)
        self.faulty = not asked_for
        self.fault = type_
        self._metrics.errors.labels(type_).inc()
        self._append(error_event(self.id, type_, message, retryable=retryable))
        self.wake()

    def finish(self, summary: Event) -> None:
        """Append the *summary*, past every bound; when it is read, or nobody reads, the stream is closed."""
        self.status = summary["status"]
        self.step(Step.CLOSE)
        self._results, self._processor = self.results, None
        self._buffers.forget(self.room)
        self._append(summary)
        self.journal.seal()
        self.wake()
        if not self.subscribers:
            self._close()

    def stop(self, status: str) -> None:
        """End the stream early: what runs is cancelled, the summary says *status*."""
        if self._processor is not None and self.lifecycle.open:
            self.stopped = True
            self._processor.stop(status)

    async def join(self) -> None:
        """Wait until the processor has ended."""
        if self._processor is not None:
            await self._processor.join()

    def _append(self, event: Event) -> None:
        """Append a frame that is no result."""
        self.journal.append(event)
        self._appended(event["type"])

    def _appended(self, kind: str) -> None:
        self.journal.last_other = self.journal.last_seq
        self._others += (METADATA,) if kind == "metadata" else ((self.journal.last_other, kind),)
        if self.pacer.place is Place.NOBODY:
            self._keep_detached()

    # ── who waits for whom ───────────────────────────────────────────────────────────────

    def may_start(self, running: int, held_bytes: int = 0) -> bool:
        """Whether one more URL may be started.

        *running* are under way, or have a result that is held back and makes *held_bytes* with the others.
        """
        if not self.lifecycle.open or not self._has_room(running, held_bytes):
            return False
        if self._total_allows(running):
            if self.lifecycle.state is State.FLUSHING:
                self.step(Step.RESUME)
            return True
        if self.lifecycle.state is State.ACTIVE:
            self.step(Step.FLUSH)
        return False

    def may_append(self) -> bool:
        """Whether a result may be appended for which no URL was started."""
        return self._has_room(0, 0) and self._total_allows(0)

    def hold(self, count: int) -> None:
        """*count* bytes more (or less) are held back, outside of the journal."""
        self._buffers.total.add(count)

    def allowance(self) -> tuple[int, int]:
        """How many frames and bytes more the stream may be ahead of who it waits for."""
        holder = self.pacer.holder
        if holder is None:
            return self._bounds.detached, self._bounds.detached - self._unsent_bytes
        window = holder.buffer
        return window.capacity_frames - holder.unread_frames, window.capacity_bytes - holder.unread_bytes

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
        wake(self.subscribers)

    def _total_allows(self, running: int) -> bool:
        """Whether all journals together leave room; if not, the stream is woken when they do."""
        # A stream that holds nothing may always go on by one frame, so that streams cannot lock each other out.
        if self._buffers.has_room or (running == 0 and self._unread_frames == 0):
            return True
        self._buffers.wait(self.room)
        return False

    def _has_room(self, running: int, held_bytes: int) -> bool:
        holder = self.pacer.holder
        if holder is not None:
            # A place that was left has the room that its holder had; with nobody there nothing is started.
            if not self.subscribers:
                return False
            if self._on_slow != "block":  # no reader is waited for, but what is held back waits for its turn
                return held_bytes < self._bounds.ahead
            room = holder.has_room(running, held_bytes)
            holder.held_back |= not room
            return room
        if self.pacer.place is Place.UNCLAIMED:
            return False
        if self._on_slow == "drop":
            return held_bytes < self._bounds.detached
        full = self._unsent_bytes + held_bytes >= self._bounds.detached
        if full or not (self._buffers.has_room_unsent or self._unread_frames == 0):
            if not full:
                self._buffers.wait_unsent(self.room)
            if not self.waiting:
                self.waiting = True
                log.info("stream.waiting", **self.named, unsent_bytes=self._unsent_bytes)
            return False
        self.waiting = False
        return True

    @property
    def _unread_frames(self) -> int:
        """What is held for who is waited for."""
        holder = self.pacer.holder
        if self._is_unheld:
            return 0
        return holder.unread_frames if holder is not None else self.journal.last_seq + 1 - self._sent_before

    # ── what is kept ─────────────────────────────────────────────────────────────────────

    @property
    def behind_bytes(self) -> int:
        """Text that is kept only for those who come back."""
        return max(0, self._kept_from[1] - self.journal.ring.evicted_bytes)

    def let_go_behind(self, keep_bytes: int) -> None:
        """Keep *keep_bytes* of text behind who is waited for."""
        seq, offset = self._kept_from
        if seq > self.journal.ring.first:
            self.journal.trim(seq, offset - keep_bytes)

    @property
    def beyond_window_bytes(self) -> int:
        """Of its text, what is more than a window may hold."""
        ring = self.journal.ring
        return ring.appended_bytes - ring.evicted_bytes - self._bounds.ahead

    def let_go_beyond_window(self, keep_bytes: int) -> None:
        """Keep *keep_bytes* of that, whoever has still to read it."""
        journal = self.journal
        journal.trim(journal.last_seq, journal.ring.appended_bytes - self._bounds.ahead - keep_bytes)

    def forget(self) -> None:
        """Let go of all that a closed stream kept."""
        self.journal.close()

    @property
    def _kept_from(self) -> tuple[int, int]:
        """The first frame that must be kept, and its offset in the stream's text."""
        journal, holder = self.journal, self.pacer.holder
        if self.lifecycle.closed:
            # Nobody is waited for any more, but who is attached has still to read what it has not.
            ends = [(reader.next_seq, reader.offset) for reader in self.subscribers]
            return min(ends, default=(journal.last_seq + 1, journal.ring.appended_bytes))
        if self._is_unheld:
            ring, last = journal.ring, journal.last_seq
            return last, ring.appended_bytes - (ring.length(last) if ring.first <= last else 0)
        if holder is not None:
            return holder.next_seq, holder.offset
        return self._sent_before, self._sent_offset

    @property
    def _is_unheld(self) -> bool:
        """Whether the pacer's place was left, and holds nobody."""
        return self._on_slow != "block" and self.pacer.place is Place.LEFT

    @property
    def _unsent_bytes(self) -> int:
        return self.journal.ring.appended_bytes - self._sent_offset

    def _keep_detached(self) -> None:
        """A detached stream grew: over its bound the oldest go that were sent to somebody."""
        before, appended = self._counted_offset, self.journal.ring.appended_bytes
        self._buffers.hold_unsent(appended - before)
        self._counted_offset = appended
        ring = self.journal.ring
        if self._on_slow != "drop":
            self.journal.trim(self._sent_before, appended - self._bounds.detached)
            return
        # It waits for nobody: the oldest go, read or not, and where it may hold no more as many as came.
        most = self._bounds.detached if self._buffers.has_room_unsent else before - ring.evicted_bytes
        self.journal.trim(self.journal.last_seq, appended - most)
        if self._sent_before < ring.first:
            self._buffers.hold_unsent(self._sent_offset - ring.evicted_bytes)
            self._sent_before, self._sent_offset = ring.first, ring.evicted_bytes

    def _go_on(self) -> None:
        """A result came, and no reader is waited for: leave results out for one that is stuck, or cut it off."""
        holder = self.pacer.holder
        if self._is_unheld:
            self.let_go_behind(self._bounds.ahead + self._behind)
        elif holder is not None and holder.would_leave_out(self.now()):
            self._relieve(holder)

    def look_at_lag(self) -> None:
        """Told now and then: who is stuck since the last result came may lag too far as well."""
        holder = self.pacer.holder
        if holder is None or self._on_slow == "block" or self.pacer.place is not Place.HELD:
            return
        if holder.sink.paused and holder.unread_bytes > self._bounds.ahead:
            self._relieve(holder)

    def _relieve(self, holder: Subscriber) -> None:
        if self._on_slow == "drop":
            holder.leave_out()
            self._keep_for_holder()
        else:
            log.info("stream.slow_client", **self.named, unread_frames=holder.unread_frames)
            holder.sink.give_up()

    def _keep_for_holder(self) -> None:
        """Who has the place is another, or elsewhere: what is too far behind goes."""
        if self.pacer.place is Place.HELD and not self.lifecycle.closed:
            self.let_go_behind(self._behind)

    @property
    def _behind(self) -> int:
        """How much text is kept behind who has the place."""
        return min(self._bounds.behind, self._buffers.behind_limit)

    def kind_of(self, seq: int) -> str:
        """The type of the frame *seq*."""
        return next((kind for at, kind in self._others if at == seq), "result")

    def others_from(self, seq: int) -> int:
        """How many frames from *seq* on are no results."""
        return sum(at >= seq for at, _ in self._others)

    # ── readers ──────────────────────────────────────────────────────────────────────────

    @property
    def state(self) -> str:
        """Where it is in its life, for people."""
        return "waiting" if self.waiting and self.lifecycle.open else str(self.lifecycle.state)

    @property
    def complete(self) -> bool:
        """Whether the summary is appended."""
        return self.journal.sealed

    @property
    def read_to_end(self) -> bool:
        """Whether somebody was sent all frames of a detached stream."""
        return self._sent_before > self.journal.last_seq

    def attach(self, subscriber: Subscriber) -> None:
        """*subscriber* reads from now on."""
        self.subscribers.append(subscriber)
        self.readers += 1
        self.journal.shared = len(self.subscribers) > 1
        subscriber.waited_for = self._detached
        self.pacer.attached(subscriber)
        self._keep_for_holder()
        if self.protocol == "none":
            self.protocol = subscriber.encoder.protocol
        subscriber.counts.active += 1
        subscriber.counts.connections += 1
        if subscriber is not self.pacer.holder:  # who holds the place says so once it has the first frame
            self.room()

    def detach(self, subscriber: Subscriber) -> None:
        """*subscriber* is gone, or has read all."""
        if subscriber not in self.subscribers:
            return
        self.subscribers.remove(subscriber)
        subscriber.sink = _GONE
        now = self.now()
        self.pacer.left(subscriber, self.subscribers, now)
        self._keep_for_holder()
        protocol = subscriber.encoder.protocol
        subscriber.counts.active -= 1
        self.sent_frames += subscriber.sent_frames
        self.sent_bytes += subscriber.sent_bytes
        self.missed_frames += subscriber.missed_frames
        self._metrics.connection_duration.labels(protocol).observe(now - subscriber.attached_at)
        self.journal.shared = len(self.subscribers) > 1
        if self.subscribers:
            self.room()
        elif self.complete:
            self._close()

    def window_over(self) -> None:
        """Nobody came back to the pacer's place in time."""
        if self.pacer.window_over(self.subscribers):
            self._keep_for_holder()
            self.room()
        else:
            self.stop("cancelled")

    def read(self, subscriber: Subscriber, seq: int, end: int) -> None:
        """*subscriber*, who is waited for, took the frames *seq* to *end* (excluded): let go of what is far behind."""
        if not self._detached:
            self.journal.trim(end, subscriber.offset - min(self._bounds.behind, self._buffers.behind_limit))
        elif seq <= self._sent_before < end:
            if not self.lifecycle.closed:
                self._buffers.hold_unsent(self._sent_offset - subscriber.offset)
            self._sent_before, self._sent_offset = end, subscriber.offset

    def count_others(self, counts: ProtocolCounts, seq: int, end: int) -> None:
        """Of the frames *seq* to *end* (excluded), which were counted as results, some are none."""
        for at, kind in self._others:
            if seq <= at < end:
                counts.sent[kind] += 1
                counts.results -= 1

    def told(self, subscriber: Subscriber, kind: str) -> None:
        """*subscriber* was told one frame that is not from the journal."""
        subscriber.counts.sent[kind] += 1

    @property
    def results(self) -> tuple[int, int]:
        """How many URLs succeeded and failed so far."""
        return self._results if self._processor is None else self._processor.results

    # ── its end ──────────────────────────────────────────────────────────────────────────

    def _close(self) -> None:
        """Nobody reads it, for the first time since its summary or again."""
        self.pacer.holder = None
        on_closed, self._on_closed = self._on_closed, None
        if on_closed is None:
            return
        self.step(Step.DONE)
        self.closed_at = self.now()
        self.journal.pack()
        if self.pacer.place is Place.NOBODY:
            self._buffers.hold_unsent(-self._unsent_bytes)
        on_closed(self)


class _Gone:
    """The sink of a subscriber that left: it takes nothing."""

    paused = True

    def write(self, data: bytes) -> None:
        """Nobody reads *data*."""

    beat = write

    def ready(self) -> None:
        """Nobody is there."""

    def end(self) -> None:
        """It has ended already."""

    def give_up(self) -> None:
        """It is gone already."""


_GONE = _Gone()
