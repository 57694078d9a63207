"""A loop in a thread of its own, which other threads ask to work and wait for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

CLOSE_TIMEOUT_S: Final = 10.0  # a program's end is not held longer than this


class LoopThread:
    """A loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fastmesh-client", daemon=True)
        self._thread.start()

    def call(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What the work of *make* returns or raises; when the wait is interrupted, it is cancelled."""
        if self._loop.is_closed():
            raise RuntimeError("the client is closed")
        if threading.current_thread() is self._thread:
            raise RuntimeError("called from the client's own thread")
        work = _Work(self._loop, make)
        try:
            self._loop.call_soon_threadsafe(work.start)
            return work.done.result()
        except BaseException:
            with suppress(RuntimeError):  # the loop was closed meanwhile, and has cancelled all that ran
                self._loop.call_soon_threadsafe(work.stop)
            raise

    def leave(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do the work of *close*, and wait for it unless it is this thread that asks."""
        with suppress(RuntimeError):  # the loop is closed, and with it what was to be closed
            self._last(close)

    def end(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do the work of *last*, then end the thread."""
        work = self._last(last)
        if threading.current_thread() is self._thread:  # a collection of garbage that runs here
            work.done.add_done_callback(lambda _: self._loop.stop())
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_TIMEOUT_S)

    def _last(self, make: Callable[[], Coroutine[Any, Any, None]]) -> _Work[None]:
        work = _Work(self._loop, make)
        self._loop.call_soon_threadsafe(work.start)
        if threading.current_thread() is not self._thread:
            with suppress(TimeoutError):
                work.done.result(CLOSE_TIMEOUT_S)
        return work

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            # The runner cancels what is left and closes the loop, when stop() ends it.
            runner.get_loop().run_forever()


class _Work(Generic[T]):
    """A task of the loop's thread that another one waits for.  Its coroutine is made where it runs.  An interrupt may
    come at any place of the waiting thread, and between making and scheduling it would leave one that never runs."""

    def __init__(self, loop: asyncio.AbstractEventLoop, make: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self.done: Future[T] = Future()
        self._loop = loop
        self._make = make
        self._task: asyncio.Task[T] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = self._loop.create_task(self._make())
        self._task.add_done_callback(self._finish)

    def stop(self) -> None:
        """Cancel it; nobody waits any more."""
        if self._task is not None:
            self._task.cancel()

    def _finish(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self.done.cancel()
        elif (error := task.exception()) is not None:
            self.done.set_exception(error)
        else:
            self.done.set_result(task.result())
