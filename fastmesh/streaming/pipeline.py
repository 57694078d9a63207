"""One stream: its identity, its life, and the parts that it wires.  Its journal keeps the frames, a Processor fills it,
its Audience reads it; its Retention says what is kept for whom, and its Admission whether it may go on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from fastmesh._core import wake
from fastmesh.events import Event, error_event, metadata_event, progress_event
from fastmesh.streaming.admission import Admission
from fastmesh.streaming.audience import Audience
from fastmesh.streaming.lifecycle import Lifecycle, Step
from fastmesh.streaming.memory import BufferManager
from fastmesh.streaming.pacer import PacerPlace
from fastmesh.streaming.ports import JournalBounds, Loading, Opening, Processor, Store
from fastmesh.streaming.retention import CuttingOff, Detached, DetachedDropping, Dropping, Paced, Retention
from fastmesh.streaming.subscriber import Subscriber
from fastmesh.telemetry.log import get_logger
from fastmesh.telemetry.metrics import Metrics

log = get_logger()

METADATA: Final = (1, "metadata")
PROGRESS_EVERY: Final = 5  # URLs
SHORT: Final = 10
# By whether it is detached, and what a slow reader in the pacer's place means.
MODES: Final[dict[tuple[bool, str], type[Retention]]] = {
    (False, "block"): Paced,
    (False, "drop"): Dropping,
    (False, "disconnect"): CuttingOff,
    (True, "block"): Detached,
    (True, "drop"): DetachedDropping,
}


class StreamingPipeline:
    """A stream from its metadata frame to its summary.

    With the summary a stream lets go of its processor.  A closed one has its journal and some figures, and no reader:
    there are far more closed streams than open ones, and nothing may wait for the collector of cycles.
    """

    __slots__ = (
        *("__weakref__", "_metrics", "_on_closed", "_processor", "_results", "_store"),
        *("admission", "audience", "closed_at", "cut_off", "fault", "faulty", "id", "journal", "lifecycle", "now"),
        *("opened_at", "opened_wall", "opening", "others", "pacer", "retention", "status", "stopped"),
    )

    def __init__(
        self,
        stream_id: str,
        opening: Opening,
        bounds: JournalBounds,
        buffers: BufferManager,
        store: Store,
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
        self.journal = journal = store.open(stream_id)
        self.others: tuple[tuple[int, str], ...] = ()  # the frames that are no results: seq and type
        self.lifecycle = Lifecycle()
        self.pacer: PacerPlace[Subscriber] = PacerPlace(self.opened_at, detached=opening.detached)
        self.audience = Audience()
        mode = MODES[opening.detached, opening.on_slow]
        self.retention = mode(journal, self.pacer, self.audience.attached, bounds, buffers)
        self.status = ""  # the summary's, once there is one
        self.faulty = False  # failed, and not as its request asked for
        self.fault: str | None = None  # the type of its error frame
        self.cut_off: str | None = None  # why a reader was cut off that does not know it yet
        self.stopped = False  # asked to end early: the summary is under way
        self._store = store
        self._metrics = metrics
        self._on_closed: Callable[[StreamingPipeline], None] | None = on_closed  # until it is
        self._processor: Processor | None = None  # from its start to its summary
        self._results = (0, 0)  # since its summary

    @property
    def named(self) -> dict[str, str]:
        opening = self.opening
        return {"stream_id": self.id, "request_id": opening.request_id, "trace_id": opening.trace.trace_id}

    @property
    def state(self) -> str:
        lifecycle = self.lifecycle
        return "waiting" if lifecycle.open and self.admission.waiting else str(lifecycle.state)

    @property
    def complete(self) -> bool:
        """Whether the summary is appended."""
        return self.journal.sealed

    @property
    def results(self) -> tuple[int, int]:
        """How many URLs succeeded and failed so far."""
        return self._results if self._processor is None else self._processor.results

    # ── its life ─────────────────────────────────────────────────────────────────────────

    def start(self, processor: Processor) -> None:
        """Append the metadata and let *processor* begin."""
        opening = self.opening
        self._processor = processor
        self.admission = Admission(self, self.retention)  # until the summary
        self.journal.begin(metadata_event(self.id, opening.request_id, opening.stream_type, opening.total_urls))
        self._is_other("metadata")
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
        if (slow := self.retention.appended(result=True)) is not None:
            self._cut_off(slow)

    def append_search(self, event: Event) -> None:
        """Append what a search found."""
        self._append_other(event)

    def progress(self, completed: int, total: int, item: str) -> None:
        """Publish how far it is to readers that have read all, each fifth *item*; a short stream's results say it."""
        opening = self.opening
        if opening.progress and total > SHORT and completed % PROGRESS_EVERY == 0:
            self.journal.publish(
                progress_event(self.id, opening.stream_type, self.opened_wall, self.state, completed, total, item)
            )

    def fail(self, type_: str, message: str, *, retryable: bool = False, asked_for: bool = False) -> None:
        """It failed as a whole: an error frame, and a summary follows.  One *asked_for* is not the daemon's fault."""
        self.step(Step.FAIL)
        self.faulty = not asked_for
        self.fault = type_
        self._metrics.errors.labels(type_).inc()
        self._append_other(error_event(self.id, type_, message, retryable=retryable))

    def finish(self, summary: Event) -> None:
        """Append the *summary*, past every bound; when it is read, or nobody reads, the stream is closed."""
        self.status = summary["status"]
        self.step(Step.CLOSE)
        self._results, self._processor = self.results, None
        self.admission.close()
        del self.admission  # it has the stream
        self._append_other(summary, last=True)
        if not self.audience.attached:
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

    def _append_other(self, event: Event, *, last: bool = False) -> None:
        """Append a frame that is no result, and let readers know."""
        self.journal.append(event)
        self._is_other(event["type"])
        if last:
            self.journal.seal()
        self.wake()

    def _is_other(self, kind: str) -> None:
        """The newest frame is no result: it is of the type *kind*."""
        seq = self.journal.last_other = self.journal.last_seq
        self.others += (METADATA,) if kind == "metadata" else ((seq, kind),)
        self.retention.appended(result=False)

    def _close(self) -> None:
        """Nobody reads it, for the first time since its summary or again."""
        self.pacer.holder = None
        on_closed, self._on_closed = self._on_closed, None
        if on_closed is None:
            return
        self.step(Step.DONE)
        self.closed_at = self.now()
        self.journal.pack()
        self.retention.close()
        on_closed(self)

    def forget(self) -> None:
        """Let go of all that a closed stream kept."""
        self._store.forget(self.journal)

    # ── its readers ──────────────────────────────────────────────────────────────────────

    def wake(self) -> None:
        """There is something to read."""
        wake(self.audience.attached)

    def room(self) -> None:
        """Something was read, here or elsewhere: the processor may look again."""
        if self._processor is not None and self.lifecycle.open:
            self._processor.room()

    def attach(self, subscriber: Subscriber) -> None:
        """*subscriber* reads from now on."""
        self.audience.attach(subscriber)
        self.pacer.attached(subscriber)
        self._regroup()
        if subscriber is not self.pacer.holder:  # the reader in the place makes room by reading the first frame
            self.room()

    def detach(self, reader: Subscriber) -> None:
        if not self.audience.detach(reader):
            return
        now = self.now()
        self._metrics.connection_duration.labels(reader.encoder.protocol).observe(now - reader.attached_at)
        self.pacer.left(reader, self.audience.attached, now)
        self._regroup()
        if self.audience.attached:
            self.room()
        elif self.complete:
            self._close()

    def window_over(self) -> None:
        """Nobody came back to the pacer's place in time."""
        if self.pacer.window_over(self.audience.attached):
            self.retention.moved()
            self.room()
        else:
            self.stop("cancelled")

    def look_at_lag(self) -> None:
        """Asked now and then: a reader that is stuck since the last result came may lag too far as well."""
        if (slow := self.retention.look_at_lag()) is not None:
            self._cut_off(slow)

    def read(self, seq: int, end: int, offset: int) -> None:
        self.retention.read(seq, end, offset)

    def load(self, seq: int) -> Loading | None:
        return self._store.read(self.journal, seq)

    def _regroup(self) -> None:
        """A reader came or left."""
        self.journal.shared = len(self.audience.attached) > 1
        self.retention.moved()

    def _cut_off(self, reader: Subscriber) -> None:
        log.info("stream.slow_client", **self.named, unread_frames=reader.unread_frames)
        reader.sink.give_up()
