"""Runs a crawl's URLs side by side, each as soon as the stream has room for its result."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from fastmesh.errors import ApiError, TooManyErrors, bare
from fastmesh.streaming.fill.results import Results
from fastmesh.streaming.lifecycle import State, Step
from fastmesh.streaming.pipeline import StreamingPipeline
from fastmesh.streaming.ports import Backlog, Job, MakeBacklog
from fastmesh.telemetry.log import get_logger

log = get_logger()

T = TypeVar("T")
Prepare = Callable[[], Awaitable[Sequence[Any]]]


class StreamProcessor:
    """URLs in, result frames out.

    The *backlog* says which URL may be started next and runs it; anything that a job raises is a bug that fails the
    stream.  At most *concurrency* URLs are under way.  Where the URLs are not known yet, *prepare* finds them; an
    ApiError that it raises fails the stream.  With *in_order* results leave in the input's order, and one that is
    finished before its turn counts as unread; after *stop_after_errors* failed results the stream ends as failed.
    """

    def __init__(
        self,
        pipeline: StreamingPipeline,
        backlog: MakeBacklog,
        concurrency: int,
        *,
        urls: Sequence[Any] = (),
        prepare: Prepare | None = None,
        in_order: bool = False,
        stop_after_errors: int | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._make_backlog = backlog
        self._backlog: Backlog | None = None
        self._concurrency = concurrency
        self._urls = urls
        self._prepare = prepare
        self._results = Results(pipeline, len(urls), in_order=in_order)
        self._input_bytes = 0  # of the URLs, as they are counted for the stream
        self._most_errors = stop_after_errors or sys.maxsize
        self._failure: ApiError | None = None
        self._running = 0
        self._room = asyncio.Event()
        self._status = "completed"
        self._task: asyncio.Task[None] | None = None
        self._pages: asyncio.TaskGroup | None = None

    @property
    def results(self) -> tuple[int, int]:
        return self._results.tally.successful, self._results.tally.failed

    def start(self) -> None:
        """Begin with the first URLs."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        # A callback and no try/finally: a task that is cancelled before its first step never enters its body.
        self._task.add_done_callback(self._ended)

    def room(self) -> None:
        self._room.set()

    def stop(self, status: str) -> None:
        """Cancel the URLs under way; the summary says *status*."""
        if self._task is not None and not self._task.done() and self._status == "completed":
            self._status = status
            self._start_no_more()
            self._task.cancel()

    async def join(self) -> None:
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            await self._work()
        except asyncio.CancelledError as error:
            bare(error)  # TaskGroup's frame holds it, and with it the whole stream
            self._results.send_fetched()
            raise

    async def _work(self) -> None:
        if self._prepare is not None:
            self._urls = await _uncancelled(self._prepare(), "what prepares a stream")
        self._backlog = backlog = self._make_backlog(self._woken)
        backlog.add(self._urls)
        backlog.end_of_input()
        async with asyncio.TaskGroup() as self._pages:
            while not _is_through(backlog):
                self._room.clear()
                self._send()
                self._fill()
                if not _is_through(backlog):
                    await self._room.wait()
            if self._pipeline.lifecycle.state is State.ACTIVE:
                self._pipeline.step(Step.FLUSH)
            outbox = self._results.outbox
            while self._running or outbox.frames:
                self._room.clear()
                self._send()
                if self._running or outbox.frames:
                    await self._room.wait()

    def _woken(self) -> None:
        """A URL of the backlog has its turn, or the input has grown or ended."""
        backlog = self._backlog
        if backlog is None:
            return
        if backlog.total != self._results.tally.total:
            self._results.tally.expect(backlog.total)
        if backlog.memory != self._input_bytes:
            self._pipeline.admission.count_held(backlog.memory - self._input_bytes)
            self._input_bytes = backlog.memory
        self._fill()

    def _fill(self) -> None:
        """Start URLs as long as there are places, one has its turn, and the stream has room for its result."""
        backlog, pages = self._backlog, self._pages
        if backlog is None or pages is None:
            return
        while self._running < self._concurrency and backlog.ready() and self._may_start(backlog.first):
            job = backlog.take()
            self._running += 1
            # A callback too: a task that is cancelled before its first step never enters its body.
            pages.create_task(self._one(job)).add_done_callback(lambda _, job=job: job.close())  # type: ignore[misc]
        if _is_through(backlog):
            self._room.set()

    async def _one(self, job: Job) -> None:
        try:
            # A TaskGroup takes no notice of a task that was cancelled: the stream would wait for its result for ever.
            self._results.put(job, await _uncancelled(job.run(), "a page"))
            self._send()
        except BaseException:
            self._start_no_more()  # the group ends, and takes no further task
            raise
        finally:
            job.close()
        self._running -= 1
        self._room.set()

    def _may_start(self, index: int) -> bool:
        """Whether the stream has room for the result of *index*, which may be started."""
        admission, outbox = self._pipeline.admission, self._results.outbox
        if admission.may_start(self._running + outbox.frames, outbox.bytes):
            return True
        # The results that are held wait for this one, so they do not hold it up.
        return index == outbox.expected and admission.may_start(0)

    def _send(self) -> None:
        self._results.send()
        if self._results.tally.failed >= self._most_errors and self._status == "completed":
            why = f"{self._most_errors} URLs failed, as many as may (options.stop_after_errors)"
            self._failure = TooManyErrors(why)
            self.stop("failed")

    def _start_no_more(self) -> None:
        if self._backlog is not None:
            self._backlog.close()
            self._backlog = None

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._start_no_more()
        fault = self._failure if task.cancelled() else task.exception()
        if task.cancelled() and self._status == "completed":
            fault = RuntimeError("a stream was cancelled by nobody")
        self._pipeline.admission.count_held(-self._input_bytes)
        if fault is not None:
            self._status = "failed"
            if isinstance(fault, ApiError):
                retryable, asked_for = fault.retryable, fault.asked_for
                self._pipeline.fail(fault.type, fault.message, retryable=retryable, asked_for=asked_for)
            else:
                log.error("stream.bug", **self._pipeline.named, exc_info=fault)
                self._pipeline.fail("internal_error", "the stream failed by a fault of the server")
            bare(fault)
        self._pipeline.finish(self._results.close(self._status))
        self._task = self._pages = None  # the error that ended them has a frame that has this


def _is_through(backlog: Backlog) -> bool:
    """Whether all URLs are started, and none will be added."""
    return not backlog.left and backlog.ended


async def _uncancelled(doing: Awaitable[T], what: str) -> T:
    """Await *doing*; a CancelledError of its own, when nobody cancelled this task, is a fault of *what*."""
    try:
        return await doing
    except asyncio.CancelledError:
        if _is_cancelled():
            raise
        raise RuntimeError(f"{what} was cancelled by nobody") from None


def _is_cancelled() -> bool:
    """Whether somebody cancelled the task that runs.  The task is no local of the caller: the error keeps its frame."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
