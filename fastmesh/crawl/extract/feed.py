"""Feeds: RSS, Atom and RDF, as one page that lists their entries.  The entries are written as HTML and read like any
page, so that links, images, text and Markdown follow the same rules."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final

from turbohtml import Entry, Feed, parse
from turbohtml.extract import feed

from fastmesh.crawl.extract.document import Document, document_of
from fastmesh.crawl.extract.grids import laid_out
from fastmesh.crawl.extract.page import Page

MAX_ENTRIES: Final = 1000


def read_feed(source: str, url: str, include: frozenset[str]) -> Document | None:
    """The document of the feed *source*; None when that is no feed."""
    said = feed(source)
    if said is None:
        return None
    page = Page("".join(_as_html(said)), url)
    title, links, images = page.title(), page.links(), page.images()
    page.strip()
    metadata = {
        "description": said.description or None,
        "published": said.updated or None,
        "canonical_url": page.absolute(said.link),
    }
    markdown = page.tree.to_markdown() if "markdown" in include else None  # first: the text may change the tables
    return document_of(
        include,
        laid_out(page.tree),
        title=title,
        metadata=metadata,
        links=links,
        media=images,
        markdown=markdown,
        html=source,
        truncated=len(said.entries) > MAX_ENTRIES,
    )


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
