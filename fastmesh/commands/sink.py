"""A stream's sink that is a thread: pressure from a slow pipe travels back to the fetches."""

from __future__ import annotations

import asyncio

from fastmesh.commands.output import OutputThread
from fastmesh.streaming.subscriber import Subscriber

QUANTUM_BYTES = 65_536


class ThreadSink:
    """Hands each batch to *thread*, and the next when that was taken.

    ``done`` resolves when the last batch was taken, and raises what the thread raised.
    """

    def __init__(self, thread: OutputThread) -> None:
        self.paused = False
        self._thread = thread
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()
        self._subscriber: Subscriber | None = None
        self._scheduled = False
        self._ended = False

    def attach(self, subscriber: Subscriber) -> None:
        """Serve *subscriber* from now on."""
        self._subscriber = subscriber
        self.ready()

    def write(self, data: bytes) -> None:
        """Hand *data* to the thread; nothing more until it is taken."""
        self.paused = True
        self._thread.put(data).add_done_callback(self._taken)

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

    def _taken(self, taken: asyncio.Future[None]) -> None:
        failed = taken.exception()
        if self.done.done():
            return
        if failed is not None:
            self.done.set_exception(failed)
        elif self._ended:
            self.done.set_result(None)
        else:
            self.paused = False
            self.ready()
