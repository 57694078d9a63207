"""What a WebSocketMachine tells: messages, pings, pongs and the end."""

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
    """Wants a pong with the same payload; of many in a call only the last ones are told."""

    payload: bytes


@dataclass(slots=True)
class Pong:
    """The answer to a ping of ours, or a sign of life."""

    payload: bytes


@dataclass(slots=True)
class Ended:
    """The connection is over: *reply* is the close frame to send, and nothing that comes is read any more.

    It comes alone, in a call of its own, so that all before it can be answered first.
    """

    code: int
    reason: str
    reply: bytes


Event = Text | Binary | Ping | Pong | Ended
