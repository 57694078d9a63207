"""A document: its fields (docs/protocol.md, *Frames*), put together of its parts for every kind of page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import ceil
from typing import Final, NotRequired

from typing_extensions import TypedDict  # typing's own cannot be read by pydantic before Python 3.12

WORDS_PER_MINUTE: Final = 200

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
