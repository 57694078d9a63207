"""A bad network: a TCP proxy on loopback that breaks what goes through it, the same way for the same seed.

    with Chaos(daemon.port, seed=7) as chaos:
        ... talk to chaos.port ...
        assert chaos.broken

What happens to a connection depends only on the seed and on its number: at which
byte of which direction it is cut, stalled or delayed.  After *breaks* broken
connections the rest are whole, so that whoever tries again arrives at last.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Self

READ_BYTES = 65_536


class Harm(Enum):
    """What is done to a connection, in both directions, once so many bytes of one went through."""

    FIN = "both sides are told that it ended"
    RST = "both sides are told that it broke"
    HALF_OPEN = "only the client is told; the other side stays open, and nobody reads it"
    HOLE = "nobody is told, and nothing goes through any more"
    STALL = "nothing goes through for a while"
    DELAY = "every byte from now on comes a little later"


ENDS = (Harm.FIN, Harm.RST, Harm.HALF_OPEN, Harm.HOLE)
TO_CLIENT, TO_SERVER = "client", "server"


@dataclass(frozen=True, slots=True)
class Blow:
    """One harm: after *at_byte* bytes to *towards*."""

    harm: Harm
    towards: str
    at_byte: int
    for_s: float = 0.0


class Chaos:
    """A proxy to *port* that breaks *breaks* connections.

    *spread_bytes* is within how many bytes to the client something happens, and
    *ends* are the ways in which a connection may be broken.  *plan* says what
    happens to the first connections instead of the seed.
    """

    def __init__(
        self,
        port: int,
        *,
        seed: int | str = 0,
        breaks: int = 5,
        spread_bytes: int = 20_000,
        stall_s: float = 0.05,
        ends: Iterable[Harm] = ENDS,
        plan: Iterable[tuple[Blow, ...]] | None = None,
    ) -> None:
        self.port = 0
        self.connections = 0
        self.broken = 0
        self._target = port
        self._seed = seed
        self._breaks = breaks
        self._spread = spread_bytes
        self._stall_s = stall_s
        self._ends = tuple(ends)
        self._plan = None if plan is None else tuple(plan)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos", daemon=True)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def address(self) -> str:
        """Where it listens, as a client is told."""
        return f"http://127.0.0.1:{self.port}"

    def blows(self, number: int) -> tuple[Blow, ...]:
        """What happens to the connection of that number, counted from 0."""
        if self._plan is not None:
            return self._plan[number] if number < len(self._plan) else ()
        chance = random.Random(f"{self._seed}:{number}")
        blows = [
            Blow(harm, TO_CLIENT, chance.randrange(self._spread), chance.uniform(0, self._stall_s))
            for harm in (Harm.STALL, Harm.DELAY)
            if chance.random() < 0.3
        ]
        if number < self._breaks:
            # A request is a few hundred bytes: seldom it is broken itself, mostly its answer.
            towards, within = (TO_SERVER, 600) if chance.random() < 0.2 else (TO_CLIENT, self._spread)
            blows.append(Blow(chance.choice(self._ends), towards, chance.randrange(within)))
        return tuple(blows)

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        number = self.connections
        self.connections += 1
        link = _Link(self.blows(number), writer)
        try:
            # That either side goes away is ordinary here, and so is the end of the test.
            with suppress(OSError, asyncio.CancelledError):
                other_reader, link.server = await asyncio.open_connection("127.0.0.1", self._target)
                await self._forward(link, reader, other_reader)
        finally:
            self._tasks.discard(task)
            link.close()

    async def _forward(self, link: _Link, client: asyncio.StreamReader, server: asyncio.StreamReader) -> None:
        assert link.server is not None
        ways = [
            asyncio.ensure_future(link.pump(client, link.server, TO_SERVER)),
            asyncio.ensure_future(link.pump(server, link.client, TO_CLIENT)),
        ]
        try:
            while ways and link.end is None:
                done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                ways = [way for way in ways if way not in done]
                if any(way.exception() is not None for way in done):
                    return  # one side is gone, so is the other
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        if link.end is not None:
            self.broken += 1
            link.cut(link.end)
            if link.end in (Harm.HALF_OPEN, Harm.HOLE):
                await asyncio.Event().wait()  # until the proxy ends


class _Link:
    """The two sockets of one connection, and what is still to happen to them."""

    def __init__(self, blows: tuple[Blow, ...], client: asyncio.StreamWriter) -> None:
        self.client = client
        self.server: asyncio.StreamWriter | None = None
        self.end: Harm | None = None
        self._blows = sorted(blows, key=lambda blow: blow.at_byte)
        self._delay_s = 0.0

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, towards: str) -> None:
        """Forward one direction until its end, or until the connection is broken."""
        ahead = [blow for blow in self._blows if blow.towards == towards]
        went = 0
        while data := await reader.read(READ_BYTES):
            while ahead and ahead[0].at_byte < went + len(data):
                blow = ahead.pop(0)
                part, data = data[: blow.at_byte - went], data[blow.at_byte - went :]
                await self._send(writer, part)
                went += len(part)
                if blow.harm in ENDS:
                    self.end = blow.harm
                    return
                if blow.harm is Harm.DELAY:
                    self._delay_s = blow.for_s / 10
                else:
                    await asyncio.sleep(blow.for_s)
            await self._send(writer, data)
            went += len(data)
        if writer.can_write_eof():
            writer.write_eof()

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        writer.write(data)
        await writer.drain()

    def cut(self, harm: Harm) -> None:
        """Break it."""
        if harm is Harm.RST:
            for writer in (self.client, self.server):
                _reset(writer)
        elif harm is Harm.FIN:
            self.close()
        elif harm is Harm.HALF_OPEN:
            _reset(self.client)

    def close(self) -> None:
        """Close both sides."""
        for writer in (self.client, self.server):
            if writer is not None:
                writer.close()


def _reset(writer: asyncio.StreamWriter | None) -> None:
    """End it with RST: the kernel sends that instead of FIN when nothing may linger."""
    if writer is not None:
        with suppress(OSError):
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
