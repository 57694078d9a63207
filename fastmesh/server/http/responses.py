"""The heads and bodies of answers, as bytes."""

from __future__ import annotations

import re
import time
from email.utils import formatdate
from secrets import token_hex

import orjson

from fastmesh.api.calls import Reply
from fastmesh.errors import ApiError
from fastmesh.wire.http1 import Request, response_head

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

Fields = tuple[tuple[str, str], ...]

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


def whole(reply: Reply, of: str, cors: Fields = (), *, minor: int, keep_alive: bool, with_body: bool) -> bytes:
    """Head and body of *reply*, as one write."""
    fields = _common(of, minor, keep_alive, upgrade=reply.status == 426)
    if reply.status != 204:  # which has no body and no length (RFC 9110, section 8.6)
        fields += (("Content-Type", reply.content_type), ("Content-Length", str(len(reply.body))))
    fields += (("Cache-Control", "no-store"), *reply.headers, *cors)
    return response_head(reply.status, fields) + (reply.body if with_body else b"")


def stream_head(own: list[tuple[str, str]], of: str, *, minor: int, keep_alive: bool) -> bytes:
    """The head of a stream; HTTP/1.0 has no chunks, its streams end with the connection."""
    fields = [
        *_common(of, minor, keep_alive),
        ("Cache-Control", "no-store, no-transform"),
        ("X-Accel-Buffering", "no"),
        *own,
    ]
    if minor == 1:
        fields.append(("Transfer-Encoding", "chunked"))
    return response_head(200, fields)


def socket_fields(of: str) -> list[tuple[str, str]]:
    """What the answer that opens a WebSocket has beside the handshake's own fields."""
    return [("Date", _date(int(time.time()))), ("X-Request-ID", of)]


def _common(of: str, minor: int, keep_alive: bool, *, upgrade: bool = False) -> list[tuple[str, str]]:
    fields = [
        ("Date", _date(int(time.time()))),
        ("X-Request-ID", of),
        ("X-Content-Type-Options", "nosniff"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
    ]
    options = ["Upgrade"] if upgrade else []  # which a field Upgrade asks for (RFC 9110, section 7.8)
    if not keep_alive:
        options.append("close")
    elif minor == 0:
        options.append("keep-alive")
    if options:
        fields.append(("Connection", ", ".join(options)))
    return fields


_formatted = (0, "")


def _date(second: int) -> str:
    """The HTTP date of *second*, formatted once a second."""
    global _formatted
    if _formatted[0] != second:
        _formatted = second, formatdate(second, usegmt=True)
    return _formatted[1]
