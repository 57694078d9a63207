"""Readers of one stream over each protocol, that give every frame as the text it came as.

with attached(daemon, "sse", stream_id, after=3) as reader:
    frames = [json.loads(text) for text in reader]
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Self

from daemons import PATIENCE_S, Daemon, Peer, Response
from websockets.sync.client import ClientConnection, connect

PROTOCOLS = ("ndjson", "sse", "ws")
ACCEPT = {"ndjson": "application/x-ndjson", "sse": "text/event-stream"}


class Reader:
    """Iterates the frames' texts; the stream ends with the summary, or with the connection."""

    def __iter__(self) -> Iterator[bytes]:
        return self.texts()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @abstractmethod
    def texts(self) -> Iterator[bytes]:
        """The frames as they come."""

    @abstractmethod
    def close(self) -> None:
        """Leave."""

    def frames(self) -> list[dict[str, Any]]:
        """All that are left."""
        return [json.loads(text) for text in self]


@dataclass
class Event:
    """One event of text/event-stream as it was written: no field is made up."""

    event: str = ""
    data: bytes = b""
    id: str | None = None
    retry: str | None = None


def events(peer: Peer) -> Iterator[Event | str]:
    """The events of a chunked response; a comment comes as a string."""
    text, event = b"", Event()
    for chunk in peer.chunks():
        *lines, text = (text + chunk).split(b"\n")
        for line in lines:
            name, _, value = line.partition(b": ")
            match name:
                case b"":
                    if line:
                        yield value.decode()
                    elif event != Event():
                        yield event
                        event = Event()
                case b"event":
                    event.event = value.decode()
                case b"data":
                    assert event.data == b"", "data of two lines"
                    event.data = value
                case b"id":
                    event.id = value.decode()
                case b"retry":
                    event.retry = value.decode()
                case _:
                    raise AssertionError(f"a line that no event has: {line!r}")
    assert text == b""


class NdjsonReader(Reader):
    """Lines of a response whose head was read."""

    def __init__(self, peer: Peer, head: Response) -> None:
        assert (head.status, head.headers["content-type"]) == (200, ACCEPT["ndjson"]), head
        self.peer, self.head = peer, head

    def texts(self) -> Iterator[bytes]:
        """See Reader."""
        for chunk in self.peer.chunks():
            assert chunk.endswith(b"\n")
            yield from chunk.splitlines()

    def close(self) -> None:
        """See Reader."""
        self.peer.sock.close()


class SseReader(NdjsonReader):
    """Events of a response whose head was read; every id and type is held against its frame."""

    def __init__(self, peer: Peer, head: Response) -> None:
        assert (head.status, head.headers["content-type"]) == (200, ACCEPT["sse"]), head
        self.peer, self.head = peer, head

    def texts(self) -> Iterator[bytes]:
        """See Reader."""
        for event in events(self.peer):
            if isinstance(event, str):
                continue
            frame = json.loads(event.data)
            assert event.event == frame["type"]
            assert event.id == (f"{frame['stream_id']}:{frame['seq']}" if "seq" in frame else None)
            yield event.data


class WsReader(Reader):
    """Messages of a subscription."""

    def __init__(self, opening: AbstractContextManager[ClientConnection]) -> None:
        self._opening = opening
        self.socket = opening.__enter__()
        self.told: list[dict[str, Any]] = []  # what is no frame of the stream

    def texts(self) -> Iterator[bytes]:
        """See Reader."""
        while True:
            text = self.socket.recv(PATIENCE_S, decode=False)
            frame = json.loads(text)
            if "id" in frame or frame["type"] == "welcome":
                self.told.append(frame)
                if frame["type"] == "error" or frame.get("complete"):
                    return
                continue
            yield text
            if frame["type"] == "summary":
                return

    def close(self) -> None:
        """See Reader."""
        self._opening.__exit__(None, None, None)


def websocket(daemon: Daemon, path: str = "/crawl/ws", **given: Any) -> AbstractContextManager[ClientConnection]:
    """A WebSocket to *daemon* that answers its pings; to be entered."""
    given = {"proxy": None, "subprotocols": ["fastmesh.v1"], "max_size": None, "compression": None} | given
    return connect(f"ws://{daemon.host}{path}", open_timeout=PATIENCE_S, close_timeout=1, **given)


def attached(
    daemon: Daemon,
    protocol: str,
    stream_id: str,
    after: int | None = None,
    *,
    receive_buffer: int | None = None,
) -> Reader:
    """A reader of a stream that was opened."""
    if protocol == "ws":
        given: dict[str, Any] = {}
        if receive_buffer is not None:
            given["sock"] = daemon.connect(receive_buffer=receive_buffer).sock
        reader = WsReader(websocket(daemon, **given))
        position = {} if after is None else {"after": after}
        reader.socket.send(json.dumps({"type": "subscribe", "id": "s", "stream_id": stream_id, **position}))
        return reader
    peer = daemon.connect(receive_buffer=receive_buffer)
    query = "" if after is None else f"?after={after}"
    peer.send(peer.request("GET", f"/streams/{stream_id}/events{query}", Accept=ACCEPT[protocol]))
    return (NdjsonReader if protocol == "ndjson" else SseReader)(peer, peer.head())
