"""Feeds: RSS, Atom and RDF, as one page that lists their entries.

The entries are written as HTML and read like any page, so that links, images, text
and Markdown follow the same rules.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final

from turbohtml import Entry, Feed, parse
from turbohtml.extract import feed

from fastmesh.crawl.extract.document import Document, count, empty
from fastmesh.crawl.extract.grids import laid_out
from fastmesh.crawl.extract.page import Page

MAX_ENTRIES: Final = 1000


def read_feed(source: str, url: str, include: frozenset[str]) -> Document | None:
    """The document of the feed *source*; None when it is none."""
    said = feed(source)
    if said is None:
        return None
    page = Page("".join(_as_html(said)), url)
    document = empty()
    document["title"] = page.title()
    links, images = page.links(), page.images()
    page.strip()
    if "links" in include:
        document["links"] = links
    if "metadata" in include:
        document["media"] = images
        document["description"] = said.description or None
        document["published"] = said.updated or None
        document["canonical_url"] = page.absolute(said.link)
    if "markdown" in include:
        document["markdown"] = page.tree.to_markdown()
    text = laid_out(page.tree)
    count(document, text)
    if "text" in include:
        document["text"] = text
    if "html" in include:
        document["html"] = source
    if len(said.entries) > MAX_ENTRIES:
        document["truncated"] = True
    return document


def _as_html(said: Feed) -> Iterator[str]:
    yield f"<body><h1>{escape(said.title or '')}</h1><p>{escape(said.description or '')}</p>"
    for entry in said.entries[:MAX_ENTRIES]:
        title = escape(entry.title or entry.link or "")
        yield f"<h2><a href='{escape(entry.link)}'>{title}</a></h2>" if entry.link else f"<h2>{title}</h2>"
        yield f"<p>{escape(' · '.join(filter(None, (entry.author, entry.published or entry.updated))))}</p>"
        yield f"<div>{_content(entry)}</div>"


def _content(entry: Entry) -> str:
    content = entry.content if isinstance(entry.content, str) else None
    # Parsed and written again, so that a tag or a comment that one entry leaves open does not swallow the next.
    body = parse(content or entry.summary or "", positions=False).select_one("body")
    return body.inner_html if body is not None else ""
