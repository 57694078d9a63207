"""A Python client of the daemon: NDJSON, SSE and WebSocket, resumed by itself.

``Client`` is for asyncio, ``SyncClient`` for everything else.
"""

from __future__ import annotations

from fastmesh.client.client import Client
from fastmesh.client.errors import (
    ClientError,
    ConnectionLost,
    FrameTooLarge,
    ProtocolViolation,
    Refused,
    StreamLost,
    Unreachable,
)
from fastmesh.client.frames import (
    Completion,
    Document,
    Error,
    Frame,
    Gap,
    Heartbeat,
    Link,
    Media,
    Metadata,
    Page,
    PageError,
    Progress,
    Result,
    Search,
    SearchResult,
    StreamFailure,
    Summary,
)
from fastmesh.client.retry import Retry
from fastmesh.client.stream import FrameStream
from fastmesh.client.sync import SyncClient, SyncFrames

__all__ = [
    "Client",
    "ClientError",
    "Completion",
    "ConnectionLost",
    "Document",
    "Error",
    "Frame",
    "FrameStream",
    "FrameTooLarge",
    "Gap",
    "Heartbeat",
    "Link",
    "Media",
    "Metadata",
    "Page",
    "PageError",
    "Progress",
    "ProtocolViolation",
    "Refused",
    "Result",
    "Retry",
    "Search",
    "SearchResult",
    "StreamFailure",
    "StreamLost",
    "Summary",
    "SyncClient",
    "SyncFrames",
    "Unreachable",
]
