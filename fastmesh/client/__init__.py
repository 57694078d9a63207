"""A Python client of the daemon: NDJSON, SSE and WebSocket, resumed by itself.

``Client`` is for asyncio, ``SyncClient`` for everything else.
"""

# ruff: noqa: I001  (it would give each name an import statement of its own)
from fastmesh.client.client import Client as Client
from fastmesh.client.errors import (
    ClientError as ClientError,
    ConnectionLost as ConnectionLost,
    FrameTooLarge as FrameTooLarge,
    ProtocolViolation as ProtocolViolation,
    Refused as Refused,
    StreamLost as StreamLost,
    Unreachable as Unreachable,
)
from fastmesh.client.frames import (
    Completion as Completion,
    Document as Document,
    Error as Error,
    Frame as Frame,
    Gap as Gap,
    Heartbeat as Heartbeat,
    Link as Link,
    Media as Media,
    Metadata as Metadata,
    Page as Page,
    PageError as PageError,
    Progress as Progress,
    Result as Result,
    Search as Search,
    SearchResult as SearchResult,
    StreamFailure as StreamFailure,
    Summary as Summary,
)
from fastmesh.client.retry import Retry as Retry
from fastmesh.client.stream import FrameStream as FrameStream
from fastmesh.client.sync import SyncClient as SyncClient, SyncFrames as SyncFrames
