"""What a daemon says when it does not do what it was asked, read within bounds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import orjson
from aiohttp import ClientResponse

from fastmesh.client.errors import ProtocolViolation, Refused
from fastmesh.errors import ApiError

MAX_REFUSAL_BYTES: Final = 65_536
MAX_MESSAGE_CHARS: Final = 1000
STATUS_OF: Final = {error.type: error.status for error in ApiError.__subclasses__()}

_SECONDS: Final = re.compile(r"[0-9]{1,9}")


def refusal_of(status: int | None, error: object, headers: Mapping[str, str]) -> Refused:
    """The refusal that an envelope's *error* holds; where it holds none, what the status and *headers* say.  Without a
    *status* (on a WebSocket) it is the one that the error's type has."""
    known = error if isinstance(error, dict) else {}

    def text(name: str) -> str | None:
        value = known.get(name)
        return value[:MAX_MESSAGE_CHARS] if isinstance(value, str) else None

    type_ = text("type") or "http"
    if status is None:
        status = STATUS_OF.get(type_, 500)
    retry_after = headers.get("Retry-After", "").strip()
    return Refused(
        status,
        type_,
        text("message") or "the answer does not say why",
        retryable=known.get("retryable") is True,
        request_id=text("request_id") or headers.get("X-Request-ID"),
        field=text("field"),
        retry_after_s=float(retry_after) if _SECONDS.fullmatch(retry_after) else None,
    )


async def refusal_in(response: ClientResponse) -> Refused:
    """The refusal that *response* holds."""
    if 300 <= response.status <= 399:
        return redirected(response.status, response.headers.get("Location"))
    try:
        envelope = orjson.loads(await bounded(response, MAX_REFUSAL_BYTES))
    except (orjson.JSONDecodeError, ProtocolViolation):
        envelope = None
    error = envelope.get("error") if isinstance(envelope, dict) else None
    return refusal_of(response.status, error, response.headers)


def redirected(status: int, location: str | None) -> Refused:
    """What a redirect is here: nobody follows it."""
    return Refused(status, "http", f"a redirect to {(location or '')[:MAX_MESSAGE_CHARS]!r}, which is not followed")


async def bounded(response: ClientResponse, limit: int) -> bytes:
    """The body of *response*.  Raises ProtocolViolation when it is over *limit* bytes."""
    body = bytearray()
    while data := await response.content.readany():
        body += data
        if len(body) > limit:
            raise ProtocolViolation(f"an answer is over the limit of {limit} bytes")
    return bytes(body)
