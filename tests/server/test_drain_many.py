"""SIGTERM with 500 open streams on all three protocols, of which 100 are not read."""

from __future__ import annotations

import base64
import os
import resource
import selectors
import signal
import socket
import time

import pytest
from daemons import PATIENCE_S, Daemon

DRAIN_S = 6.0
READ, UNREAD = 400, 100
SLOW = "frames=1000000000&rate=5"
GREEDY = "frames=1000000000"


@pytest.fixture(autouse=True)
def _files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4096:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))


def asked(daemon: Daemon, protocol: str, query: str, *, receive_buffer: int | None = None) -> socket.socket:
    """A connection that has asked for a firehose."""
    peer = daemon.connect(receive_buffer=receive_buffer)
    upgrade = {}
    if protocol == "ws":
        key = base64.b64encode(os.urandom(16)).decode()
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": key}
        upgrade |= {"Sec-WebSocket-Version": "13"}
    peer.send(peer.request("GET", f"/firehose/{protocol}?{query}", **upgrade))
    return peer.sock


class Readers:
    """Connections that are read side by side."""

    def __init__(self, socks: list[socket.socket]) -> None:
        self.tails = dict.fromkeys(socks, b"")
        self.ended: set[socket.socket] = set()
        self._selector = selectors.DefaultSelector()
        for sock in socks:
            self._selector.register(sock, selectors.EVENT_READ)

    def read(self, timeout_s: float) -> None:
        """Take what is there."""
        for key, _ in self._selector.select(timeout_s):
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            data = sock.recv(65_536)
            self.tails[sock] = (self.tails[sock] + data)[-4096:]
            if not data:
                self._selector.unregister(sock)
                self.ended.add(sock)

    def close(self) -> None:
        """Nothing more is read."""
        self._selector.close()


def test_every_stream_that_is_read_is_told_shutdown_and_the_end_is_0_within_the_deadline() -> None:
    protocols = ("stream", "sse", "ws")
    with Daemon(FIREHOSE__ENABLED="true", SERVER__DRAIN_TIMEOUT_S=DRAIN_S) as daemon:
        for at in range(UNREAD):
            asked(daemon, protocols[at % 3], GREEDY, receive_buffer=4096)
        readers = Readers([asked(daemon, protocols[at % 3], SLOW) for at in range(READ)])
        try:
            until = time.monotonic() + PATIENCE_S
            while not all(b'"type":"result"' in tail for tail in readers.tails.values()):
                assert time.monotonic() < until
                readers.read(0.1)
            assert daemon.metric("fastmesh_streaming_active_streams") == READ + UNREAD
            begun = time.monotonic()
            daemon.process.send_signal(signal.SIGTERM)
            while len(readers.ended) < READ:
                assert time.monotonic() < until
                readers.read(0.1)
            assert daemon.process.wait(PATIENCE_S) == 0
            assert time.monotonic() - begun < DRAIN_S + 10  # the rest is the end of its workers
            untold = [tail for tail in readers.tails.values() if b'"type":"summary"' not in tail]
            assert untold == []
            assert all(b'"status":"shutdown"' in tail for tail in readers.tails.values())
            sockets = [tail for tail in readers.tails.values() if tail.rfind(b"\x88") > tail.rfind(b'"summary"')]
            assert len(sockets) == READ // 3
            assert all(tail[tail.rfind(b"\x88") + 2 :][:2] == (1001).to_bytes(2, "big") for tail in sockets)
        finally:
            readers.close()
        assert "Traceback" not in daemon.stderr()
