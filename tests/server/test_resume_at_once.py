"""Everybody comes back at once, each to all that is kept: in turns, and over the same bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import uvloop

from fastmesh import config
from fastmesh.server.daemon import Daemon
from fastmesh.server.http.connection import Connection
from fastmesh.streaming.fill.firehose import FirehoseProcessor
from fastmesh.streaming.ports import Opening
from fastmesh.streaming.registry import QUANTUM_BYTES, TURN_BYTES, FirstBytes

READERS, FRAMES, FRAME_BYTES = 200, 600, 1000


class Taking(asyncio.Transport):
    """A client that takes all that is written, at once."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.written: list[bytes] = []

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Any."""

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: Any) -> None:
        self.written.append(data)

    def is_reading(self) -> bool:
        return True

    def can_write_eof(self) -> bool:
        return True


def test_so_much_is_given_in_a_turn_and_one_frame_after_it() -> None:
    soon: list[Callable[[], None]] = []
    first = FirstBytes(soon.append)
    for _ in range(2):
        assert [first.share() for _ in range(7)] == [QUANTUM_BYTES] * 4 + [1] * 3
        (turn_over,) = soon
        soon.clear()
        turn_over()


def test_all_resume_from_0_in_turns_and_share_the_bytes() -> None:
    async def run() -> None:
        daemon = Daemon(config.load({}, environ={}).values)
        registry = daemon.engine.module.registry
        registry.starting = False
        opening = Opening("firehose", "r", None, FRAMES, 3600, detached=True)
        pipeline = registry.open(opening, lambda made: FirehoseProcessor(made, FRAMES, FRAME_BYTES, None))
        while not pipeline.complete:
            pipeline.room()
        request = f"GET /streams/{pipeline.id}/events?after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        clients = []
        for _ in range(READERS):  # all of them in one turn of the loop
            transport, connection = Taking(), Connection(daemon._shared)
            connection.connection_made(transport)
            connection.data_received(request)
            clients.append(transport)
        at_once = [b"".join(client.written) for client in clients]
        assert all(b'"type":"metadata"' in text for text in at_once)  # nobody waits for the first frame
        metadata_and_head = min(map(len, at_once))
        assert sum(map(len, at_once)) <= READERS * (metadata_and_head + 100) + TURN_BYTES + QUANTUM_BYTES
        most, before = 0, sum(map(len, at_once))
        while pipeline.audience.attached:
            await asyncio.sleep(0)
            now = sum(len(data) for client in clients for data in client.written)
            most, before = max(most, now - before), now
        assert most <= TURN_BYTES + 2 * QUANTUM_BYTES
        # The same frames for all, cut into chunks in as few ways as there are sizes of a first write.
        streams = {b"".join(client.written).partition(b"\r\n\r\n")[2] for client in clients}
        frames = [[json.loads(line) for line in text.splitlines() if line.startswith(b"{")] for text in streams]
        assert all([frame["seq"] for frame in one] == list(range(1, FRAMES + 3)) for one in frames)
        # Most of what was written are the very same objects.
        written = [data for client in clients for data in client.written]
        assert sum(len(data) for data in {id(data): data for data in written}.values()) < sum(map(len, written)) / 20
        for connection in list(daemon._shared.connections):
            connection.connection_lost(None)
        await daemon.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
