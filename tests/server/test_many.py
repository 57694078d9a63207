"""A daemon looks after many, and one that raises takes nothing from the others."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NoReturn

import orjson
import pytest

from fastmesh import config
from fastmesh.api.calls import Call
from fastmesh.api.engine import Engine
from fastmesh.api.health import Health
from fastmesh.server.daemon import Daemon
from fastmesh.server.listener import Listener
from fastmesh.server.serve import _unhandled
from fastmesh.telemetry.bugs import Bugs
from fastmesh.telemetry.trace import Trace
from fastmesh.wire.http1 import Request


def settings(**values: object) -> config.Settings:
    return config.load({name: str(value) for name, value in values.items()}, environ={}).values


def broken(*_: object) -> NoReturn:
    raise KeyError("broken")


class Told:
    """A connection that notes what it is told."""

    client = "stranger"

    def __init__(self, name: str, drain: Callable[..., object] = lambda: None) -> None:
        self.named = {"request_id": name}
        self.said: list[str] = []
        self._drain = drain

    def drain(self) -> None:
        self.said.append("drain")
        self._drain()

    def abort(self) -> None:
        self.said.append("abort")
        self._drain()


def test_a_drain_and_a_reload_reach_every_connection() -> None:
    async def run() -> None:
        daemon = Daemon(settings(SERVER__DRAIN_TIMEOUT_S=0.1))
        connections = [Told("broken", broken), Told("a"), Told("b")]
        told = daemon._shared.connections = set(connections)  # type: ignore[assignment]
        hurry = asyncio.Event()
        hurry.set()
        await daemon.drain(hurry)
        assert [(one.said[0], one.said[-1]) for one in connections] == [("drain", "abort")] * 3
        for one in connections:
            one.said.clear()
        daemon._end_strangers(SimpleNamespace(knows=lambda client: False))  # type: ignore[arg-type]
        assert [one.said for one in connections] == [["abort"]] * 3
        assert daemon.bugs.counts["connections"] >= 3
        told.clear()
        await daemon.close()

    asyncio.run(run())


def test_an_end_reaches_every_part() -> None:
    async def run() -> list[str]:
        engine = Engine(settings())
        closed: list[str] = []
        for name in ("documents", "_robots", "fetcher", "pool"):
            part = getattr(engine, name)
            close = part.close

            async def closing(name: str = name, close: Callable[[], Any] = close) -> None:
                await close()
                closed.append(name)
                raise KeyError(name)

            part.close = closing
        with pytest.raises(KeyError):
            await engine.close()
        return closed

    assert asyncio.run(run()) == ["documents", "_robots", "fetcher", "pool"]


def test_a_part_that_cannot_say_how_it_is_is_unhealthy_and_all_others_say_it() -> None:
    async def run() -> None:
        engine = Engine(settings())
        server = SimpleNamespace(draining=False, descriptors=broken, overload=lambda: None)
        answer = Health(engine, server).healthz(Call(Request(), "r", None, "", Trace("", "")))
        said = orjson.loads(answer.body)
        assert (answer.status, said["status"]) == (503, "unhealthy")
        unwell = {name for name, part in said["dependencies"].items() if part["status"] == "unhealthy"}
        assert unwell == {"descriptors", "extract_workers"}  # the workers were not started
        assert engine.metrics.bugs.counts["health"] == 1
        states = {
            sample.labels["dependency"]: sample.value
            for family in engine.metrics.registry.collect()
            if family.name == "fastmesh_health_status"
            for sample in family.samples
        }
        assert (states["descriptors"], states["dns"]) == (2, 0)
        await engine.close()

    asyncio.run(run())


def test_what_the_loop_caught_is_counted() -> None:
    bugs = Bugs()
    _unhandled(bugs, {"message": "exception in callback", "exception": KeyError("x")})
    _unhandled(bugs, {"message": "a task was destroyed"})
    assert bugs.counts == {"callbacks": 2}


# ── accepting ────────────────────────────────────────────────────────────────────────────


class Accepting:
    """A listening socket whose accept() comes out as the test says."""

    family = socket.AF_INET

    def __init__(self, *outcomes: int) -> None:
        self.outcomes = deque(outcomes)

    def setblocking(self, blocking: bool) -> None:
        """It never blocks."""

    def fileno(self) -> int:
        return 99

    def accept(self) -> NoReturn:
        if not self.outcomes:
            raise BlockingIOError
        number = self.outcomes.popleft()
        raise OSError(number, os.strerror(number))

    def close(self) -> None:
        """Nothing."""


class Heard:
    """A loop that notes who is read and when, and runs nothing by itself."""

    def __init__(self) -> None:
        self.reading: set[int] = set()
        self.timers: list[Callable[[], object]] = []

    def add_reader(self, fd: int, _accept: object) -> None:
        self.reading.add(fd)

    def remove_reader(self, fd: int) -> None:
        self.reading.discard(fd)

    def call_later(self, _delay: float, then: Callable[[], object]) -> Any:
        self.timers.append(then)
        return SimpleNamespace(cancel=lambda: None)


def listening(*outcomes: int) -> tuple[Listener, Accepting, Heard, Any]:
    loop, sock = Heard(), Accepting(*outcomes)
    shared: Any = SimpleNamespace(
        loop=loop,
        clock=lambda: 0.0,
        out_of_files_at=float("-inf"),
        unaccepted=0,
        connections=set(),
        metrics=SimpleNamespace(bugs=Bugs()),
    )
    listener = Listener(sock, shared)  # type: ignore[arg-type]
    listener.start()
    return listener, sock, loop, shared


@pytest.mark.parametrize("number", [errno.EPROTO, errno.EHOSTUNREACH, errno.EPERM, errno.ECONNABORTED])
def test_what_the_network_says_of_one_connection_is_no_reason_to_stop(number: int) -> None:
    listener, sock, loop, shared = listening(number, number)
    listener._accept()
    assert not sock.outcomes
    assert (loop.reading, loop.timers, shared.unaccepted) == ({99}, [], 0)
    asyncio.run(listener.close())


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EINVAL])
def test_what_cannot_be_accepted_is_tried_again_also_when_the_reserve_is_gone(number: int) -> None:
    """Without a pause a socket that is ready and gives nothing would be asked in every turn of the loop."""
    listener, _, loop, shared = listening(number)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastmesh.server.listener._reserved", lambda: os.open("/nowhere", os.O_RDONLY))
        listener._accept()
    assert (loop.reading, shared.unaccepted) == (set(), 1)
    (again,) = loop.timers
    again()
    assert loop.reading == {99}
    asyncio.run(listener.close())
