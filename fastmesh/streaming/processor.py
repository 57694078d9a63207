"""Runs a crawl's URLs side by side, each as soon as the stream has room for its result."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from fastmesh.errors import ApiError
from fastmesh.events import PageResult, result_event, summary_event
from fastmesh.log import get_logger
from fastmesh.streaming.lifecycle import State, Step
from fastmesh.streaming.pipeline import StreamingPipeline
from fastmesh.streaming.tally import Tally

log = get_logger()

Execute = Callable[[str], Awaitable[PageResult]]
Prepare = Callable[[], Awaitable[Sequence[str]]]


class StreamProcessor:
    """URLs in, result frames out.

    It is handed *execute*, which fetches and extracts one URL and does not
    raise: a failed page is a result, and anything that does raise is a bug that
    fails the stream.  At most *concurrency* URLs are under way.  Where the URLs
    are not known yet, *prepare* finds them; an ApiError that it raises fails the stream.
    """

    def __init__(
        self,
        pipeline: StreamingPipeline,
        execute: Execute,
        concurrency: int,
        *,
        urls: Sequence[str] = (),
        prepare: Prepare | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._execute = execute
        self._concurrency = concurrency
        self._urls = urls
        self._prepare = prepare
        self._tally = Tally(len(urls))
        self._running = 0
        self._room = asyncio.Event()
        self._status = "completed"
        self._task: asyncio.Task[None] | None = None

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
                pipeline.id, self._status, tally.total, tally.successful, tally.failed, tally.unfinished(), took_ms
            )
        )

    async def _run(self) -> None:
        if self._prepare is not None:
            self._urls = await self._prepare()
            self._tally = Tally(len(self._urls))
        async with asyncio.TaskGroup() as tasks:
            for index, url in enumerate(self._urls):
                while not (self._running < self._concurrency and self._pipeline.may_start(self._running)):
                    self._room.clear()
                    await self._room.wait()
                self._running += 1
                tasks.create_task(self._one(index, url))
            await self.flush()

    async def _one(self, index: int, url: str) -> None:
        page = await self._fetched(url)
        tally, succeeded = self._tally, page.error is None
        # Counted once its frame is there: one that cannot be encoded fails the stream, and is no result.
        self._pipeline.append(
            result_event(self._pipeline.id, index, page, tally.completed + 1, tally.total, tally.successful + succeeded)
        )
        tally.count(index, succeeded)
        self._running -= 1
        self._room.set()

    async def _fetched(self, url: str) -> PageResult:
        try:
            return await self._execute(url)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # A TaskGroup takes no notice of a task that ends so, and the stream would wait for its result for ever.
            raise RuntimeError("a page was cancelled by nobody") from None

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._status = "failed"
            if isinstance(fault, ApiError):
                self._pipeline.fail(fault.type, fault.message, retryable=fault.retryable)
            else:
                log.error("stream.bug", stream_id=self._pipeline.id, exc_info=fault)
                self._pipeline.fail("internal_error", "the stream failed by a fault of the server")
        self.close()
