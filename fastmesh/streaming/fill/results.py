"""A stream's results: held until they may leave, appended to the stream, counted."""

from __future__ import annotations

from dataclasses import replace

from fastmesh.events import Event, PageResult, result_event, summary_event
from fastmesh.streaming.fill.backlog import Job
from fastmesh.streaming.fill.outbox import Finished, Outbox
from fastmesh.streaming.fill.tally import Tally
from fastmesh.streaming.pipeline import StreamingPipeline


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
