"""The bodies and queries that requests may have.

An option that is not built does not exist: it is refused by its name.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self, TypeVar

import orjson
import pydantic
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from fastmesh.crawl.options import DEFAULT_PARTS, CacheMode, Grade, Part
from fastmesh.crawl.request_headers import header_refusal
from fastmesh.errors import UnsupportedMediaType, ValidationError
from fastmesh.streaming.firehose import MAX_FRAMES, MIN_FRAME_BYTES

_JSON = re.compile(r'application/json[ \t]*(;[ \t]*charset[ \t]*=[ \t]*"?utf-8"?[ \t]*)?', re.IGNORECASE)
Model = TypeVar("Model", bound="Strict")

TEXT, OBJECT = "a string", "an object"  # what stands for a URL


class Strict(BaseModel):
    """Types as they are written, no unknown keys."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class PageOptions(Strict):
    """How a URL is fetched and extracted."""

    timeout_ms: float | None = Field(None, gt=0)
    include: Annotated[frozenset[Part], Field(strict=False)] = DEFAULT_PARTS
    extractor: Grade = "fast"
    user_agent: str | None = Field(None, min_length=1, max_length=512, pattern=r"^[\x20-\x7e]+$")
    headers: dict[str, str] = Field(default_factory=dict, max_length=32)
    max_body_bytes: int | None = Field(None, ge=0)
    retries: int | None = Field(None, ge=0)
    respect_robots: bool | None = None
    cache_mode: CacheMode = "read_through"
    max_age_s: float | None = Field(None, ge=0)

    @pydantic.field_validator("headers")
    @classmethod
    def _may_be_sent(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if refusal := header_refusal(name, value):
                raise ValueError(refusal)
        return headers


class Options(PageOptions):
    """How the URLs of a batch are."""

    concurrency: int = Field(16, ge=1, le=256)
    order: Literal["completion", "input"] = "completion"
    dedupe: bool = True
    stop_after_errors: int | None = Field(None, ge=1)


class UrlItem(Strict):
    """One URL with a name of the client's own, and options that go before the batch's."""

    url: str
    id: str | None = Field(None, min_length=1, max_length=256)
    options: PageOptions | None = None


def _kind_of_url(value: Any) -> str:
    return OBJECT if isinstance(value, dict | UrlItem) else TEXT


# Which of the two is meant is told by the value, so that a message speaks of that one alone.
Url = Annotated[Annotated[str, Tag(TEXT)] | Annotated[UrlItem, Tag(OBJECT)], Discriminator(_kind_of_url)]


class Stream(Strict):
    """How the stream behaves."""

    on_slow: Literal["block", "drop", "disconnect"] = "block"
    detach: bool = False
    deadline_s: float | None = Field(None, gt=0)

    @pydantic.model_validator(mode="after")
    def _somebody_to_disconnect(self) -> Self:
        if self.detach and self.on_slow == "disconnect":
            raise ValueError("a detached stream waits for nobody: on_slow may be block or drop")
        return self


class CrawlRequest(Strict):
    """The body of POST /crawl/stream, /crawl/sse, /streams and /crawl."""

    urls: list[Url] = Field(min_length=1)
    options: Options = Options()
    stream: Stream = Stream()


class CrawlQuery(Strict):
    """The query of GET /crawl/sse, without its URLs and its key."""

    model_config = ConfigDict(strict=False)

    concurrency: int = Field(16, ge=1, le=256)


class DeepSearchRequest(Strict):
    """The body of POST /deepsearch/stream."""

    query: str = Field(min_length=1, max_length=500)
    limit: int = Field(10, ge=1, le=50)
    include_content: bool = True
    options: Options = Options()
    stream: Stream = Stream()


class FirehoseQuery(Strict):
    """The query of GET /firehose/stream, /firehose/sse and /firehose/ws."""

    model_config = ConfigDict(strict=False)

    frames: int = Field(1000, ge=1, le=MAX_FRAMES)
    bytes: int = Field(MIN_FRAME_BYTES, ge=MIN_FRAME_BYTES)
    rate: float | None = Field(None, gt=0)


def read_body(model: type[Model], content_type: str | None, body: bytes) -> Model:
    """*body* as *model*.  Raises UnsupportedMediaType, or ValidationError with the path of the field."""
    if content_type is None or _JSON.fullmatch(content_type) is None:
        raise UnsupportedMediaType("the body must be application/json in UTF-8")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ValidationError(f"the body is not JSON: {error}") from None
    return read_value(model, value)


def read_query(model: type[Model], pairs: list[tuple[str, str]]) -> Model:
    """A query's *pairs* as *model*.  Raises ValidationError with the name of the field."""
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValidationError(f"{name} is given more than once", field=name)
    return read_value(model, dict(pairs))


def read_value(model: type[Model], value: Any) -> Model:
    """*value*, as it came out of JSON, as *model*.  Raises ValidationError with the path of the field."""
    try:
        return model.model_validate(value)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        path = ".".join(str(part) for part in first["loc"] if part not in (TEXT, OBJECT))
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = "there is no such field"
        raise ValidationError(f"{path}: {message}" if path else message, field=path or None) from None
