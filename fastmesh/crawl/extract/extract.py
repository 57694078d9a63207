"""extract(): from a page's body to its document as JSON, and what the gate says of the page.  It runs in a worker
process (worker.py) and keeps no state."""

from __future__ import annotations

from collections.abc import Mapping

from fastmesh.crawl.extract.charset import decode
from fastmesh.crawl.extract.document import Document, document_of, fitted
from fastmesh.crawl.extract.feed import read_feed
from fastmesh.crawl.extract.gate import NO_PAGE, Gate, judge
from fastmesh.crawl.extract.grades import EXTRACTORS, Extractor, Load
from fastmesh.crawl.extract.page import Page
from fastmesh.crawl.extract.sniff import kind_of
from fastmesh.crawl.extract.spec import Extracted, ExtractSpec
from fastmesh.errors import ExtractFailed, UrlError


def extract(
    body: bytes, spec: ExtractSpec, *, url: str, content_type: str | None, extractors: Mapping[str, Load] = EXTRACTORS
) -> Extracted:
    """The document of *body* that *spec* asks for, as JSON without a raw newline.

    *url* is where the body came from, for its relative links; *extractors* are those that *spec* may name.  A document
    that is longer than it may be is shortened and says so.  Raises UnsupportedContent when no document is made of such
    a body, ExtractFailed when nothing can be made of it or not even an empty document fits.
    """
    try:
        kind = kind_of(body, content_type)
        if kind == "pdf":
            from fastmesh.crawl.extract.pdf import read_pdf  # loaded with the first PDF

            return Extracted(fitted(read_pdf(body, spec.include), spec.max_bytes), NO_PAGE)
        text = decode(body, content_type, is_html=kind == "html")
        if kind == "html":
            document, gate = _read_html(Page(text, url), spec, extractors[spec.extractor]())
            return Extracted(fitted(document, spec.max_bytes), gate)
        listed = read_feed(text, url, spec.include) if kind == "feed" else None
        document = listed or document_of(spec.include, text, markdown=text, html=text)
        return Extracted(fitted(document, spec.max_bytes), NO_PAGE)
    except UrlError:
        raise
    except MemoryError:
        raise ExtractFailed("the page needs more memory than an extraction may have") from None
    except Exception as error:  # a library that trips over a page costs that page
        raise ExtractFailed(f"the extraction failed with {type(error).__name__}") from error


def _read_html(page: Page, spec: ExtractSpec, extractor: Extractor) -> tuple[Document, Gate]:
    title = page.title()
    metadata = page.metadata() if "metadata" in spec.include else None
    # Always: they make the tree's URLs absolute, for Markdown's sake.
    links, images = page.links(), page.images()
    gate = judge(page.strip())
    main = extractor(page, markdown="markdown" in spec.include)
    document = document_of(
        spec.include,
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
