"""A WebSocket client that sends what it is told to, byte for byte: frames masked by hand, and broken ones."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from daemons import Daemon, Peer

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
MASK = b"\x37\xfa\x21\x3d"


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes | None = MASK) -> bytes:
    """A client's frame; without *mask* a server's."""
    bit = 0 if mask is None else 0x80
    length = len(payload)
    if length < 126:
        head = bytes((fin << 7 | rsv << 4 | opcode, bit | length))
    elif length < 65536:
        head = bytes((fin << 7 | rsv << 4 | opcode, bit | 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((fin << 7 | rsv << 4 | opcode, bit | 127)) + length.to_bytes(8, "big")
    return head + payload if mask is None else head + mask + masked(payload, mask)


def masked(payload: bytes, mask: bytes = MASK) -> bytes:
    """*payload* as it travels."""
    if not payload:
        return b""
    key = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(len(payload), "big")


def closing(code: int, reason: bytes = b"") -> bytes:
    """The payload of a close frame."""
    return code.to_bytes(2, "big") + reason


def deflated(data: bytes) -> bytes:
    """The payload of a compressed message."""
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def handshake(peer: Peer, path: str = "/crawl/ws", **headers: str) -> bytes:
    """The bytes that ask for a WebSocket."""
    fields = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec_WebSocket_Key": KEY,
        "Sec_WebSocket_Version": "13",
    }
    return peer.request("GET", path, **fields | headers)


@dataclass(frozen=True)
class Frame:
    """What the daemon sent."""

    opcode: int
    payload: bytes

    @property
    def code(self) -> int:
        """Of a close frame."""
        return int.from_bytes(self.payload[:2], "big")


class WebSocket:
    """An open connection; what is sent together with its handshake is *first*."""

    def __init__(
        self,
        daemon: Daemon,
        path: str = "/crawl/ws",
        *,
        first: bytes = b"",
        receive_buffer: int | None = None,
        **headers: str,
    ) -> None:
        self.peer = daemon.connect(receive_buffer=receive_buffer)
        self.peer.send(handshake(self.peer, path, **headers) + first)
        self.response = self.peer.head()
        assert self.response.status == 101, self.peer.rest()
        self.welcome = self.read()
        self._ids = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.peer.sock.close()

    # ── out ──────────────────────────────────────────────────────────────────────────────

    def send(self, *frames: bytes) -> None:
        """Frames as they are, in one write."""
        self.peer.send(b"".join(frames))

    def tell(self, type_: str, **fields: Any) -> str:
        """A command; returns its id."""
        self._ids += 1
        id_ = f"c{self._ids}"
        self.send(frame(TEXT, json.dumps({"type": type_, "id": id_} | fields).encode()))
        return id_

    def ask(self, type_: str, **fields: Any) -> dict[str, Any]:
        """A command and its answer; what comes before it is not of interest."""
        return self.answer(self.tell(type_, **fields))[0]

    # ── in ───────────────────────────────────────────────────────────────────────────────

    def frame(self) -> Frame:
        """The next frame, whatever it is."""
        first, second = self.peer.exactly(2)
        assert first & 0xB0 == 0x80, "a fragment, or reserved bits"
        assert second < 0x80, "a server masks nothing"
        length = second
        if second == 126:
            length = int.from_bytes(self.peer.exactly(2), "big")
            assert length > 125
        elif second == 127:
            length = int.from_bytes(self.peer.exactly(8), "big")
            assert length > 65535
        payload = self.peer.exactly(length)
        if first & 0x40:
            payload = zlib.decompressobj(-15).decompress(payload + b"\x00\x00\xff\xff")
        return Frame(first & 0x0F, payload)

    def read(self) -> dict[str, Any]:
        """The next message; pings are answered."""
        while True:
            got = self.frame()
            if got.opcode == PING:
                self.send(frame(PONG, got.payload))
            else:
                assert got.opcode == TEXT, got
                message: dict[str, Any] = json.loads(got.payload)
                return message

    def answer(self, id_: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The answer to the command *id_*, and what came before it."""
        before = []
        while True:
            message = self.read()
            if message.get("id") == id_:
                return message, before
            before.append(message)

    def stream(self, stream_id: str) -> Iterator[dict[str, Any]]:
        """The frames of a stream to its summary; what belongs to no stream or to another is not of interest."""
        while True:
            message = self.read()
            if message.get("stream_id") == stream_id and "id" not in message:
                yield message
                if message["type"] == "summary":
                    return

    def closed(self) -> tuple[int, str]:
        """Wait for the daemon's close frame, whatever comes before, and for its FIN; return code and reason."""
        while (got := self.frame()).opcode != CLOSE:
            pass
        try:
            self.send(frame(CLOSE, got.payload))
        except ConnectionError:
            pass
        assert self.peer.closed()
        self.peer.sock.close()
        return got.code, got.payload[2:].decode()
