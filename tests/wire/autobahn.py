"""Autobahn's cases against the machine of wire/websocket/machine.py, behind an echo server on loopback.

The echo is fed as server/websocket.py feeds its machine: in slices, with reading
paused while something is left.  As a script it prints the verdicts and exits
with 1 unless every one of them is as it should be:

    python tests/wire/autobahn.py          # 1-7, 10 and the first of 12 and 13
    python tests/wire/autobahn.py --long   # all 517, about 7 minutes
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import kosoku
import uvloop

from fastmesh._core import Batch
from fastmesh.errors import ApiError
from fastmesh.wire.http1 import HttpParser
from fastmesh.wire.websocket.handshake import upgrade
from fastmesh.wire.websocket.machine import Binary, Ended, Limits, Ping, Text, WebSocketMachine

LINGER_S = 2.0

# The largest cases send 16 MiB, and 65,537 fragments of it.
LIMITS = Limits(max_message_bytes=17 << 20, small_frames_burst=200_000)

# An exact id each: a pattern is a prefix, and 12.1.1 would be 12.1.10 as well.
SHORT = [
    *(f"{group}.*" for group in (1, 2, 3, 4, 5, 6, 7, 10)),
    *(f"12.{kind}.{size}" for kind in range(1, 6) for size in (1, 2)),
    *(f"13.{kind}.{size}" for kind in range(1, 8) for size in (1, 2)),
]
ALL = ["*"]

# Where Autobahn itself judges nothing: a close frame right behind a message, and close codes above 4999.
INFORMATIONAL = {"7.1.6", "7.13.1", "7.13.2"}


class Echo(asyncio.Protocol):
    """Sends each message back."""

    def __init__(self, connections: set[Echo]) -> None:
        self._connections = connections
        self._parser = HttpParser()
        self._machine: WebSocketMachine | None = None
        self._transport: asyncio.Transport
        self._paused = False  # the client does not read
        self._working = False  # the next slice is scheduled
        self._closing = False
        self._loop = asyncio.get_running_loop()
        self._linger: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is here."""
        assert isinstance(transport, uvloop.loop.TCPTransport)
        self._transport = transport
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._closing = True
        self._connections.discard(self)
        if self._linger is not None:
            self._linger.cancel()

    def data_received(self, data: bytes) -> None:
        """The handshake, then frames."""
        if self._closing:
            return
        if self._machine is None:
            data = self._greet(data)
        if self._machine is not None:
            self._machine.receive(data)
            self._work()

    def eof_received(self) -> bool:
        """The client sends no more: what was written is still delivered."""
        self._transport.close()
        return True

    def pause_writing(self) -> None:
        """The client does not read: nothing more is read from it either."""
        self._paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        self._paused = False
        self._work()

    def _greet(self, data: bytes) -> bytes:
        self._parser.receive(data)
        request = self._parser.next_request()
        if request is None:
            return b""
        try:
            head, self._machine = upgrade(request, [("Server", "fastmesh")], limits=LIMITS, deflate=True)
        except ApiError as error:
            sys.stderr.write(f"{error.message}\n")
            self._transport.abort()
            return b""
        self._transport.write(head)
        return self._parser.rest

    def _work(self) -> None:
        machine = self._machine
        if self._working or self._paused or self._closing or machine is None:
            return
        for event in machine.events(time.monotonic()):
            match event:
                case Text(data):
                    self._transport.write(machine.text(Batch([data])))
                case Binary(data):
                    self._transport.write(machine.binary(data))
                case Ping(payload):
                    self._transport.write(machine.pong(payload))
                case Ended(_, _, reply):
                    self._transport.write(reply)
                    self._close()
                    return
        if machine.pending:
            self._transport.pause_reading()
            self._working = True
            self._loop.call_soon(self._next_slice)
        elif not self._paused:
            self._transport.resume_reading()

    def _next_slice(self) -> None:
        self._working = False
        self._work()

    def _close(self) -> None:
        """What is on its way is delivered: a close with unread input would send RST."""
        self._closing = True
        self._transport.resume_reading()
        self._transport.write_eof()
        self._linger = self._loop.call_later(LINGER_S, self._transport.abort)


@dataclass
class Verdicts:
    """What the suite said of each case."""

    behavior: dict[str, str] = field(default_factory=dict)
    behavior_close: dict[str, str] = field(default_factory=dict)

    def faults(self) -> list[str]:
        """What is not as it should be, one line each."""
        lines = []
        for said in (self.behavior, self.behavior_close):
            for case, verdict in said.items():
                allowed = {"OK", "INFORMATIONAL"} if case in INFORMATIONAL else {"OK"}
                if verdict not in allowed:
                    lines.append(f"{case}: {verdict}")
        return lines

    def table(self) -> str:
        """The counts by group."""
        lines = [f"{'group':<8}{'cases':>6}  {'behaviour':<32}close behaviour"]
        groups = list(dict.fromkeys(case.partition(".")[0] for case in self.behavior))
        for group in [*groups, ""]:
            counts = [self._counted(said, group) for said in (self.behavior, self.behavior_close)]
            cases = sum(1 for case in self.behavior if _of(case, group))
            lines.append(f"{group or 'all':<8}{cases:>6}  {counts[0]:<32}{counts[1]}")
        return "\n".join(lines)

    def _counted(self, said: dict[str, str], group: str) -> str:
        counts = Counter(verdict for case, verdict in said.items() if _of(case, group))
        return ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())


def _of(case: str, group: str) -> bool:
    return not group or case.partition(".")[0] == group


async def judge(cases: Iterable[str], concurrency: int) -> Verdicts:
    """Run *cases* against an echo server that lives as long."""
    connections: set[Echo] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Echo(connections), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    results: list[Any]
    try:
        results = list(
            await kosoku.run_fuzzingclient(f"ws://127.0.0.1:{port}", cases=list(cases), concurrency=concurrency)
        )
    except kosoku.FailureError as error:
        results = error.results
    finally:
        server.close()
        for connection in list(connections):
            connection._transport.abort()
        await server.wait_closed()
    verdicts = Verdicts()
    for result in results:
        verdicts.behavior[result.case_id] = str(result.behavior.value)
        verdicts.behavior_close[result.case_id] = str(result.behavior_close.value)
    return verdicts


def run(cases: Iterable[str], concurrency: int) -> Verdicts:
    """The same on a loop of its own."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(judge(cases, concurrency))


def main() -> int:
    """The script."""
    long = "--long" in sys.argv[1:]
    begun = time.monotonic()
    verdicts = run(ALL, 2) if long else run(SHORT, 8)
    faults = verdicts.faults()
    sys.stdout.write(f"{verdicts.table()}\n{time.monotonic() - begun:.0f} s\n")
    sys.stdout.writelines(f"{line}\n" for line in faults)
    return 1 if faults or not verdicts.behavior else 0


if __name__ == "__main__":
    sys.exit(main())
