"""What all connections of a daemon share, and what the daemon asks of each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Protocol

from fastmesh._core import Pump
from fastmesh.api.plans import Plans
from fastmesh.api.router import Router
from fastmesh.config import ServerSettings, StreamSettings
from fastmesh.server.intake import Intake
from fastmesh.server.per_peer import PerPeer
from fastmesh.server.timers import Timed, TimerWheel
from fastmesh.server.tls import Certificate
from fastmesh.streaming.module import StreamingModule
from fastmesh.telemetry.metrics import Metrics
from fastmesh.wire.encoders import Encoder


class Served(Timed, Protocol):
    """A connection, as the daemon sees it."""

    @property
    def client(self) -> str | None:
        """Whose request is under way; None when none is, or this machine's."""

    def drain(self) -> None:
        """Close when nothing is under way."""


@dataclass(slots=True)
class Context:
    """What all connections of a daemon share."""

    settings: ServerSettings
    stream: StreamSettings
    high_water: int
    low_water: int
    router: Router
    module: StreamingModule
    plans: Plans
    metrics: Metrics
    pump: Pump
    intake: Intake
    wheel: TimerWheel
    clock: Callable[[], float]
    loop: asyncio.AbstractEventLoop
    encoders: dict[tuple[str, bool], Encoder]  # by encoding, and whether it is chunked
    connections: set[Served] = field(default_factory=set)
    per_peer: PerPeer = field(default_factory=PerPeer)
    numbers: Iterator[int] = field(default_factory=partial(count, 1))  # of connections, each its own
    draining: bool = False
    out_of_files_at: float = float("-inf")  # when a connection could not be accepted last
    waiting: set[asyncio.Task[None]] = field(default_factory=set)  # tasks of handlers that wait for their answer
    unaccepted: int = 0  # how often that was so, or one was closed without a word
    certificate: Certificate | None = None  # None: no TLS

    def each_connection(self, do: Callable[[Served], None]) -> None:
        """*do* something with each connection, whichever raise."""
        self.metrics.bugs.each("connections", list(self.connections), do, lambda connection: connection.named)
