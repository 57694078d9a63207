"""A request as the endpoints see it, what they may answer, and the routes that lead to them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from fastmesh.api.access.tickets import Ticket
from fastmesh.streaming.pipeline import StreamingPipeline
from fastmesh.streaming.ports import Sink
from fastmesh.streaming.subscriber import Subscriber
from fastmesh.telemetry.trace import Trace
from fastmesh.wire.encoders import Encoder
from fastmesh.wire.http1 import Request


@dataclass(frozen=True, slots=True)
class Call:
    """A request, and what is known of its sender."""

    request: Request
    request_id: str
    client: str | None  # that its streams belong to: of a token, else of an address; None: of this machine
    local_address: str  # the address it arrived at; empty on a Unix socket
    connection: int = 0  # the number of the one it came over
    trace: Trace = field(default_factory=Trace.begin)
    value: str = ""  # what stands in the path where the route has a name in braces
    ticket: Ticket | None = None  # when it was shown in place of a token


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    body: bytes
    content_type: str = "application/json"
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class StreamReply:
    """An answer that is a stream: *attach* lets the sink that it is given read it."""

    encoding: Literal["ndjson", "sse", "json"]  # json: the whole stream as one document
    attach: Callable[[Encoder, Sink], Subscriber]


@dataclass(frozen=True, slots=True)
class SocketReply:
    """An answer that is a WebSocket; *open* gives the stream that runs on it from the start, if there is one."""

    open: Callable[[], StreamingPipeline | None]


Answer = Reply | StreamReply | SocketReply
# One that has to wait for what it answers returns an awaitable: it is cancelled when the client leaves.
Handler = Callable[[Call], Answer | Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path."""

    name: str  # the path as it is documented: a metric's label; "{…}" stands for one segment
    method: str
    handler: Handler
    health: bool = False  # may be read by any page, and without a token
    ticket: bool = False  # a browser asks here that can set no header
    socket: bool = False  # opens a WebSocket
