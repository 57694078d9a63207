"""The queries of requests, as models, and what ids and keys look like in queries and header fields."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema

from fastmesh.api.requests.model import MAX_INTEGER, Strict
from fastmesh.streaming.fill.firehose import MAX_FRAMES, MIN_FRAME_BYTES

KEY_PATTERN: Final = r"^[A-Za-z0-9._-]{1,128}$"  # of an Idempotency-Key
KEY_WANTED: Final = "want 1 to 128 characters of A-Z a-z 0-9 . _ -"
EVENT_ID_PATTERN: Final = r"^([0-9a-f]{5}-[0-9a-f]{32}:[0-9]{1,18})?$"  # stream:seq, as SSE sends it; empty is none
MAX_SEQ: Final = 10**18 - 1

_NUMBER = re.compile(r"-?[0-9]{1,16}(\.[0-9]{1,32})?([eE][+-]?[0-9]{1,3})?", re.ASCII)


def _key(text: str) -> str:
    if re.fullmatch(KEY_PATTERN, text) is None:
        raise ValueError(KEY_WANTED)
    return text


def _seq(text: str) -> str:
    if re.fullmatch(r"[0-9]{1,18}", text, re.ASCII) is None:
        raise ValueError("want one number, the seq of the last frame that was received")
    return text


Key = Annotated[str, AfterValidator(_key), Field(json_schema_extra={"pattern": KEY_PATTERN})]
Seq = Annotated[str, AfterValidator(_seq), WithJsonSchema({"type": "integer", "minimum": 0, "maximum": MAX_SEQ})]


def _number(text: Any) -> Any:
    """Text that is a number as JSON writes it: what else a library takes for one (1_0, +1) is none."""
    if isinstance(text, str) and _NUMBER.fullmatch(text) is None:
        raise ValueError("want a number")
    return text


Number = BeforeValidator(_number)


class Query(Strict):
    """A query's values are text that is read as what they stand for."""

    model_config = ConfigDict(strict=False)


class CrawlQuery(Query):
    """The query of GET /crawl/sse."""

    url: list[str] = Field(min_length=1)
    concurrency: Annotated[int, Field(ge=1, le=256), Number] = 16
    key: Key | None = None


class KeyQuery(Query):
    """The query of a request that opens a stream by its body."""

    key: Key | None = None


class EventsQuery(Query):
    """The query of GET /streams/{id}/events."""

    after: Seq | None = None


class FirehoseQuery(Query):
    """The query of GET /firehose/stream, /firehose/sse and /firehose/ws."""

    frames: Annotated[int, Field(ge=1, le=MAX_FRAMES), Number] = 1000
    bytes: Annotated[int, Field(ge=MIN_FRAME_BYTES, le=MAX_INTEGER), Number] = MIN_FRAME_BYTES
    rate: Annotated[float, Field(gt=0), Number] | None = None
