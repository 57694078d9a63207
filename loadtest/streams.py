"""Streams read as they come, by blocking sockets: NDJSON, SSE and WebSocket.

Nothing here knows of locust.  Under its patched sockets each read is a place where other users go on; and as
nothing is read ahead, a user that sleeps between two batches is a slow reader as TCP sees it.
"""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import orjson
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Message, Ping, RejectConnection, Request, TextMessage

from fastmesh.client.framing import NdjsonParser, SseParser

Protocol = Literal["ndjson", "sse", "ws"]
Frame = dict[str, Any]
Body = Mapping[str, Any]

FIREHOSE: Final = {"ndjson": "/firehose/stream", "sse": "/firehose/sse", "ws": "/firehose/ws"}
CRAWL: Final = {"ndjson": "/crawl/stream", "sse": "/crawl/sse", "ws": "/crawl/ws"}
TOLD_TO_A_CONNECTION: Final = frozenset({"welcome", "ack", "pong", "status"})
TIMEOUT_S: Final = 60.0  # heartbeats come every 15 s


class StreamFailed(Exception):
    """The stream was refused, broke, or was not what it should be."""


class Hole(StreamFailed):
    """Frames are missing, or came twice, and no gap said so."""


@dataclass
class Seen:
    """What a reader has had of one stream; it takes every frame, in order."""

    frames: int = 0
    octets: int = 0
    first_byte_at: float = 0.0  # of the first frame; 0 until then
    position: int = 0  # the last seq that was there, or was named by a gap
    gaps: list[int] = field(default_factory=list)  # how many frames each left out
    results: set[int] = field(default_factory=set)
    summary: Frame | None = None

    def take(self, frame: Frame) -> None:
        """See *frame*.  Raises Hole and StreamFailed."""
        kind, seq = frame["type"], frame.get("seq")
        if kind == "gap":
            self._expect(frame["from_seq"], "a gap")
            self.position = frame["to_seq"]
            self.gaps.append(frame["to_seq"] - frame["from_seq"] + 1)
        if seq is None:
            return
        self._expect(seq, f"a {kind} frame")
        if self.summary is not None:
            raise StreamFailed(f"a {kind} frame came after the summary")
        self.position = seq
        self.frames += 1
        if kind == "result":
            if frame["index"] in self.results:
                raise StreamFailed(f"a second result of index {frame['index']}")
            self.results.add(frame["index"])
        elif kind == "summary":
            self.summary = frame

    def ended(self) -> Frame:
        """The stream is over: its summary.  Raises StreamFailed when there was none, or it does not add up."""
        summary = self.summary
        if summary is None:
            raise StreamFailed(f"the stream ended after frame {self.position} without a summary")
        missed = summary["successful"] + summary["failed"] - len(self.results)
        if summary["status"] != "completed" or missed != sum(self.gaps):
            raise StreamFailed(f"{len(self.results)} results, {sum(self.gaps)} left out, and this summary: {summary}")
        return summary

    def _expect(self, seq: int, what: str) -> None:
        if seq != self.position + 1:
            raise Hole(f"{what} with seq {seq} came after {self.position}")


def read(
    host: str,
    protocol: Protocol,
    path: str,
    seen: Seen,
    *,
    body: Body | None = None,
    receive_bytes: int | None = None,
    token: str = "",
) -> Iterator[int]:
    """Read the stream at *host* (its base URL) to its end into *seen*; yields after each batch its frames' number.

    A *body* is a crawl's: posted, or sent as a command.  With *receive_bytes* no more than so many are read at once,
    and the socket's buffer is as small.  A *token* is shown.  Raises StreamFailed, Hole, OSError and HTTPException.
    """
    reader = _messages if protocol == "ws" else _responses
    shown = {"Authorization": f"Bearer {token}"} if token else {}
    for frames in reader(host, protocol, path, seen, body, receive_bytes, shown):
        if frames and not seen.first_byte_at:
            seen.first_byte_at = time.perf_counter()
        for frame in frames:
            seen.take(frame)
        yield len(frames)
        if seen.summary is not None and protocol == "ws":
            break  # the connection itself stays open for other streams
    seen.ended()


def _responses(
    host: str,
    protocol: Protocol,
    path: str,
    seen: Seen,
    body: Body | None,
    receive_bytes: int | None,
    shown: dict[str, str],
) -> Iterator[list[Frame]]:
    """The body of a response, batch by batch."""
    parts = urlsplit(host)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=TIMEOUT_S)
    try:
        connection.connect()
        _bound(connection.sock, receive_bytes)
        text = None if body is None else orjson.dumps(body)
        connection.request("GET" if text is None else "POST", path, text, {"Content-Type": "application/json"} | shown)
        response = connection.getresponse()
        if response.status != 200:
            raise StreamFailed(f"{path}: status {response.status}: {response.read(500)!r}")
        lines, events = NdjsonParser(), SseParser()
        while data := response.read1(receive_bytes or 65_536):
            seen.octets += len(data)
            texts = lines.feed(data) if protocol == "ndjson" else [event.data for event in events.feed(data)]
            yield [orjson.loads(text) for text in texts]
    finally:
        connection.close()


def _messages(
    host: str,
    protocol: Protocol,
    path: str,
    seen: Seen,
    body: Body | None,
    receive_bytes: int | None,
    shown: dict[str, str],
) -> Iterator[list[Frame]]:
    """The stream's messages of a WebSocket, as many as come at once."""
    parts = urlsplit(host)
    if parts.scheme != "http" or parts.hostname is None:
        raise StreamFailed(f"a WebSocket to {host}: want http://host:port")
    with socket.create_connection((parts.hostname, parts.port or 80), TIMEOUT_S) as sock:
        _bound(sock, receive_bytes)
        machine = WSConnection(ConnectionType.CLIENT)
        fields = [(name.encode(), value.encode()) for name, value in shown.items()]
        sock.sendall(machine.send(Request(host=parts.netloc, target=path, extra_headers=fields)))
        begun = ""
        while data := sock.recv(receive_bytes or 65_536):
            seen.octets += len(data)
            machine.receive_data(data)
            frames: list[Frame] = []
            for event in machine.events():
                match event:
                    case AcceptConnection() if body is not None:
                        command = orjson.dumps({"type": "crawl", "id": "crawl", **body}).decode()
                        sock.sendall(machine.send(Message(data=command)))
                    case TextMessage(data=text, message_finished=whole):
                        begun += text
                        if whole:
                            frames += _told_to_streams(orjson.loads(begun))
                            begun = ""
                    case Ping():
                        sock.sendall(machine.send(event.response()))
                    case RejectConnection(status_code=status):
                        raise StreamFailed(f"{path}: status {status}")
                    case CloseConnection(code=code):
                        yield frames
                        if seen.summary is None:
                            raise StreamFailed(f"{path}: closed with {code}")
                        return
            yield frames


def _told_to_streams(frame: Frame) -> list[Frame]:
    if frame["type"] == "error" and "seq" not in frame:
        raise StreamFailed(f"a command was refused: {frame}")
    return [] if frame["type"] in TOLD_TO_A_CONNECTION else [frame]


def _bound(sock: socket.socket, receive_bytes: int | None) -> None:
    if receive_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
