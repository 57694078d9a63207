"""The fields of a request beside its body: its key, where its reader left off, which framing it wants."""

from __future__ import annotations

import re
from typing import Literal

from fastmesh.api.access.callers import TICKET
from fastmesh.api.calls import Call
from fastmesh.api.requests.bounds import MAX_FIELDS
from fastmesh.api.requests.queries import EVENT_ID_PATTERN, KEY_PATTERN, KEY_WANTED
from fastmesh.api.requests.reading import pairs_of
from fastmesh.errors import ValidationError
from fastmesh.wire.http1 import MAX_ELEMENTS, listed

Encoding = Literal["ndjson", "sse"]  # of frames


def query_of(call: Call, max_urls: int) -> list[tuple[str, str]]:
    """The query of a request that may name *max_urls* URLs, without the ticket that let its caller in."""
    if not call.request.query:
        return []
    pairs = pairs_of(call.request.query, max_urls + MAX_FIELDS)
    return pairs if call.ticket is None else [pair for pair in pairs if pair[0] != TICKET]


def key_of(call: Call, query: list[tuple[str, str]]) -> str | None:
    """Idempotency-Key, or ?key= for a browser's EventSource, which the query's model has read."""
    key = call.request.headers.get("idempotency-key")
    if key is None:
        return dict(query).get("key")
    if re.fullmatch(KEY_PATTERN, key) is None:
        raise ValidationError(f"Idempotency-Key: {KEY_WANTED}", field="Idempotency-Key")
    return key


def last_event_id(call: Call) -> tuple[str, int] | None:
    """The stream and the frame that Last-Event-ID names.  Raises ValidationError when it is not one of our ids."""
    given = call.request.headers.get("last-event-id")
    if not given:  # to an EventSource the empty one is none (HTML standard, section 9.2.3)
        return None
    if re.fullmatch(EVENT_ID_PATTERN, given) is None:
        raise ValidationError("Last-Event-ID: want an id as it was sent, stream:seq", field="Last-Event-ID")
    stream_id, _, seq = given.partition(":")
    return stream_id, int(seq)


def wants_events(accept: str) -> bool:
    """Whether Accept asks for text/event-stream, and not more for NDJSON (RFC 9110, section 12.5.1)."""
    quality = {"text/event-stream": 0.0, "application/x-ndjson": 0.0}
    for part in listed(accept):
        name, *parameters = (piece.strip().lower() for piece in part.split(";", MAX_ELEMENTS))
        if name in quality:
            quality[name] = next((_quality(p) for p in parameters if p.startswith("q=")), 1.0)
    return quality["text/event-stream"] > quality["application/x-ndjson"]


def _quality(parameter: str) -> float:
    try:
        return float(parameter[2:])
    except ValueError:
        return 0.0
