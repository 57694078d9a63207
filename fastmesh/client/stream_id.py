"""The id of a stream, which goes into paths and header fields of the requests that follow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from fastmesh.client.errors import ProtocolViolation

_STREAM_ID: Final = re.compile(r"[A-Za-z0-9._~:-]{1,256}")


def valid_stream_id(text: str) -> bool:
    """Whether *text* may be a stream's id."""
    return _STREAM_ID.fullmatch(text) is not None and text.strip(".") != ""


def checked(stream_id: str) -> str:
    """*stream_id*.  Raises ValueError when it is none."""
    if not valid_stream_id(stream_id):
        raise ValueError(f"{stream_id!r} is no stream id")
    return stream_id


def opened_id(answer: Mapping[str, Any]) -> str:
    """The id in the answer of ``POST /streams``.  Raises ProtocolViolation."""
    stream_id = answer.get("stream_id")
    if not isinstance(stream_id, str) or not valid_stream_id(stream_id):
        raise ProtocolViolation("the answer to POST /streams names no stream")
    return stream_id


def stream_path(stream_id: str) -> str:
    """The path of a stream."""
    return f"/streams/{quote(stream_id, safe='')}"
