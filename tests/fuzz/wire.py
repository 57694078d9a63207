"""Targets: what a client of the daemon sends."""

from __future__ import annotations

import tempfile
from collections.abc import Hashable
from pathlib import Path

from pydantic import BaseModel

from fastmesh.api.access import _tickets
from fastmesh.api.schema import (
    CrawlQuery,
    CrawlRequest,
    DeepSearchRequest,
    EventsQuery,
    FirehoseQuery,
    KeyQuery,
    WholeCrawlRequest,
    pairs_of,
    read_body,
    read_query,
)
from fastmesh.api.session import _COMMANDS as COMMANDS
from fastmesh.api.tokens import Tokens
from fastmesh.errors import ApiError, ConfigError
from fastmesh.trace import Trace
from fastmesh.wire.handshake import upgrade
from fastmesh.wire.http1 import HttpParser, Request
from fastmesh.wire.websocket import BoundedDeflate, Limits, Text, WebSocketMachine

from .budget import Target, Watch, pieces
