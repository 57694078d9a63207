"""A document: its fields (docs/protocol.md, *Frames*), put together for every kind of page and cut to its frame."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import ceil
from typing import Any, Final, NotRequired

import orjson
from typing_extensions import TypedDict  # typing's own cannot be read by pydantic before Python 3.12

from fastmesh.errors import ExtractFailed

WORDS_PER_MINUTE: Final = 200
# Links are more use to a crawler than the rest of a long text.
SHORTENED: Final = tuple(
    "html markdown text links media description title byline site_name published language canonical_url".split()
)
# Of an escape that was cut, of \u001f for one, at most so much is there.
CUT_ESCAPE_BYTES: Final = 5

_CJK: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


class Link(TypedDict):
    """One link of the page."""

    url: str
    text: str
    rel: str | None


class Image(TypedDict):
    """One image of the page."""

    type: str
    url: str
    alt: str


class Document(TypedDict):
    """What was extracted of a page.

    Parts that were not asked for are null; the last three fields are there only when they say something.
    """

    title: str | None
    byline: str | None
    published: str | None
    language: str | None
    site_name: str | None
    description: str | None
    canonical_url: str | None
    text: str | None
    markdown: str | None
    links: list[Link] | None
    media: list[Image] | None
    word_count: int
    reading_time_min: int
    html: NotRequired[str]
    needs_js: NotRequired[bool]
    truncated: NotRequired[bool]


def document_of(
    include: frozenset[str],
    text: str,
    *,
    title: str | None = None,
    metadata: Mapping[str, str | None] | None = None,
    links: list[Link] | None = None,
    media: list[Image] | None = None,
    markdown: str | None = None,
    html: str | None = None,
    needs_js: bool = False,
    truncated: bool = False,
) -> Document:
    """The document of a page with this *text*: its title and counts, and those of its other parts that *include* names.

    Without *html* it has none, also when that is asked for.  In a script without spaces between words, such as Chinese,
    each character counts as one.
    """
    words = len((_CJK.sub(" x ", text) if _CJK.search(text) else text).split())
    document: Document = {
        "title": title,
        "byline": None,
        "published": None,
        "language": None,
        "site_name": None,
        "description": None,
        "canonical_url": None,
        "text": text if "text" in include else None,
        "markdown": markdown if "markdown" in include else None,
        "links": links or [] if "links" in include else None,
        "media": media or [] if "metadata" in include else None,
        "word_count": words,
        "reading_time_min": ceil(words / WORDS_PER_MINUTE),
    }
    if "metadata" in include:
        document.update(metadata or {})  # type: ignore[typeddict-item]
    if needs_js:
        document["needs_js"] = True
    if "html" in include and html is not None:
        document["html"] = html
    if truncated:
        document["truncated"] = True
    return document


def fitted(whole: Document, max_bytes: int) -> bytes:
    """*whole* as JSON without a raw newline, shortened to *max_bytes* when it is longer; then it says so.  Raises
    ExtractFailed when not even an empty document fits."""
    encoded = orjson.dumps(whole)
    if len(encoded) <= max_bytes:
        return encoded
    document: dict[str, Any] = {**whole, "truncated": True}
    for name in SHORTENED:
        value = document.get(name)
        if value:
            over = len(orjson.dumps(document)) - max_bytes
            if over <= 0:
                break
            document[name] = _shorter_text(value, over) if isinstance(value, str) else _shorter_list(value, over)
    encoded = orjson.dumps(document)
    if len(encoded) > max_bytes:
        raise ExtractFailed(f"no document fits into {max_bytes} bytes")
    return encoded


def _shorter_text(text: str, over: int) -> str:
    """The beginning of *text*, shorter by *over* bytes of JSON at least; empty when it has no more than these."""
    encoded = orjson.dumps(text)[1:-1]
    kept = _without_cut_escape(encoded[: max(0, len(encoded) - over)])
    # "ignore" drops a character that was cut in its middle.
    whole: str = orjson.loads(b'"%b"' % kept.decode(errors="ignore").encode())
    return whole


def _without_cut_escape(kept: bytes) -> bytes:
    """*kept*, the beginning of a JSON string, without an escape that was cut at its end.  Reads it once at most."""
    begins = kept.rfind(b"\\", -CUT_ESCAPE_BYTES)
    if begins < 0:
        return kept
    slashes = begins + 1 - len(kept[: begins + 1].rstrip(b"\\"))
    # An even number of them are backslashes that were escaped; an odd one begins something, whole unless it is this.
    cut = slashes % 2 and kept[begins + 1 : begins + 2] in (b"", b"u")
    return kept[:begins] if cut else kept


def _shorter_list(items: list[Any], over: int) -> list[Any]:
    kept = len(items)
    while kept and over > 0:
        kept -= 1
        over -= len(orjson.dumps(items[kept])) + 1  # and its comma
    return items[:kept]
