"""Stand-ins for what a stream talks to: a sink that records, pages that end when told, a clock that is turned."""

from __future__ import annotations

import asyncio
import functools
import json
import math
import selectors
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastmesh._core import BackpressureHandler, Journal, MemoryTotal, Reader, SentCounts
from fastmesh.errors import FetchTimeout
from fastmesh.events import PageResult
from fastmesh.streaming.subscriber import Subscriber

Execute = Callable[[str], Coroutine[Any, Any, PageResult]]


@dataclass
class RecordingSink:
    """Takes what it is served, when the test says so."""

    paused: bool = False
    written: list[bytes] = field(default_factory=list)
    woken: int = 0
    ended: bool = False
    gave_up: bool = False
    subscriber: Subscriber | None = None

    def write(self, data: bytes) -> None:
        """Keep *data*."""
        self.written.append(data)

    def ready(self) -> None:
        """Count that there is something."""
        self.woken += 1

    def end(self) -> None:
        """The stream is over."""
        self.ended = True
        assert self.subscriber is not None
        self.subscriber.pipeline.detach(self.subscriber)

    beat = write

    def give_up(self) -> None:
        """It was too slow: the connection is closed."""
        self.gave_up = True
        self.leave()

    def leave(self) -> None:
        """The connection is gone."""
        assert self.subscriber is not None
        self.subscriber.pipeline.detach(self.subscriber)

    def abandon(self) -> None:
        """Leave, and come back no more: the resume window passes."""
        self.leave()
        assert self.subscriber is not None
        if self.subscriber.pipeline.pacer.vacant:
            self.subscriber.pipeline.window_over()

    def read(self, max_bytes: int = 1 << 30) -> None:
        """Be served once."""
        assert self.subscriber is not None
        if not self.ended:
            self.subscriber.serve(max_bytes)

    @property
    def frames(self) -> list[dict[str, Any]]:
        """All frames so far."""
        return [json.loads(line) for line in b"".join(self.written).splitlines()]


def reader_of(handler: BackpressureHandler) -> Reader:
    """One that *handler* judges, of an empty journal; it is never served."""
    journal = Journal(MemoryTotal(1 << 40, Soon(), lambda: None), lambda: 0.0, b"id")
    nobody: Any = None
    return Reader(nobody, journal, nobody, handler, nobody, SentCounts((1.0,)), None, None)


class Soon:
    """A loop's call_soon whose turn comes when the test says so."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []

    def __call__(self, callback: Callable[[], object]) -> None:
        """Keep *callback* for the turn."""
        self.calls.append(callback)

    def turn(self) -> None:
        """Call what was kept up to now."""
        calls, self.calls = self.calls, []
        for callback in calls:
            callback()


class InOrder:
    """A backlog whose URLs may be started at any time, in the input's order.  One that is *open_* may grow."""

    def __init__(self, execute: Execute, wake: Callable[[], None], *, open_: bool = False) -> None:
        self._execute = execute
        self._urls: list[str] = []
        self._wake = wake
        self._open = open_
        self._url_bytes = 100 if open_ else 0
        self._next = self.left = self.total = self.memory = 0
        self.ended = False

    def add(self, urls: Sequence[str]) -> None:
        """The input has grown."""
        self._urls += urls
        self.left += len(urls)
        self.total += len(urls)
        self.memory += self._url_bytes * len(urls)
        self._wake()

    def end_of_input(self) -> None:
        """It grows no more.  An open one is told so twice: by the processor, and then by the test."""
        self.ended, self._open = not self._open, False
        self._wake()

    def ready(self) -> bool:
        """Whether one is left."""
        return self.left > 0

    @property
    def first(self) -> int:
        """The index of the next one."""
        return self._next

    def take(self) -> InOrderJob:
        """The next one."""
        job = InOrderJob(self._next, functools.partial(self._execute, self._urls[self._next]))
        self._next += 1
        self.left -= 1
        return job

    def close(self) -> None:
        """None is left."""
        self.left = 0


@dataclass
class InOrderJob:
    """One URL of these."""

    index: int
    run: Callable[[], Coroutine[Any, Any, PageResult]]
    repeats: Sequence[tuple[int, str, str | None]] = ()

    def close(self) -> None:
        """It holds nothing."""


def in_order(execute: Execute) -> Callable[[Callable[[], None]], InOrder]:
    """What a StreamProcessor makes its backlog with, to have *execute* called for every URL."""
    return functools.partial(InOrder, execute)


class Pages:
    """An execute() whose pages end one by one, as the test says."""

    def __init__(self) -> None:
        self.running: dict[str, asyncio.Future[PageResult]] = {}
        self.started: list[str] = []
        self.most = 0

    async def execute(self, url: str) -> PageResult:
        """What the processor awaits."""
        self.started.append(url)
        self.running[url] = asyncio.get_running_loop().create_future()
        self.most = max(self.most, len(self.running))
        try:
            return await self.running[url]
        finally:
            del self.running[url]

    def finish(self, url: str, *, text: str = "", fails: bool = False) -> None:
        """End *url* with a document of *text*, or with an error."""
        page = PageResult(url=url, document=json.dumps({"text": text}).encode())
        if fails:
            page.document, page.error = None, FetchTimeout("too slow")
        self.running[url].set_result(page)

    def crash(self, url: str, error: Exception) -> None:
        """End *url* with what no execute should raise."""
        self.running[url].set_exception(error)


async def settle(until: Callable[[], bool] = lambda: False, turns: int = 20) -> None:
    """Let the loop run until nothing more can happen without the test's doing."""
    for _ in range(turns):
        if until():
            return
        await asyncio.sleep(0)


class TurnedLoop(asyncio.SelectorEventLoop):
    """A loop with a clock of its own.

    It stands still while anything is ready and jumps to the next timer when nothing is,
    so ``asyncio.sleep(3600)`` takes no time.  A test that would wait for ever fails at once.
    """

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Jump(self))

    def time(self) -> float:
        """Seconds, as turned."""
        return self.now


class _Jump(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    """Turns the loop's clock where a selector would wait."""

    def __init__(self, loop: TurnedLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready now."""
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("nothing is left to happen, and the test still waits")
        if not ready and timeout is not None and timeout > 0:
            # Beside a large clock the smallest step is none.
            self._loop.now = max(self._loop.now + timeout, math.nextafter(self._loop.now, math.inf))
        return ready


def turned(test: Coroutine[Any, Any, None]) -> None:
    """Run *test* on a TurnedLoop."""
    with asyncio.Runner(loop_factory=TurnedLoop) as runner:
        runner.run(test)
