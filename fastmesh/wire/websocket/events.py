"""The events that a WebSocketMachine reads out of a connection's bytes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Text:
    """A whole message, as valid UTF-8."""

    data: bytes


@dataclass(slots=True)
class Binary:
    """A whole message of bytes."""

    data: bytes


@dataclass(slots=True)
class Ping:
    """The peer wants a pong with this payload; of many pings in a call only the last ones are told."""

    payload: bytes


@dataclass(slots=True)
class Pong:
    """The answer to a ping that the machine made, or a sign of life that nobody asked for."""

    payload: bytes


@dataclass(slots=True)
class Ended:
    """The connection is over: *reply* is the close frame to send, and no byte behind is read.

    It is the only event of its call, so that those before it can be answered first.
    """

    code: int
    reason: str
    reply: bytes


Event = Text | Binary | Ping | Pong | Ended
