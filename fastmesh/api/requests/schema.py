"""The bodies and queries that requests may have.

An option that is not built does not exist: it is refused by its name.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, Self, TypeVar, get_args, get_origin

import pydantic
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    FailFast,
    Field,
    JsonValue,
    Tag,
    WithJsonSchema,
)
from pydantic.config import JsonDict

from fastmesh.api.requests.bounds import parsed, refuse_crowd
from fastmesh.api.requests.form import pairs
from fastmesh.crawl.extract.spec import DEFAULT_PARTS, Grade, Part
from fastmesh.crawl.fetch.request_headers import NAME_PATTERN, VALUE_PATTERN, headers_refusal
from fastmesh.crawl.options import CacheMode, CookieMode
from fastmesh.errors import UnsupportedMediaType, ValidationError
from fastmesh.streaming.fill.firehose import MAX_FRAMES, MIN_FRAME_BYTES

_JSON = re.compile(r'application/json[ \t]*(;[ \t]*charset[ \t]*=[ \t]*"?utf-8"?[ \t]*)?', re.IGNORECASE)
_NUMBER = re.compile(r"-?[0-9]{1,16}(\.[0-9]{1,32})?([eE][+-]?[0-9]{1,3})?", re.ASCII)
Model = TypeVar("Model", bound="Strict")

NO_FIELD: Final = "there is no such field"
TEXT, OBJECT = "a string", "an object"  # what stands for a URL

KEY_PATTERN: Final = r"^[A-Za-z0-9._-]{1,128}$"  # of an Idempotency-Key
KEY_WANTED: Final = "want 1 to 128 characters of A-Z a-z 0-9 . _ -"
EVENT_ID_PATTERN: Final = r"^([0-9a-f]{5}-[0-9a-f]{32}:[0-9]{1,18})?$"  # stream:seq, as SSE sends it; empty is none
MAX_SEQ: Final = 10**18 - 1
MAX_INTEGER: Final = 2**53 - 1  # over it readers of JSON disagree which number it is (RFC 8259, section 6)
MAX_HEADERS: Final = 32

# What JSON Schema cannot be told by the type alone.
_PARTS = {"type": "array", "items": {"enum": sorted(get_args(Part))}}
_DEFAULT_PARTS: list[JsonValue] = [*sorted(DEFAULT_PARTS)]
_HEADERS = {
    "type": "object",
    "propertyNames": {"pattern": NAME_PATTERN},
    "additionalProperties": {"type": "string", "pattern": VALUE_PATTERN},
}
# A detached stream waits for nobody: nobody is disconnected.
_NOBODY_TO_DISCONNECT: JsonDict = {
    "not": {
        "properties": {"detach": {"const": True}, "on_slow": {"const": "disconnect"}},
        "required": ["detach", "on_slow"],
    }
}


class Strict(BaseModel):
    """Types as they are written, no unknown keys."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


# JSON has one kind of number: 16.0 is 16, and what is over 64 bits is read as a float.
Whole = BeforeValidator(_whole)
UpTo = Annotated[int, Field(ge=0, le=MAX_INTEGER), Whole]  # where a setting says how many are allowed


class PageOptions(Strict):
    """How a URL is fetched and extracted."""

    timeout_ms: float | None = Field(None, gt=0)
    include: Annotated[frozenset[Part], FailFast(), WithJsonSchema(_PARTS)] = Field(
        DEFAULT_PARTS, strict=False, json_schema_extra={"default": _DEFAULT_PARTS}
    )
    extractor: Grade = "fast"
    user_agent: str | None = Field(None, min_length=1, max_length=512, pattern=r"^[\x20-\x7e]+$")
    headers: Annotated[dict[str, str], WithJsonSchema(_HEADERS | {"maxProperties": MAX_HEADERS})] = Field(
        default_factory=dict, max_length=MAX_HEADERS
    )
    max_body_bytes: UpTo | None = None
    retries: UpTo | None = None
    respect_robots: bool | None = None
    cache_mode: CacheMode = "read_through"
    max_age_s: float | None = Field(None, ge=0)
    cookies: CookieMode = "redirects"

    @pydantic.field_validator("headers")
    @classmethod
    def _may_be_sent(cls, headers: dict[str, str]) -> dict[str, str]:
        if refusal := headers_refusal(headers):
            raise ValueError(refusal)
        return headers


class Options(PageOptions):
    """How the URLs of a batch are."""

    concurrency: Annotated[int, Field(ge=1, le=256), Whole] = 16
    order: Literal["completion", "input"] = "completion"
    dedupe: bool = True
    stop_after_errors: Annotated[int, Field(ge=1, le=MAX_INTEGER), Whole] | None = None


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

    model_config = ConfigDict(json_schema_extra=_NOBODY_TO_DISCONNECT)

    on_slow: Literal["block", "drop", "disconnect"] = "block"
    detach: bool = False
    deadline_s: float | None = Field(None, gt=0)
    progress: bool = False

    @pydantic.model_validator(mode="after")
    def _somebody_to_disconnect(self) -> Self:
        if self.detach and self.on_slow == "disconnect":
            raise ValueError("a detached stream waits for nobody: on_slow may be block or drop")
        return self


class CrawlRequest(Strict):
    """The body of POST /crawl/stream, /crawl/sse and /streams."""

    urls: Annotated[list[Url], FailFast()] = Field(min_length=1)
    options: Options = Field(default_factory=Options)
    stream: Stream = Field(default_factory=Stream)


class WholeOptions(Options):
    """The same for a crawl that is answered as one document, which has the input's order."""

    order: Literal["input"] = "input"


class WholeStream(Stream):
    """The stream behind one document: its reader is waited for, and nothing is left out."""

    on_slow: Literal["block"] = "block"
    detach: bool = Field(False, json_schema_extra={"const": False})
    progress: bool = Field(False, json_schema_extra={"const": False})

    @pydantic.field_validator("detach", "progress")
    @classmethod
    def _none(cls, asked: bool) -> bool:
        if asked:
            raise ValueError("an answer that is one document is read as it comes, and says nothing else")
        return asked


class WholeCrawlRequest(CrawlRequest):
    """The body of POST /crawl."""

    options: WholeOptions = Field(default_factory=WholeOptions)
    stream: WholeStream = Field(default_factory=WholeStream)


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


class DeepSearchRequest(Strict):
    """The body of POST /deepsearch/stream."""

    query: str = Field(min_length=1, max_length=500)
    limit: Annotated[int, Field(ge=1, le=50), Whole] = 10
    include_content: bool = True
    options: Options = Field(default_factory=Options)
    stream: Stream = Field(default_factory=Stream)


class FirehoseQuery(Query):
    """The query of GET /firehose/stream, /firehose/sse and /firehose/ws."""

    frames: Annotated[int, Field(ge=1, le=MAX_FRAMES), Number] = 1000
    bytes: Annotated[int, Field(ge=MIN_FRAME_BYTES, le=MAX_INTEGER), Number] = MIN_FRAME_BYTES
    rate: Annotated[float, Field(gt=0), Number] | None = None


class NoFields(Strict):
    """A body that says nothing."""


def read_body(model: type[Model], content_type: str | None, body: bytes, max_urls: int) -> Model:
    """*body* as *model*, with *max_urls* URLs at most.

    Raises UnsupportedMediaType, or ValidationError with the path of the field.
    """
    if content_type is None or _JSON.fullmatch(content_type) is None:
        raise UnsupportedMediaType("the body must be application/json in UTF-8")
    value = parsed(body, max_urls)
    refuse_crowd(value, body, max_urls)
    return read_value(model, value)


def pairs_of(query: str, most: int) -> list[tuple[str, str]]:
    """The names and values of a *query*, *most* of them at most.  Raises ValidationError."""
    if query.count("&") >= most:
        raise ValidationError(f"the query has over {most} values")
    try:
        return pairs(query)
    except UnicodeDecodeError:
        raise ValidationError("the query: want percent-encoded UTF-8") from None


def read_query(model: type[Model], pairs: list[tuple[str, str]]) -> Model:
    """A query's *pairs* as *model*; what is a list there may be given again.

    Raises ValidationError with the name of the field.
    """
    given: dict[str, Any] = {}
    for name, value in pairs:
        field = model.model_fields.get(name)
        if field is None:
            raise ValidationError(f"{name}: {NO_FIELD}", field=name)
        if get_origin(field.annotation) is list:
            given.setdefault(name, []).append(value)
        elif name in given:
            raise ValidationError(f"{name} is given more than once", field=name)
        else:
            given[name] = value
    return read_value(model, given)


def read_value(model: type[Model], value: Any) -> Model:
    """*value*, as it came out of JSON, as *model*.  Raises ValidationError with the path of the field."""
    try:
        return model.model_validate(value)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        path = ".".join(str(part) for part in first["loc"] if part not in (TEXT, OBJECT))
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = NO_FIELD
        raise ValidationError(f"{path}: {message}" if path else message, field=path or None) from None
