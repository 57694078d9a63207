"""``fastmesh crawl``: the daemon's pipeline without the daemon."""

from __future__ import annotations

import asyncio
from secrets import token_hex
from typing import Any

from fastmesh.api.engine import Engine
from fastmesh.api.requests.bodies import CrawlRequest
from fastmesh.commands.outcome import outcome
from fastmesh.commands.output import OutputThread, output
from fastmesh.config import Settings
from fastmesh.streaming.subscriber import Subscriber
from fastmesh.wire.encoders import NdjsonEncoder

QUANTUM_BYTES = 65_536


class ThreadSink:
    """Hands each batch to *thread*, and the next when that was taken: a slow pipe's pressure reaches the fetches.
    ``done`` resolves when the last batch was taken, and raises what the thread raised."""

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


async def crawl(settings: Settings, request: CrawlRequest, *, table: bool) -> int:
    """Crawl *request*, frames as NDJSON on stdout or as a table; return the exit status.  The first SIGINT or SIGTERM
    ends the stream with its summary, a second one without.  Raises FastmeshError when it cannot start."""
    engine = Engine(settings)
    try:
        await engine.start()
        with output(table=table) as out:
            sink = ThreadSink(OutputThread(out.take))
            plan = engine.plans.crawl(request, token_hex(16), None)
            registry = engine.module.registry
            pipeline = registry.open(plan.opening, plan.make_processor)
            sink.attach(registry.attach(pipeline, NdjsonEncoder(chunked=False), sink))

            async def shown() -> dict[str, Any]:
                await sink.done
                return out.summary

            return await outcome(shown(), lambda: pipeline.stop("cancelled"), sink.done.cancel)
    finally:
        await engine.close()
