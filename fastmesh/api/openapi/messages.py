"""What a WebSocket tells one connection, beside the frames of its streams, as types."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from fastmesh.api.openapi.frames import Count, StreamId
from fastmesh.errors import ApiError, types_of
from fastmesh.streaming.lifecycle import State


class Welcome(TypedDict):
    """The first message."""

    type: Literal["welcome"]
    protocol_version: Literal["fastmesh.v1"]
    session_id: str
    operations: list[str]


class Ack(TypedDict):
    """A command was carried out."""

    type: Literal["ack"]
    id: str
    stream_id: StreamId
    complete: NotRequired[Annotated[bool, Field(description="true: the stream is over, and all of it was read")]]
    cut_off: NotRequired[
        Annotated[Literal["slow_client"], Field(description="why a WebSocket that read the stream before was cut off")]
    ]


class Pong(TypedDict):
    """The answer to ping."""

    type: Literal["pong"]
    id: str


class SubscriptionStatus(TypedDict):
    """How far one subscription of the connection is."""

    stream_id: StreamId
    state: State
    last_seq: Count
    sent_seq: Count
    capacity: Count
    unread: Count
    held: bool


class StatusMessage(TypedDict):
    """The answer to status."""

    type: Literal["status"]
    id: str
    streams: list[SubscriptionStatus]


class CommandFailure(TypedDict):
    """Why a command failed."""

    type: Annotated[str, Field(json_schema_extra={"enum": [*types_of(ApiError), "slow_client"]})]
    message: str
    retryable: bool
    field: NotRequired[str]
    retry_after_s: NotRequired[Count]


class CommandError(TypedDict):
    """A command failed, or a subscription ended because its reader was too slow."""

    type: Literal["error"]
    id: NotRequired[str]
    stream_id: NotRequired[StreamId]
    error: CommandFailure


Message = Welcome | Ack | Pong | StatusMessage | CommandError
