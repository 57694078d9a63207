"""The daemon: its parts, in the order in which they start, take new settings and close."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from fastmesh._core import Pump
from fastmesh.api.access.callers import Access
from fastmesh.api.access.tokens import Tokens
from fastmesh.api.calls import Route
from fastmesh.api.engine import Engine
from fastmesh.api.health import Health
from fastmesh.api.openapi.document import OpenApi
from fastmesh.api.router import Router
from fastmesh.api.ticket_office import issue_ticket
from fastmesh.config import Section, Settings, every_setting, refuse_public, setting_name
from fastmesh.errors import ConfigError
from fastmesh.server.binding import bind
from fastmesh.server.context import Context, Served
from fastmesh.server.drain import Drain
from fastmesh.server.figures import ServerFigures
from fastmesh.server.host.process import look_for_cycles, raise_file_limit
from fastmesh.server.host.systemd import Inherited
from fastmesh.server.intake import Intake
from fastmesh.server.listener import Listener
from fastmesh.server.timers import TimerWheel
from fastmesh.server.tls import Certificate
from fastmesh.streaming.pipeline import StreamingPipeline
from fastmesh.telemetry.log import get_logger
from fastmesh.wire.encoders import Encoder, NdjsonEncoder, SseEncoder, WebSocketEncoder

log = get_logger()

RELOADABLE: Final = frozenset((one.section, one.name) for one in every_setting() if one.reload)
# How the pump shares out the loop's time, in bytes.
QUANTUM_BYTES = 16_384
TURN_BYTES = 65_536
# A write costs a system call however small it is: of one frame for thousands of subscribers 256 go out in a turn,
# which takes 1.5 ms.
LEAST_BYTES = 256


class Daemon:
    """Engine, router and listeners as one.  Made while the loop runs.  With *inherited* sockets it listens on these,
    and binds none."""

    def __init__(self, settings: Settings, inherited: Sequence[Inherited] = ()) -> None:
        self._settings = settings
        self._inherited = inherited
        self._loop = asyncio.get_running_loop()
        # Files before anything that would have to be closed again.
        tokens_file = settings.auth.tokens_file
        self.access = None if tokens_file is None else Access(tokens_file, time.monotonic)
        self.certificate = Certificate.of(settings.tls)
        self.engine = Engine(settings)  # StreamingModule first: when it cannot be, nothing is
        connections = raise_file_limit(settings)
        server = settings.server.model_copy(update={"max_connections": connections})
        self.bugs = self.engine.metrics.bugs
        self._wheel = TimerWheel(self.bugs)
        self._shared = Context(
            settings=server,
            stream=settings.stream,
            high_water=settings.buffer.high_water_bytes,
            low_water=settings.buffer.low_water_bytes,
            router=Router(server, settings.cors.allow_origins, self.access),
            module=self.engine.module,
            plans=self.engine.plans,
            metrics=self.engine.metrics,
            pump=make_pump(self._loop),
            intake=Intake(self._loop.call_soon, time.monotonic, self.bugs),
            wheel=self._wheel,
            clock=time.monotonic,
            loop=self._loop,
            encoders=_encoders(settings.stream.sse_retry_ms),
            certificate=self.certificate,
        )
        health = Health(self.engine, ServerFigures(self._shared, self.engine.metrics))
        tickets = Route("/tickets", "POST", partial(issue_ticket, self.access))
        for route in (*self.engine.streams.routes(), tickets, *health.routes()):
            self._shared.router.add(route)
        self._openapi = OpenApi(self._shared.router, settings)
        self._listeners: list[Listener] = []
        self._drain: Drain | None = None  # while it ends
        self._timer_task: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Accept connections; return the address, of several with commas.  Raises FastmeshError when it cannot.  Until
        all runs, streams are refused and /readyz says why."""
        for one in self._inherited:
            self._listeners.append(Listener(one.sock, self._shared, inherited=True))
        if not self._inherited:
            self._listeners.append(Listener(bind(self._settings.server), self._shared))
        for listener in self._listeners:
            if listener.bound is not None:
                refuse_public(listener.bound[0], self._settings)
                self.engine.guard.own.add(listener.bound)
        self._timer_task = self._loop.create_task(self._turn_wheel())
        for listener in self._listeners:
            listener.start()
        await asyncio.gather(self.engine.start(), self._openapi.start())
        address = ",".join(listener.address for listener in self._listeners)
        names = [one.name for one in self._inherited]
        log.info("daemon.started", address=address, inherited=names, pid=os.getpid())
        return address

    def reload(self, wanted: Settings) -> None:
        """Take what a running daemon can of the settings *wanted*, files read anew, and say what it cannot."""
        self._settings, taken, left = merged(self._settings, wanted)
        settings, shared = self._settings, self._shared
        connections = raise_file_limit(settings)
        shared.settings = settings.server.model_copy(update={"max_connections": connections})
        shared.stream = settings.stream
        shared.router.settings, shared.router.origins = shared.settings, settings.cors.allow_origins
        self.engine.reload(settings)
        self._openapi.reload(settings)
        for wrong in self.reload_access():
            log.error("daemon.reload_refused", error=wrong)
        log.warning("daemon.reloaded", changed=taken, wants_restart=left)

    def status(self) -> str:
        """What it does, in a line."""
        module, shared = self.engine.module, self._shared
        doing = "running" if self._drain is None else "draining"
        return (
            f"{doing}: {len(module.registry.active)} streams, {len(shared.connections)} connections,"
            f" {module.buffers.held_bytes / 1_048_576:.1f} MiB in journals, {self.engine.slots.in_flight} fetches"
        )

    def ends_in(self) -> float | None:
        """How many seconds a drain still has, less than none when it took longer; None when there is none."""
        return None if self._drain is None else self._drain.left_s()

    async def drain(self, hurry: asyncio.Event) -> None:
        """End within the drain deadline, whatever clients do; when *hurry* is set, without waiting for them."""
        self._drain = Drain(self._shared, self._settings.server.drain_timeout_s)
        for listener in self._listeners:
            listener.drain()
        await self._drain.run(hurry)

    def reload_access(self) -> list[str]:
        """Read tokens and certificate anew, or keep what is wrong there and say so; end what strangers run now."""
        wrong = []
        for part in (self.certificate, None if self.access is None else self.access.tokens):
            try:
                if part is not None:
                    part.reload()
            except ConfigError as error:
                wrong.append(str(error))
        if self.access is not None:
            self._end_strangers(self.access.tokens)
        return wrong

    def _end_strangers(self, tokens: Tokens) -> None:
        def leave(connection: Served) -> None:
            if connection.client is not None and not tokens.knows(connection.client):
                connection.abort()

        def end(pipeline: StreamingPipeline) -> None:
            client = pipeline.opening.client
            if client is not None and not tokens.knows(client):
                pipeline.stop("cancelled")

        self._shared.each_connection(leave)
        self.bugs.each("strangers", self.engine.module.registry.all(), end, lambda pipeline: pipeline.named)

    async def close(self) -> None:
        """Stop what still runs; also after a start that failed."""
        for listener in self._listeners:
            await listener.close()
        self._shared.each_connection(lambda connection: connection.abort())
        if self._shared.waiting:  # for parts that are closed below
            for task in self._shared.waiting:
                task.cancel()
            await asyncio.wait(self._shared.waiting)
        if self._timer_task is not None:
            self._timer_task.cancel()
            with suppress(asyncio.CancelledError):
                await self._timer_task
        await self.engine.close()
        log.info("daemon.stopped")

    async def _turn_wheel(self) -> None:
        while True:
            await asyncio.sleep(self._wheel.step_s)
            self.bugs.survive("timers", self._look_after)

    def _look_after(self) -> None:
        self._wheel.turn(self._shared.clock())
        if not self.engine.module.registry.active:
            look_for_cycles()


def _encoders(retry_ms: int) -> dict[tuple[str, bool], Encoder]:
    """One encoder for all subscribers whose bytes are the same."""
    return {
        ("ndjson", True): NdjsonEncoder(chunked=True),
        ("ndjson", False): NdjsonEncoder(chunked=False),
        ("sse", True): SseEncoder(retry_ms=retry_ms, chunked=True),
        ("sse", False): SseEncoder(retry_ms=retry_ms, chunked=False),
        ("websocket", False): WebSocketEncoder(),
    }


def make_pump(loop: asyncio.AbstractEventLoop) -> Pump:
    """A hundred greedy streams share the loop fairly, and none holds up a request for longer than TURN_BYTES take."""
    return Pump(loop.call_soon, quantum_bytes=QUANTUM_BYTES, turn_bytes=TURN_BYTES, least_bytes=LEAST_BYTES)


def merged(old: Settings, new: Settings) -> tuple[Settings, list[str], list[str]]:
    """*old* with what may be taken of *new*; the names of those settings, and of those that want a restart."""
    taken: list[str] = []
    left: list[str] = []
    sections: dict[str, Section] = {}
    for section in Settings.model_fields:
        before, after = getattr(old, section), getattr(new, section)
        update = {}
        for name in type(before).model_fields:
            value = getattr(after, name)
            if value == getattr(before, name):
                continue
            if (section, name) in RELOADABLE:
                update[name] = value
                taken.append(setting_name(section, name))
            else:
                left.append(setting_name(section, name))
        sections[section] = before.model_copy(update=update)
    return old.model_copy(update=sections), taken, left
