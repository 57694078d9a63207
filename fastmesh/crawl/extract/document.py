"""A document (contract section 4): its fields, and what is the same for every kind of content."""

from __future__ import annotations

import re
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


def read_text(text: str, include: frozenset[str]) -> Document:
    """The document of plain text: itself; it has no title."""
    document = empty()
    count(document, text)
    if "text" in include:
        document["text"] = text
    if "markdown" in include:
        document["markdown"] = text
    if "links" in include:
        document["links"] = []
    if "metadata" in include:
        document["media"] = []
    if "html" in include:
        document["html"] = text
    return document


def empty() -> Document:
    """A document in which nothing is known yet."""
    return {
        "title": None,
        "byline": None,
        "published": None,
        "language": None,
        "site_name": None,
        "description": None,
        "canonical_url": None,
        "text": None,
        "markdown": None,
        "links": None,
        "media": None,
        "word_count": 0,
        "reading_time_min": 0,
    }


def count(document: Document, text: str) -> None:
    """Count words; where a script has no spaces between them, characters."""
    document["word_count"] = words = len((_CJK.sub(" x ", text) if _CJK.search(text) else text).split())
    document["reading_time_min"] = ceil(words / WORDS_PER_MINUTE)
