"""One connection that brings frames, in each of the three protocols.  A connection knows nothing of numbers, resuming
or patience: it gives the frames as they come, until it ends or breaks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

import orjson
from aiohttp import ClientResponse, ClientWebSocketResponse, WSMsgType

from fastmesh.client.decode import frame_of, parse_object, read_frame
from fastmesh.client.errors import ConnectionLost, FrameTooLarge, ProtocolViolation
from fastmesh.client.frames import Frame
from fastmesh.client.framing import MAX_FRAME_BYTES, NdjsonParser, SseParser
from fastmesh.client.http import Http, Query
from fastmesh.client.refusals import refusal_of
from fastmesh.client.sequence import stream_path

TOLD_TO_A_CONNECTION = frozenset({"welcome", "ack", "status", "pong", "error"})
COMMAND_ID = "subscribe"  # one command is all that a connection sends


class Connection(ABC):
    """What a stream is read from."""

    over = False  # the daemon said that nothing follows
    retry_s = 0.0  # how long the daemon wants to be left alone after a break

    @abstractmethod
    async def receive(self) -> Iterable[Frame] | None:
        """The next frames, at least one; None at the connection's end.  They are read as they are iterated, which may
        raise ProtocolViolation.  Raises ConnectionLost, Refused and ProtocolViolation."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of it."""


class BodyConnection(Connection):
    """The body of a response, in one of the two framings that HTTP has."""

    content_type: ClassVar[str]

    def __init__(self, http: Http, response: ClientResponse) -> None:
        self.over = response.status == 204
        self._http = http
        self._response = response
        if response.status == 200 and response.content_type != self.content_type:
            got = response.content_type[:100]
            response.close()
            raise ProtocolViolation(
                f"the answer is {got!r} and not {self.content_type!r}: no fastmesh daemon answers there"
            )
        if response.status not in (200, 204):
            response.close()
            raise ProtocolViolation(f"a stream was answered with status {response.status}")

    async def receive(self) -> Iterable[Frame] | None:
        while data := await self._http.read(self._response):
            if payloads := self._payloads(data):
                return map(read_frame, payloads)
        return None

    async def close(self) -> None:
        self._response.close()

    @abstractmethod
    def _payloads(self, data: bytes) -> list[bytes]:
        """The frames that *data* completes, as JSON."""


class NdjsonConnection(BodyConnection):
    """A body of lines."""

    content_type = "application/x-ndjson"

    def __init__(self, http: Http, response: ClientResponse) -> None:
        super().__init__(http, response)
        self._parser = NdjsonParser()

    def _payloads(self, data: bytes) -> list[bytes]:
        return self._parser.feed(data)


class SseConnection(BodyConnection):
    """A body of server-sent events."""

    content_type = "text/event-stream"

    def __init__(self, http: Http, response: ClientResponse) -> None:
        super().__init__(http, response)
        self._parser = SseParser()

    def _payloads(self, data: bytes) -> list[bytes]:
        events = self._parser.feed(data)
        self.retry_s = (self._parser.retry_ms or 0) / 1000
        return [event.data for event in events]


class WebSocketConnection(Connection):
    """A WebSocket that brings one stream: by itself, or because it is subscribed to."""

    def __init__(self, http: Http, socket: ClientWebSocketResponse[bool]) -> None:
        self._http = http
        self._socket = socket

    async def subscribe(self, stream_id: str, after: int | None) -> None:
        """Ask for *stream_id*; what is answered comes to receive()."""
        command: dict[str, Any] = {"type": "subscribe", "id": COMMAND_ID, "stream_id": stream_id}
        if after is not None:
            command["after"] = after
        with self._http.typed_faults():
            await self._socket.send_str(orjson.dumps(command).decode())

    async def receive(self) -> Iterable[Frame] | None:
        while True:
            message = await self._http.receive(self._socket)
            match message.type:
                case WSMsgType.TEXT:
                    raw = parse_object(message.data)
                    if raw.get("type") not in TOLD_TO_A_CONNECTION or "seq" in raw:
                        return (frame_of(raw, message.data),)
                    if self._told(raw):
                        return None
                case WSMsgType.PING:
                    with self._http.typed_faults():
                        await self._socket.pong(message.data)
                case WSMsgType.PONG:
                    pass
                case WSMsgType.BINARY:
                    raise ProtocolViolation("a binary message came")
                case WSMsgType.ERROR:
                    code = getattr(message.data, "code", None)
                    raise (
                        FrameTooLarge(MAX_FRAME_BYTES)
                        if code == 1009
                        else ProtocolViolation(f"what came is not WebSocket: {message.data}")
                    )
                case _:
                    raise ConnectionLost(f"the WebSocket was closed with {self._socket.close_code}")

    async def close(self) -> None:
        await self._socket.close()

    def _told(self, raw: dict[str, Any]) -> bool:
        """Take what concerns the connection; return whether nothing follows."""
        if raw["type"] == "error":
            refusal = refusal_of(None, raw.get("error"), {})
            if raw.get("id") == COMMAND_ID:
                raise refusal
            # Not about what was asked for: the subscription is over, as for a slow client.
            raise ConnectionLost(f"the daemon ended the subscription: {refusal.type}: {refusal.message}")
        self.over = raw["type"] == "ack" and raw.get("complete") is True
        return self.over


BODIES: Final[Mapping[str, type[BodyConnection]]] = {"ndjson": NdjsonConnection, "sse": SseConnection}


async def attached(http: Http, protocol: str, stream_id: str, after: int | None) -> Connection:
    """A connection that brings the frames of *stream_id* after frame *after*; None: all, as one that only watches.
    Raises ConnectionLost, Refused and ProtocolViolation."""
    if protocol == "ws":
        connection = WebSocketConnection(http, await http.websocket("/crawl/ws"))
        try:
            await connection.subscribe(stream_id, after)
        except BaseException:
            await connection.close()
            raise
        return connection
    body = BODIES[protocol]
    headers = {"Accept": body.content_type}
    query: Query = ()
    if protocol == "sse" and after:
        headers["Last-Event-ID"] = f"{stream_id}:{after}"
    elif after is not None:
        query = (("after", str(after)),)
    return body(http, await http.open("GET", f"{stream_path(stream_id)}/events", query=query, headers=headers))
