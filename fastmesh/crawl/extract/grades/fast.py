"""The fast grade: main content by names and link density on the tree that is there already, a millisecond a page."""

from __future__ import annotations

from fastmesh.crawl.extract.grades.face import MainContent
from fastmesh.crawl.extract.grids import laid_out
from fastmesh.crawl.extract.main_content import find_main
from fastmesh.crawl.extract.page import Page


def read_main(page: Page, *, markdown: bool) -> MainContent:
    """The main content; the whole page when it has nothing but furniture."""
    main = find_main(page.tree) or page.parsed_again().tree
    written = main.to_markdown() if markdown else None  # first: the text may change the tables
    return MainContent(laid_out(main), written)
