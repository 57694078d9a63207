"""The bodies of requests, as models."""

from __future__ import annotations

from typing import Annotated, Any, Final

import orjson
from pydantic import Discriminator, FailFast, Field, Tag, ValidationInfo, ValidatorFunctionWrapHandler, WrapValidator

from fastmesh.api.requests.model import Strict, Whole
from fastmesh.api.requests.options import Options, PageOptions, Stream, WholeOptions, WholeStream

TEXT: Final = "a string"  # what stands for a URL
OBJECT: Final = "an object"


def _once(options: Any, validate: ValidatorFunctionWrapHandler, info: ValidationInfo) -> PageOptions | None:
    """The options of a URL: those that a body repeats (by JSON, in the context) are validated once, one object."""
    if type(options) is not dict or info.context is None:
        return validate(options)  # type: ignore[no-any-return]
    text = orjson.dumps(options, option=orjson.OPT_SORT_KEYS)
    known: PageOptions | None = info.context.get(text)
    if known is None:
        known = info.context[text] = validate(options)
    return known


class UrlItem(Strict):
    """One URL with a name of the client's own, and options that go before the batch's."""

    url: str
    id: str | None = Field(None, min_length=1, max_length=256)
    options: Annotated[PageOptions | None, WrapValidator(_once)] = None


def _kind_of_url(value: Any) -> str:
    return OBJECT if isinstance(value, dict | UrlItem) else TEXT


# Which of the two is meant is told by the value, so that a message speaks of that one alone.
Url = Annotated[Annotated[str, Tag(TEXT)] | Annotated[UrlItem, Tag(OBJECT)], Discriminator(_kind_of_url)]


class CrawlRequest(Strict):
    """The body of POST /crawl/stream, /crawl/sse and /streams."""

    urls: Annotated[list[Url], FailFast()] = Field(min_length=1)
    options: Options = Field(default_factory=Options)
    stream: Stream = Field(default_factory=Stream)


class WholeCrawlRequest(CrawlRequest):
    """The body of POST /crawl."""

    options: WholeOptions = Field(default_factory=WholeOptions)
    stream: WholeStream = Field(default_factory=WholeStream)


class DeepSearchRequest(Strict):
    """The body of POST /deepsearch/stream."""

    query: str = Field(min_length=1, max_length=500)
    limit: Annotated[int, Field(ge=1, le=50), Whole] = 10
    include_content: bool = True
    options: Options = Field(default_factory=Options)
    stream: Stream = Field(default_factory=Stream)


class NoFields(Strict):
    """A body that says nothing."""
