"""The heads and bodies of answers, as bytes."""

from __future__ import annotations

import re
import time
from email.utils import formatdate
from secrets import token_hex

import orjson

from fastmesh.api.router import Reply
from fastmesh.errors import ApiError
from fastmesh.wire.http1 import Request, response_head

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def request_id(request: Request) -> str:
    """The client's own when it is one, else a new one of 128 random bits."""
    given = request.headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else token_hex(16)


def refusal(error: ApiError, of: str) -> Reply:
    """The answer to the request *of* (its id) that *error* refuses."""
    headers = error.headers
    if error.retry_after_s is not None:
        headers = (*headers, ("Retry-After", str(error.retry_after_s)))
    return Reply(orjson.dumps(error.envelope(of)), status=error.status, headers=headers)


def whole(reply: Reply, of: str, *, minor: int, keep_alive: bool, with_body: bool) -> bytes:
    """Head and body of *reply*, as one write."""
    fields = [
        *_common(of, minor, keep_alive),
        ("Content-Type", reply.content_type),
        ("Cache-Control", "no-store"),
        ("Content-Length", str(len(reply.body))),
        *reply.headers,
    ]
    return response_head(reply.status, fields) + (reply.body if with_body else b"")


def stream_head(content_type: str, of: str, stream_id: str | None, *, minor: int, keep_alive: bool) -> bytes:
    """The head of a stream; HTTP/1.0 has no chunks, its streams end with the connection."""
    fields = [
        *_common(of, minor, keep_alive),
        ("Content-Type", content_type),
        ("Cache-Control", "no-store, no-transform"),
        ("X-Accel-Buffering", "no"),
    ]
    if minor == 1:
        fields.append(("Transfer-Encoding", "chunked"))
    if stream_id is not None:
        fields.append(("X-Stream-ID", stream_id))
    return response_head(200, fields)


def _common(of: str, minor: int, keep_alive: bool) -> list[tuple[str, str]]:
    fields = [
        ("Date", _date(int(time.time()))),
        ("X-Request-ID", of),
        ("X-Content-Type-Options", "nosniff"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
    ]
    if not keep_alive:
        fields.append(("Connection", "close"))
    elif minor == 0:
        fields.append(("Connection", "keep-alive"))
    return fields


_formatted = (0, "")


def _date(second: int) -> str:
    """The HTTP date of *second*, formatted once a second."""
    global _formatted
    if _formatted[0] != second:
        _formatted = second, formatdate(second, usegmt=True)
    return _formatted[1]
