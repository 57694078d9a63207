"""A stream's results: held until they may leave, appended to the stream, counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import groupby
from typing import Final

from fastmesh.events import Event, PageResult, result_event, summary_event
from fastmesh.streaming.pipeline import StreamingPipeline
from fastmesh.streaming.ports import Job

FRAME_BYTES: Final = 512  # of a result's frame without its document, about


@dataclass(order=True, slots=True)
class Finished:
    """One result on its way into the journal; a *repeat* is one for which nothing was fetched.  Its *memory* is less
    than its *size* where one that leaves later has the very same document."""

    key: tuple[int, int]
    index: int = field(compare=False)
    page: PageResult = field(compare=False)
    repeat: bool = field(compare=False)
    size: int = field(compare=False)  # the bytes of its frame, about
    memory: int = field(compare=False)  # the bytes that are free once it has left


class Outbox:
    """Finished results, in the order in which they leave.

    With *in_order* that is the input's: a result leaves when all before it have.  Else they
    leave as they came, repeats after the others: repeats wait for room, and the others do not.
    """

    def __init__(self, *, in_order: bool) -> None:
        self.frames = 0
        self.bytes = 0  # of their frames, each with its document
        self.memory = 0  # bytes that are held: a document that several share counts once
        self.expected: int | None = 0 if in_order else None  # the index that leaves next
        self._came = 0
        self._held: list[Finished] = []

    def put(self, index: int, page: PageResult, *, repeat: bool = False, shared: bool = False) -> None:
        """The result of *index* is there; *shared*: another follows that leaves later and has the same document."""
        self._came += 1
        key = (repeat, self._came) if self.expected is None else (index, 0)
        size = FRAME_BYTES + (0 if page.document is None else len(page.document))
        finished = Finished(key, index, page, repeat, size, FRAME_BYTES if shared else size)
        heappush(self._held, finished)
        self.frames += 1
        self.bytes += finished.size
        self.memory += finished.memory

    def next(self) -> Finished | None:
        """The result that may leave now; None when there is none, or an earlier one is missing."""
        if not self._held or self.expected not in (None, self._held[0].index):
            return None
        return self._held[0]

    def pop(self) -> Finished:
        """Let go of the first, in order or not."""
        finished = heappop(self._held)
        self.frames -= 1
        self.bytes -= finished.size
        self.memory -= finished.memory
        if self.expected is not None:
            self.expected = finished.index + 1
        return finished

    def give_up(self) -> Iterator[Finished]:
        """No result comes any more: let go of all, and yield those that were fetched, in their order."""
        while self._held:
            finished = self.pop()
            if not finished.repeat:
                yield finished


class Tally:
    """Counts results; every index is counted once."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.successful = 0
        self.failed = 0
        self.from_cache = 0
        self._finished = bytearray(total)

    def expect(self, total: int) -> None:
        """The input has grown to *total* URLs."""
        self._finished.extend(bytes(total - self.total))
        self.total = total

    @property
    def completed(self) -> int:
        """How many URLs have a result."""
        return self.successful + self.failed

    def count(self, index: int, succeeded: bool, from_cache: bool = False) -> None:
        """URL *index* has its result."""
        self._finished[index] = 1
        self.from_cache += from_cache
        if succeeded:
            self.successful += 1
        else:
            self.failed += 1

    def unfinished(self) -> list[list[int]]:
        """The indexes without a result, as [first, last] ranges."""
        ranges = []
        for finished, run in groupby(range(self.total), self._finished.__getitem__):
            if not finished:
                indexes = list(run)
                ranges.append([indexes[0], indexes[-1]])
        return ranges


class Results:
    """Appends the results of *total* URLs to *pipeline*; with *in_order* in the input's order."""

    def __init__(self, pipeline: StreamingPipeline, total: int, *, in_order: bool) -> None:
        self.outbox = Outbox(in_order=in_order)
        self.tally = Tally(total)
        self._pipeline = pipeline
        self._held_bytes = 0  # of the outbox, as they are counted for the stream

    def put(self, job: Job, page: PageResult) -> None:
        """*job* has ended with *page*, which is also the result of its repeats."""
        after = len(job.repeats)
        self.outbox.put(job.index, page, shared=after > 0)
        for index, url, id_ in job.repeats:
            after -= 1
            again = replace(page, url=url, id=id_, duplicate_of=job.index)
            self.outbox.put(index, again, repeat=True, shared=after > 0)

    def send(self) -> None:
        """Append the results that may leave.  The window had room for their URLs; repeats had none, and wait for it."""
        admission, outbox = self._pipeline.admission, self.outbox
        while (finished := outbox.next()) is not None and (not finished.repeat or admission.may_append()):
            self._append(outbox.pop())
        if outbox.memory != self._held_bytes:
            admission.count_held(outbox.memory - self._held_bytes)
            self._held_bytes = outbox.memory

    def send_fetched(self) -> None:
        """No result comes any more: append those that were fetched, also where an earlier one is missing."""
        for finished in self.outbox.give_up():
            self._append(finished)

    def close(self, status: str) -> Event:
        """Hold nothing any more; return the summary, which says *status*."""
        self._pipeline.admission.count_held(-self._held_bytes)
        tally, pipeline = self.tally, self._pipeline
        counts = tally.total, tally.successful, tally.failed, tally.unfinished(), tally.from_cache
        return summary_event(pipeline.id, status, *counts, (pipeline.now() - pipeline.opened_at) * 1000)

    def _append(self, finished: Finished) -> None:
        tally, page = self.tally, finished.page
        succeeded = page.error is None
        # Counted once its frame is there: one that cannot be encoded fails the stream, and is no result.
        self._pipeline.append(
            result_event(
                self._pipeline.id, finished.index, page, tally.completed + 1, tally.total, tally.successful + succeeded
            )
        )
        tally.count(finished.index, succeeded, page.from_cache)
        self._pipeline.progress(tally.completed, tally.total, page.url)
