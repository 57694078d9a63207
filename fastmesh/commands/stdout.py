"""A stream's sink that is a thread: pressure from a slow pipe travels back to the fetches."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue

from fastmesh.streaming.subscriber import Subscriber

QUANTUM_BYTES = 65_536


class ThreadSink:
    """Hands each batch of lines to *take* in a thread, one at a time, so that the loop never waits for it.

    ``done`` resolves when the last batch was taken, and raises what *take* raised.
    """

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self.paused = False
        self._take = take
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()
        self._subscriber: Subscriber | None = None
        self._scheduled = False
        self._ended = False
        self._batches: SimpleQueue[bytes] = SimpleQueue()
        # A daemon thread: a pipe that nobody reads must not keep the process from ending.
        threading.Thread(target=self._run, name="output", daemon=True).start()

    def attach(self, subscriber: Subscriber) -> None:
        """Serve *subscriber* from now on."""
        self._subscriber = subscriber
        self.ready()

    def write(self, data: bytes) -> None:
        """Hand *data* to the thread; nothing more until it is taken."""
        self.paused = True
        self._batches.put(data)

    beat = write

    def ready(self) -> None:
        """Serve in the next turn of the loop."""
        if not self.paused and not self._scheduled and self._subscriber is not None:
            self._scheduled = True
            self._loop.call_soon(self._serve)

    def end(self) -> None:
        """Nothing follows."""
        self._ended = True
        assert self._subscriber is not None
        self._subscriber.pipeline.detach(self._subscriber)

    def give_up(self) -> None:
        """Standard output is waited for, always."""

    def _serve(self) -> None:
        self._scheduled = False
        if self._subscriber is not None and not self.paused:
            self._subscriber.serve(QUANTUM_BYTES)

    def _run(self) -> None:
        while True:
            data = self._batches.get()
            failed: Exception | None = None
            try:
                self._take(data)
            except Exception as error:  # noqa: BLE001 - whatever it is, who awaits `done` is told
                failed = error
            try:
                self._loop.call_soon_threadsafe(self._taken, failed)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return
            if failed is not None:
                return

    def _taken(self, failed: Exception | None) -> None:
        if self.done.done():
            return
        if failed is not None:
            self.done.set_exception(failed)
        elif self._ended:
            self.done.set_result(None)
        else:
            self.paused = False
            self.ready()


def write_all(fd: int, data: bytes) -> None:
    """Write all of *data* to the file descriptor *fd*, which may block.  Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
