"""The daemon: what starts first, and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from fastmesh.api.engine import Engine
from fastmesh.api.health import Health
from fastmesh.api.router import Router
from fastmesh.config import Settings
from fastmesh.log import get_logger
from fastmesh.server.collector import settle_collector
from fastmesh.server.flow import make_pump
from fastmesh.server.limits import raise_file_limit
from fastmesh.server.listener import Listener, bind
from fastmesh.server.peer import Shared
from fastmesh.server.timers import TimerWheel
from fastmesh.wire.encoders import Encoder, NdjsonEncoder, SseEncoder, WebSocketEncoder

log = get_logger()

# Of the drain deadline: running streams may finish for the first part; told to end, they are read in the second;
# what is left is for connections that still deliver, and for the rest to be closed.
FINISH_SHARE = 0.8
READ_SHARE = 0.95


class Daemon:
    """Engine, router and listener as one.  Made while the loop runs."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self.engine = Engine(settings)  # StreamingModule first: when it cannot be, nothing is
        connections = raise_file_limit(settings)
        server = settings.server.model_copy(update={"max_connections": connections})
        self._wheel = TimerWheel()
        self._shared = Shared(
            settings=server,
            stream=settings.stream,
            high_water=settings.buffer.high_water_bytes,
            low_water=settings.buffer.low_water_bytes,
            router=Router(server, settings.cors.allow_origins),
            module=self.engine.module,
            plans=self.engine.plans,
            metrics=self.engine.metrics,
            pump=make_pump(self._loop),
            wheel=self._wheel,
            clock=time.monotonic,
            loop=self._loop,
            encoders=_encoders(settings.stream.sse_retry_ms),
        )
        self._health = Health(self.engine, lambda: self._shared.draining)
        for route in (*self.engine.streams.routes(), *self._health.routes()):
            self._shared.router.add(route)
        self._listener: Listener | None = None
        self._timer_task: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Accept connections; return the address.  Raises FastmeshError when it cannot."""
        await self.engine.start()
        self._listener = listener = Listener(bind(self._settings.server), self._shared)
        if listener.bound is not None:
            self.engine.guard.own.add(listener.bound)
        self._timer_task = self._loop.create_task(self._turn_wheel())
        self._health.ready = True
        listener.start()
        log.info("daemon.started", address=listener.address, pid=os.getpid())
        return listener.address

    async def drain(self, hurry: asyncio.Event) -> None:
        """End within the drain deadline, whatever clients do; when *hurry* is set, without waiting for them.

        No new streams; the running ones may finish for 80 % of it, then get a
        summary that says ``shutdown``, and what is not read by then is cut off.
        """
        shared, module = self._shared, self.engine.module
        deadline_s = self._settings.server.drain_timeout_s
        begun = self._loop.time()

        def left(share: float) -> float:
            return max(0.0, begun + share * deadline_s - self._loop.time())

        log.info("daemon.draining", deadline_s=deadline_s, connections=len(shared.connections))
        shared.draining = True
        module.stop_admitting()
        for connection in list(shared.connections):
            connection.drain()
        await _either(hurry, module.wait_closed(left(FINISH_SHARE)))
        module.stop_all("shutdown")
        await _either(hurry, module.wait_closed(left(READ_SHARE)))
        await _either(hurry, self._wait_delivered(left(READ_SHARE)))
        for connection in list(shared.connections):
            connection.abort()

    async def close(self) -> None:
        """Stop what still runs; also after a start that failed."""
        if self._listener is not None:
            await self._listener.close()
        for connection in list(self._shared.connections):
            connection.abort()
        if self._timer_task is not None:
            self._timer_task.cancel()
            with suppress(asyncio.CancelledError):
                await self._timer_task
        await self.engine.close()
        log.info("daemon.stopped")

    async def _wait_delivered(self, timeout_s: float) -> None:
        """Until every connection has closed: what was written is on its way to slow readers still."""
        until = self._loop.time() + timeout_s
        while self._shared.connections and self._loop.time() < until:
            for connection in list(self._shared.connections):
                connection.drain()
            await asyncio.sleep(self._wheel.step_s)

    async def _turn_wheel(self) -> None:
        while True:
            await asyncio.sleep(self._wheel.step_s)
            self._wheel.turn(self._shared.clock())


def _encoders(retry_ms: int) -> dict[tuple[str, bool], Encoder]:
    """One encoder for all subscribers whose bytes are the same."""
    return {
        ("ndjson", True): NdjsonEncoder(chunked=True),
        ("ndjson", False): NdjsonEncoder(chunked=False),
        ("sse", True): SseEncoder(retry_ms=retry_ms, chunked=True),
        ("sse", False): SseEncoder(retry_ms=retry_ms, chunked=False),
        ("websocket", False): WebSocketEncoder(),
    }


async def _either(hurry: asyncio.Event, waiting: object) -> None:
    """Wait for *waiting*, but no longer than until *hurry*."""
    assert asyncio.iscoroutine(waiting)
    tasks = [asyncio.ensure_future(waiting), asyncio.ensure_future(hurry.wait())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def serve(settings: Settings, announce: Callable[[str], None]) -> None:
    """Run the daemon until SIGTERM or SIGINT; a second signal ends it at once.

    *announce* is given the address when connections are accepted.  Raises
    FastmeshError when the start fails.
    """
    loop = asyncio.get_running_loop()
    stop, hurry = asyncio.Event(), asyncio.Event()

    def signalled() -> None:
        (hurry if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled)
    daemon = Daemon(settings)
    try:
        address = await daemon.start()
        settle_collector()
        announce(address)
        await stop.wait()
        await daemon.drain(hurry)
    finally:
        await daemon.close()
