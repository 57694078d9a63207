"""The commands of a WebSocket, as models: what the messages of a client hold."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fastmesh.api.requests.bodies import CrawlRequest
from fastmesh.api.requests.model import MAX_INTEGER, Strict, Whole


class Command(Strict):
    """What every command has."""

    type: str
    id: str


class CrawlCommand(CrawlRequest):
    """Opens a stream and subscribes to it."""

    type: Literal["crawl"]
    id: str


class Subscribe(Command):
    """Reads a stream, from its first kept frame or behind the frame *after*."""

    stream_id: str
    after: Annotated[int, Field(ge=-MAX_INTEGER, le=MAX_INTEGER), Whole] | None = None


class OfStream(Command):
    """A command that only names a stream."""

    stream_id: str
