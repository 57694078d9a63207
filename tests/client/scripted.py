"""A server that plays the daemon for one stream, byte by byte as a test says.

    async with Script(FRAMES, cuts=[100]) as script:
        async with Client(script.address) as client: ...

Its connections are real; the first of them ends after 100 bytes, the second is
whole.  It keeps what was asked, and starts a crawl only for a key that is new.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import socket
import struct
import tempfile
import threading
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import parse_qsl

from doubles import TurnedLoop

T = TypeVar("T")
STREAM = "n1-0123456789abcdef"


def run(work: Coroutine[Any, Any, T]) -> T:
    """What *work* returns, on a clock that jumps where nothing happens."""
    with asyncio.Runner(loop_factory=TurnedLoop) as runner:
        return runner.run(work)


# ── frames ───────────────────────────────────────────────────────────────────────────────


def metadata(total: int = 2, stream_id: str = STREAM) -> dict[str, Any]:
    return {
        "type": "metadata", "stream_id": stream_id, "seq": 1, "request_id": "r", "timestamp": "2026-01-01T00:00:00Z",
        "stream_type": "crawl", "total_urls": total,
    }  # fmt: skip


def result(seq: int, *, failed: bool = False, text: str = "w") -> dict[str, Any]:
    page: dict[str, Any] = {
        "url": f"http://x/{seq}", "final_url": None, "status": 200, "content_type": None, "from_cache": False,
        "fetched_at": None, "gate_decision": None, "quality_score": None, "processing_time_ms": 1, "attempts": 1,
        "bytes": 1, "cache_key": None, "document": None, "error": None,
    }  # fmt: skip
    if failed:
        page |= {"status": 0, "error": {"type": "dns", "message": "no such name", "retryable": True}}
    else:
        page["document"] = {"title": "é", "text": text, "links": None, "word_count": 1, "reading_time_min": 1}
    return {
        "type": "result", "stream_id": STREAM, "seq": seq, "index": seq - 2, "result": page,
        "progress": {"completed": seq - 1, "total": 2, "success_rate": 1.0},
    }  # fmt: skip


def summary(seq: int, *, failed: int = 0, status: str = "completed") -> dict[str, Any]:
    total = seq - 2
    return {
        "type": "summary", "stream_id": STREAM, "seq": seq, "status": status, "total_urls": total,
        "successful": total - failed, "failed": failed, "cancelled": 0, "unfinished": [], "from_cache": 0,
        "total_processing_time_ms": 5, "cache_hit_rate": 0.0, "throughput_per_second": 1.0,
    }  # fmt: skip


def heartbeat() -> dict[str, Any]:
    return {"type": "heartbeat", "stream_id": STREAM, "timestamp": "2026-01-01T00:00:00Z"}


def gap(first: int, last: int) -> dict[str, Any]:
    return {"type": "gap", "stream_id": STREAM, "from_seq": first, "to_seq": last, "reason": "slow_client"}


FRAMES = [metadata(), result(2), result(3, failed=True), summary(4, failed=1)]


def encoded(frame: dict[str, Any]) -> bytes:
    return json.dumps(frame, separators=(",", ":"), ensure_ascii=False).encode()


# ── answers ──────────────────────────────────────────────────────────────────────────────


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    """A whole response."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *lines, "", ""])
    return head.encode() + body


def refusal(status: int, type_: str, *, retryable: bool = False, **headers: str) -> bytes:
    error = {"type": type_, "message": "because", "retryable": retryable, "status": status, "request_id": "r7"}
    return answer(status, json.dumps({"error": error}).encode(), Content_Type="application/json", **headers)


@dataclass
class Asked:
    """One request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    connection: int
    at_s: float


class Cut(Exception):
    """The connection has had its bytes."""


@dataclass
class Wire:
    """A connection that ends after *left* bytes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int
    left: int | None

    async def send(self, data: bytes) -> None:
        part = data if self.left is None else data[: self.left]
        self.writer.write(part)
        await self.writer.drain()
        if self.left is not None:
            self.left -= len(part)
            if len(part) < len(data):
                raise Cut


@dataclass
class Script:
    """The server; see the module.

    *cuts* are the bytes of the first connections, None for all.  *answers* go out
    first, whole, whatever is asked; ``None`` among them says nothing and keeps the connection.
    *silent_after* frames nothing follows, but the connection stays.  *told* are extra frames, by
    the seq before which they are sent.
    """

    frames: list[dict[str, Any]] = field(default_factory=lambda: FRAMES)
    cuts: Sequence[int | None] = ()
    answers: list[bytes | None] = field(default_factory=list)
    silent_after: int | None = None
    told: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    sse_retry: bytes = b""
    tcp: bool = False

    asked: list[Asked] = field(default_factory=list)
    started: dict[str, bytes] = field(default_factory=dict)
    cancelled: int = 0
    was_cut: int = 0
    sent: int = 0  # frames
    commands: list[dict[str, Any]] = field(default_factory=list)
    pongs: int = 0
    closed: int = 0  # connections that their client ended
    connections: int = 0
    address: str = ""
    on_cancel: asyncio.Event = field(default_factory=asyncio.Event)
    hold_before: int | None = None  # the frame that waits for a cancel

    async def __aenter__(self) -> Self:
        self._tasks: set[asyncio.Task[None]] = set()
        if self.tcp:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self.address = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        else:
            self._home = tempfile.TemporaryDirectory()
            path = Path(self._home.name) / "s"
            self._server = await asyncio.start_unix_server(self._serve, path)
            self.address = f"unix:{path}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        if not self.tcp:
            self._home.cleanup()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        number, self.connections = self.connections, self.connections + 1
        left = self.cuts[number] if number < len(self.cuts) else None
        try:
            with suppress(asyncio.CancelledError):
                await self._talk(Wire(reader, writer, number, left))
        except Cut:
            self.was_cut += 1
        except (ConnectionError, asyncio.IncompleteReadError):
            self.closed += 1
        finally:
            self._tasks.discard(task)
            writer.close()
            with suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _talk(self, wire: Wire) -> None:
        while True:
            asked = await self._read(wire)
            self.asked.append(asked)
            if self.answers:
                data = self.answers.pop(0)
                if data is None:
                    await wire.reader.read()
                    return
                await wire.send(data)
            else:
                await self._answer(wire, asked)

    async def _read(self, wire: Wire) -> Asked:
        head = (await wire.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        method, target, _ = first.split(" ")
        path, _, query = target.partition("?")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        body = await wire.reader.readexactly(int(headers.get("content-length", 0)))
        now_s = asyncio.get_running_loop().time()
        return Asked(method, path, dict(parse_qsl(query)), headers, body, wire.number, now_s)

    async def _answer(self, wire: Wire, asked: Asked) -> None:
        key = asked.headers.get("idempotency-key")
        opens = asked.method == "POST" or asked.path.startswith("/firehose")
        if opens:
            assert key is not None
            assert self.started.setdefault(key, asked.body) == asked.body
        match asked.method, asked.path:
            case "POST", "/streams":
                await wire.send(answer(201, encoded({"stream_id": STREAM}), Content_Type="application/json"))
            case "GET", "/crawl/ws" | "/firehose/ws":
                await self._websocket(wire, asked)
            case "GET", "/streams":
                await wire.send(answer(200, encoded({"streams": [{"stream_id": STREAM}]})))
            case "DELETE", _:
                self.cancelled += 1
                self.on_cancel.set()
                await wire.send(answer(200, encoded({"stream_id": STREAM, "state": "closing"})))
            case "GET", path if path == f"/streams/{STREAM}":
                await wire.send(answer(200, encoded({"stream_id": STREAM})))
            case _, path if path.endswith(("/stream", "/sse")) or path == f"/streams/{STREAM}/events":
                await self._stream(wire, asked)
            case _:
                await wire.send(refusal(404, "not_found"))

    async def _stream(self, wire: Wire, asked: Asked) -> None:
        sse = asked.path.endswith("/sse") or asked.headers["accept"] == "text/event-stream"
        after = int(asked.query.get("after", 0))
        if "last-event-id" in asked.headers:
            stream_id, _, seq = asked.headers["last-event-id"].rpartition(":")
            assert stream_id == STREAM
            after = int(seq)
        if after >= len(self.frames):
            await wire.send(b"HTTP/1.1 204 Over\r\n\r\n")
            return
        kind = "text/event-stream" if sse else "application/x-ndjson"
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nX-Stream-ID: {STREAM}\r\nTransfer-Encoding: chunked\r\n\r\n"
        await wire.send(head.encode())
        if sse and self.sse_retry:
            await wire.send(_chunk(b"retry: " + self.sse_retry + b"\n\n"))
        async for frame in self._frames(wire, after):
            data = encoded(frame)
            if sse:
                event_id = f"id: {STREAM}:{frame['seq']}\n".encode() if "seq" in frame else b""
                data = b"event: %s\n%sdata: %s\n\n" % (frame["type"].encode(), event_id, data)
            else:
                data += b"\n"
            await wire.send(_chunk(data))
        await wire.send(b"0\r\n\r\n")

    async def _frames(self, wire: Wire, after: int) -> Any:
        for at, frame in enumerate(self.frames):
            seq = at + 1
            if seq <= after:
                continue
            if self.silent_after is not None and at >= self.silent_after:
                self.silent_after = None
                await wire.reader.read()
                raise ConnectionResetError
            if self.hold_before == seq:
                await self.on_cancel.wait()
            for extra in self.told.get(seq, ()):
                yield extra
            yield frame
            self.sent += 1

    # ── WebSocket ────────────────────────────────────────────────────────────────────────

    async def _websocket(self, wire: Wire, asked: Asked) -> None:
        key = asked.headers["sec-websocket-key"]
        accept = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()
        await wire.send(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: fastmesh.v1\r\n\r\n".encode()
        )
        await wire.send(text({"type": "welcome", "protocol_version": "1", "session_id": "s", "operations": []}))
        after = 0
        if asked.path == "/crawl/ws":
            opcode, payload = await read_message(wire.reader)
            assert opcode == 1, opcode
            command = json.loads(payload)
            self.commands.append(command)
            assert (command["type"], command["stream_id"]) == ("subscribe", STREAM)
            after = command.get("after", 0)
            complete = {"complete": True} if after >= len(self.frames) else {}
            await wire.send(text({"type": "ack", "id": command["id"], "stream_id": STREAM, **complete}))
        async for frame in self._frames(wire, after):
            await wire.send(text(frame))
        await self._until_closed(wire)

    async def _until_closed(self, wire: Wire) -> None:
        while True:
            opcode, payload = await read_message(wire.reader)
            if opcode == 10:
                self.pongs += 1
            if opcode == 8:
                await wire.send(message(8, payload))
                raise ConnectionResetError


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def message(opcode: int, payload: bytes) -> bytes:
    """A WebSocket frame as servers send it."""
    size = len(payload)
    if size < 126:
        return bytes([0x80 | opcode, size]) + payload
    if size < 65_536:
        return bytes([0x80 | opcode, 126]) + struct.pack("!H", size) + payload
    return bytes([0x80 | opcode, 127]) + struct.pack("!Q", size) + payload


def text(frame: dict[str, Any]) -> bytes:
    return message(1, encoded(frame))


async def read_message(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """One short masked message of a client."""
    first, second = await reader.readexactly(2)
    size = second & 0x7F
    if size == 126:
        (size,) = struct.unpack("!H", await reader.readexactly(2))
    mask = await reader.readexactly(4)
    masked = await reader.readexactly(size)
    return first & 0x0F, bytes(byte ^ mask[at % 4] for at, byte in enumerate(masked))


class ScriptThread:
    """A Script on a TCP port, in a thread, for what has no loop of its own."""

    def __init__(self, kind: type[Script] = Script, **script: Any) -> None:
        self.script = kind(tcp=True, **script)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Script:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.script.__aenter__(), self._loop).result()
        return self.script

    def __exit__(self, *exc: object) -> None:
        asyncio.run_coroutine_threadsafe(self.script.__aexit__(None, None, None), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
