"""Runs a crawl's URLs side by side, each as soon as the stream has room for its result."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from fastmesh.errors import ApiError, TooManyErrors, bare
from fastmesh.events import PageResult, result_event, summary_event
from fastmesh.streaming.fill.outbox import Finished, Outbox
from fastmesh.streaming.fill.tally import Tally
from fastmesh.streaming.lifecycle import State, Step
from fastmesh.streaming.pipeline import StreamingPipeline
from fastmesh.telemetry.log import get_logger

log = get_logger()

T = TypeVar("T")
Prepare = Callable[[], Awaitable[Sequence[Any]]]


class Job(Protocol):
    """One URL that was started."""

    @property
    def index(self) -> int:
        """Its place in the input."""
        ...

    @property
    def repeats(self) -> Sequence[tuple[int, str, str | None]]:
        """Where the same URL stands again, whose result is this one's: index, URL and id."""
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

    @property
    def memory(self) -> int:
        """The bytes of all, those that were started among them; they stay until the stream ends."""
        ...

    def ready(self) -> bool:
        """Whether one of them may be started now.  After a no, its owner is woken when that changes."""
        ...

    @property
    def first(self) -> int:
        """The index that ``take`` would start, right after ``ready`` said yes."""
        ...

    def take(self) -> Job:
        """Start one, right after ``ready`` said yes."""
        ...

    def close(self) -> None:
        """None is started any more."""
        ...


MakeBacklog = Callable[[Sequence[Any], Callable[[], None]], Backlog]  # of the URLs, and what wakes the owner


class StreamProcessor:
    """URLs in, result frames out.

    It is handed *backlog*, which says what URL may be started next and runs it; anything
    that a job raises is a bug that fails the stream.  At most *concurrency* URLs are under way.
    Where the URLs are not known yet, *prepare* finds them; an ApiError that it raises fails the stream.
    With *in_order* results leave in the input's order, what is finished before its turn counts as unread;
    after *stop_after_errors* failed results the stream ends as failed.
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
        self._tally = Tally(len(urls))
        self._outbox = Outbox(in_order=in_order)
        self._held_bytes = 0  # of the outbox, as the stream was told
        self._input_bytes = 0  # of the URLs, likewise
        self._stop_after_errors = stop_after_errors
        self._failure: ApiError | None = None
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
            self._pipeline.step(Step.FLUSH)

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
        try:
            await self._work()
        except asyncio.CancelledError as error:
            bare(error)  # TaskGroup's frame holds it, and with it all that the stream was
            for finished in self._outbox.give_up():
                self._append(finished)
            raise

    async def _work(self) -> None:
        if self._prepare is not None:
            self._urls = await _uncancelled(self._prepare(), "what prepares a stream")
            self._tally = Tally(len(self._urls))
        self._backlog = backlog = self._make_backlog(self._urls, self._fill)
        self._input_bytes = backlog.memory
        self._pipeline.admission.count_held(self._input_bytes)
        async with asyncio.TaskGroup() as self._pages:
            while backlog.left:
                self._room.clear()
                self._send()
                self._fill()
                if backlog.left:
                    await self._room.wait()
            await self.flush()
            while self._running or self._outbox.frames:
                self._room.clear()
                self._send()
                if self._running or self._outbox.frames:
                    await self._room.wait()

    def _fill(self) -> None:
        """Start what may be started: there are places, a URL has its turn, and the stream has room for its result."""
        backlog, pages = self._backlog, self._pages
        if backlog is None or pages is None:
            return
        while self._running < self._concurrency and backlog.ready() and self._may_start(backlog.first):
            job = backlog.take()
            self._running += 1
            # A callback too: a task that is cancelled before its first step never enters its body.
            pages.create_task(self._one(job)).add_done_callback(lambda _, job=job: job.close())  # type: ignore[misc]
        if not backlog.left:
            self._room.set()

    async def _one(self, job: Job) -> None:
        try:
            # A TaskGroup takes no notice of a task that ends so, and the stream would wait for its result for ever.
            page = await _uncancelled(job.run(), "a page")
            after = len(job.repeats)
            self._outbox.put(job.index, page, shared=after > 0)
            for index, url, id_ in job.repeats:
                after -= 1
                again = replace(page, url=url, id=id_, duplicate_of=job.index)
                self._outbox.put(index, again, repeat=True, shared=after > 0)
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
        admission, outbox = self._pipeline.admission, self._outbox
        if admission.may_start(self._running + outbox.frames, outbox.bytes):
            return True
        # What is held waits for this one, so it does not hold this one up.
        return index == outbox.expected and admission.may_start(0)

    def _send(self) -> None:
        """Append what may leave the outbox.  A result goes past the window: its URL had room; repeats had none."""
        admission, outbox = self._pipeline.admission, self._outbox
        while (finished := outbox.next()) is not None and (not finished.repeat or admission.may_append()):
            self._append(outbox.pop())
        if outbox.memory != self._held_bytes:
            admission.count_held(outbox.memory - self._held_bytes)
            self._held_bytes = outbox.memory

    def _append(self, finished: Finished) -> None:
        tally, page = self._tally, finished.page
        succeeded = page.error is None
        # Counted once its frame is there: one that cannot be encoded fails the stream, and is no result.
        self._pipeline.append(
            result_event(
                self._pipeline.id, finished.index, page, tally.completed + 1, tally.total, tally.successful + succeeded
            )
        )
        tally.count(finished.index, succeeded, page.from_cache)
        self._pipeline.progress(tally.completed, tally.total, page.url)
        # What was held is handed out when a stream ends for another reason, and is none for itself then.
        if tally.failed == self._stop_after_errors and self._status == "completed":
            self._failure = TooManyErrors(f"{tally.failed} URLs failed, as many as may (options.stop_after_errors)")
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
        self._pipeline.admission.count_held(-self._held_bytes - self._input_bytes)
        if fault is not None:
            self._status = "failed"
            if isinstance(fault, ApiError):
                retryable, asked_for = fault.retryable, fault.asked_for
                self._pipeline.fail(fault.type, fault.message, retryable=retryable, asked_for=asked_for)
            else:
                log.error("stream.bug", **self._pipeline.named, exc_info=fault)
                self._pipeline.fail("internal_error", "the stream failed by a fault of the server")
            bare(fault)
        self.close()
        self._task = self._pages = None  # what ended them has a frame that has this


async def _uncancelled(doing: Awaitable[T], what: str) -> T:
    """Await *doing*, which is no cancellation when nobody cancelled: then it is a fault, of *what*."""
    try:
        return await doing
    except asyncio.CancelledError:
        if _is_cancelled():
            raise
        raise RuntimeError(f"{what} was cancelled by nobody") from None


def _is_cancelled() -> bool:
    """Whether somebody cancelled the task that runs.  Not a local of who asks: the error keeps his frame."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
