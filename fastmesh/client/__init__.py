"""A Python client of the daemon: NDJSON, SSE and WebSocket, resumed by itself.  ``Client`` is for asyncio,
``SyncClient`` for everything else."""

# ruff: noqa: I001  (it would give each name a statement of its own)
from fastmesh.client.client import Client as Client
from fastmesh.client.errors import (
    ClientError as ClientError,
    ConnectionLost as ConnectionLost,
    FrameTooLarge as FrameTooLarge,
)
from fastmesh.client.errors import ProtocolViolation as ProtocolViolation
from fastmesh.client.errors import Refused as Refused, StreamLost as StreamLost, Unreachable as Unreachable
from fastmesh.client.frames import Completion as Completion, Document as Document, Error as Error, Frame as Frame
from fastmesh.client.frames import Gap as Gap, Heartbeat as Heartbeat, Link as Link, Media as Media
from fastmesh.client.frames import Metadata as Metadata, Page as Page, PageError as PageError, Progress as Progress
from fastmesh.client.frames import Result as Result, Search as Search, SearchResult as SearchResult
from fastmesh.client.frames import StreamFailure as StreamFailure, Summary as Summary
from fastmesh.client.retry import Retry as Retry
from fastmesh.client.stream import FrameStream as FrameStream
from fastmesh.client.sync import SyncClient as SyncClient, SyncFrames as SyncFrames
