"""Runs a crawl's URLs side by side, each as soon as the stream has room for its result."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol

from fastmesh.errors import ApiError
from fastmesh.events import PageResult, result_event, summary_event
from fastmesh.log import get_logger
from fastmesh.streaming.lifecycle import State, Step
from fastmesh.streaming.pipeline import StreamingPipeline
from fastmesh.streaming.tally import Tally

log = get_logger()

Prepare = Callable[[], Awaitable[Sequence[str]]]


class Job(Protocol):
    """One URL that was started."""

    @property
    def index(self) -> int:
        """Its place in the input."""
        ...

    def run(self) -> Coroutine[Any, Any, PageResult]:
        """Fetch and extract it.  It does not raise: a failed page is a result."""
        ...

    def close(self) -> None:
        """It has ended, or never began: it holds nothing any more.  Once or more."""
        ...


class Backlog(Protocol):
    """The URLs that are not started yet."""

    @property
    def left(self) -> int:
        """How many these are."""
        ...

    def ready(self) -> bool:
        """Whether one of them may be started now.  After a no, its owner is woken when that changes."""
        ...

    def take(self) -> Job:
        """Start one, right after ``ready`` said yes."""
        ...

    def close(self) -> None:
        """None is started any more."""
        ...


MakeBacklog = Callable[[Sequence[str], Callable[[], None]], Backlog]  # of the URLs, and what wakes the owner


class StreamProcessor:
    """URLs in, result frames out.

    It is handed *backlog*, which says what URL may be started next and runs it; anything
    that a job raises is a bug that fails the stream.  At most *concurrency* URLs are under way.
    Where the URLs are not known yet, *prepare* finds them; an ApiError that it raises fails the stream.
    """

    def __init__(
        self,
        pipeline: StreamingPipeline,
        backlog: MakeBacklog,
        concurrency: int,
        *,
        urls: Sequence[str] = (),
        prepare: Prepare | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._make_backlog = backlog
        self._backlog: Backlog | None = None
        self._concurrency = concurrency
        self._urls = urls
        self._prepare = prepare
        self._tally = Tally(len(urls))
        self._running = 0
        self._room = asyncio.Event()
        self._status = "completed"
        self._task: asyncio.Task[None] | None = None
        self._pages: asyncio.TaskGroup | None = None

    @property
    def results(self) -> tuple[int, int]:
        """How many URLs succeeded and failed so far."""
        return self._tally.successful, self._tally.failed

    def start(self) -> None:
        """Begin with the first URLs."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        # A callback and no try/finally: a task that is cancelled before its first step never enters its body.
        self._task.add_done_callback(self._ended)

    def room(self) -> None:
        """The stream may have room for another URL."""
        self._room.set()

    def stop(self, status: str) -> None:
        """Cancel what runs; the summary says *status*."""
        if self._task is not None and not self._task.done() and self._status == "completed":
            self._status = status
            self._start_no_more()
            self._task.cancel()

    async def flush(self) -> None:
        """No further URL is started; the running ones give their results."""
        if self._pipeline.lifecycle.state is State.ACTIVE:
            self._pipeline.lifecycle.step(Step.FLUSH)

    async def join(self) -> None:
        """Wait until every URL's task has ended."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def close(self) -> None:
        """Append the summary."""
        tally, pipeline = self._tally, self._pipeline
        took_ms = (pipeline.now() - pipeline.opened_at) * 1000
        pipeline.finish(
            summary_event(
                pipeline.id,
                self._status,
                tally.total,
                tally.successful,
                tally.failed,
                tally.unfinished(),
                tally.from_cache,
                took_ms,
            )
        )

    async def _run(self) -> None:
        if self._prepare is not None:
            self._urls = await self._prepare()
            self._tally = Tally(len(self._urls))
        self._backlog = backlog = self._make_backlog(self._urls, self._fill)
        async with asyncio.TaskGroup() as self._pages:
            while backlog.left:
                self._room.clear()
                self._fill()
                if backlog.left:
                    await self._room.wait()
            await self.flush()

    def _fill(self) -> None:
        """Start what may be started: there are places, a URL has its turn, and the stream has room for its result."""
        backlog, pages = self._backlog, self._pages
        if backlog is None or pages is None:
            return
        while self._running < self._concurrency and backlog.ready() and self._pipeline.may_start(self._running):
            job = backlog.take()
            self._running += 1
            # A callback too: a task that is cancelled before its first step never enters its body.
            pages.create_task(self._one(job)).add_done_callback(lambda _, job=job: job.close())  # type: ignore[misc]
        if not backlog.left:
            self._room.set()

    async def _one(self, job: Job) -> None:
        try:
            page = await self._fetched(job)
            tally, succeeded = self._tally, page.error is None
            # Counted once its frame is there: one that cannot be encoded fails the stream, and is no result.
            self._pipeline.append(
                result_event(
                    self._pipeline.id, job.index, page, tally.completed + 1, tally.total, tally.successful + succeeded
                )
            )
            tally.count(job.index, succeeded, page.from_cache)
        except BaseException:
            self._start_no_more()  # the group ends, and takes no further task
            raise
        finally:
            job.close()
        self._running -= 1
        self._room.set()

    async def _fetched(self, job: Job) -> PageResult:
        try:
            return await job.run()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # A TaskGroup takes no notice of a task that ends so, and the stream would wait for its result for ever.
            raise RuntimeError("a page was cancelled by nobody") from None

    def _start_no_more(self) -> None:
        if self._backlog is not None:
            self._backlog.close()
            self._backlog = None

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._start_no_more()
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._status = "failed"
            if isinstance(fault, ApiError):
                self._pipeline.fail(fault.type, fault.message, retryable=fault.retryable)
            else:
                log.error("stream.bug", stream_id=self._pipeline.id, exc_info=fault)
                self._pipeline.fail("internal_error", "the stream failed by a fault of the server")
        self.close()
