"""extract(): from a body to the JSON of the contract's ``document``, and what the gate says of it.

It runs in a worker process (worker.py) and keeps no state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from fastmesh.crawl.extract.charset import decode
from fastmesh.crawl.extract.document import Document, document_of
from fastmesh.crawl.extract.extracted import Extracted
from fastmesh.crawl.extract.feed import read_feed
from fastmesh.crawl.extract.gate import NO_PAGE, Gate, judge
from fastmesh.crawl.extract.grades.face import EXTRACTORS, Extractor
from fastmesh.crawl.extract.page import Page
from fastmesh.crawl.extract.sniff import kind_of
from fastmesh.crawl.extract.spec import ExtractSpec
from fastmesh.errors import ExtractFailed, UrlError

# The least important first; links are more use to a crawler than the rest of a long text.
SHORTENED: Final = (
    "html",
    "markdown",
    "text",
    "links",
    "media",
    "description",
    "title",
    "byline",
    "site_name",
    "published",
    "language",
    "canonical_url",
)
# Of an escape that was cut, of \u001f for one, at most so much is there.
CUT_ESCAPE_BYTES: Final = 5


def extract(
    body: bytes,
    spec: ExtractSpec,
    *,
    url: str,
    content_type: str | None,
    extractors: Mapping[str, Callable[[], Extractor]] = EXTRACTORS,
) -> Extracted:
    """The document of *body* that *spec* asks for, as JSON without a raw newline.

    *url* is where the body came from, for its relative links; *extractors* are those that *spec* may name.
    A document that is longer than it may be is shortened and says so.  Raises
    UnsupportedContent when no document is made of such a body, ExtractFailed when
    nothing can be made of it or not even an empty document fits.
    """
    try:
        kind = kind_of(body, content_type)
        if kind == "pdf":
            from fastmesh.crawl.extract.pdf import read_pdf  # loaded with the first PDF

            return Extracted(_fitted(read_pdf(body, spec.include), spec.max_bytes), NO_PAGE)
        text = decode(body, content_type, is_html=kind == "html")
        if kind == "html":
            document, gate = _read_html(Page(text, url), spec.include, extractors[spec.extractor]())
            return Extracted(_fitted(document, spec.max_bytes), gate)
        listed = read_feed(text, url, spec.include) if kind == "feed" else None
        return Extracted(
            _fitted(listed or document_of(spec.include, text, markdown=text, html=text), spec.max_bytes), NO_PAGE
        )
    except UrlError:
        raise
    except MemoryError:
        raise ExtractFailed("the page needs more memory than an extraction may have") from None
    except Exception as error:  # a library that trips over a page costs that page
        raise ExtractFailed(f"the extraction failed with {type(error).__name__}") from error


def _read_html(page: Page, include: frozenset[str], extractor: Extractor) -> tuple[Document, Gate]:
    title, metadata = page.title(), page.metadata() if "metadata" in include else None
    # Always: they make the tree's URLs absolute, for Markdown's sake.
    links, images = page.links(), page.images()
    gate = judge(page.strip())
    main = extractor(page, markdown="markdown" in include)
    document = document_of(
        include,
        main.text,
        title=title,
        metadata=metadata,
        links=links,
        media=images,
        markdown=main.markdown,
        html=page.html,
        needs_js=gate.decision == "headless",
        truncated=page.exhausted,
    )
    return document, gate


def _fitted(whole: Document, max_bytes: int) -> bytes:
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
            document[name] = _without(value, over)
    encoded = orjson.dumps(document)
    if len(encoded) > max_bytes:
        raise ExtractFailed(f"no document fits into {max_bytes} bytes")
    return encoded


def _without(value: str | list[Any], over: int) -> str | list[Any]:
    """The beginning of *value*, at least *over* bytes of JSON shorter, or empty."""
    return _shorter_text(value, over) if isinstance(value, str) else _shorter_list(value, over)


def _shorter_text(text: str, over: int) -> str:
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
