"""How URLs are fetched and extracted, and how a stream behaves, as a request may choose it."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self, get_args

import pydantic
from pydantic import ConfigDict, FailFast, Field, JsonValue, WithJsonSchema
from pydantic.config import JsonDict

from fastmesh.api.requests.model import MAX_INTEGER, Strict, UpTo, Whole
from fastmesh.crawl.extract.spec import DEFAULT_PARTS, Grade, Part
from fastmesh.crawl.fetch.request_headers import NAME_PATTERN, VALUE_PATTERN, headers_refusal
from fastmesh.crawl.options import CacheMode, CookieMode

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


class WholeOptions(Options):
    """Options of a crawl that is answered as one document, which has the input's order."""

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
