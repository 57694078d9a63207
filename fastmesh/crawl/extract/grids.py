"""The text of a page with its tables; a table whose text would be mostly padding is written cell by cell.

The parser aligns a table's text, each cell as wide as the widest of its column: one wide cell, or one wide row, in a
table of n rows makes n² characters of n, and 58 KB of HTML became 12 MB of text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from turbohtml import Document, Element

from fastmesh.crawl.extract.page import MAX_CHARS_LOOKED_AT

# What all tables of a page may take as text: so many characters, and so many times the page's own.
MAX_GRID_CHARS, MAX_GRID_TIMES = 1_000_000, 4
SEPARATOR_CHARS: Final = 2
SECTIONS: Final = frozenset({"thead", "tbody", "tfoot"})


def laid_out(whole: Document | Element) -> str:
    """The text of *whole* as a reader sees it.  It may change the tables of *whole*: whatever else is read of them must
    be read before."""
    body = whole.root if isinstance(whole, Document) else whole
    if body is None:
        return whole.to_text()
    chars = len(body.text)
    left = MAX_GRID_TIMES * chars + MAX_GRID_CHARS
    rows = sum(1 for _ in body.iter_elements("tr"))
    # No grid has more than all of the text in each row; ordinary pages end here.
    if rows * (chars + SEPARATOR_CHARS * sum(1 for _ in body.iter_elements(("td", "th")))) > left:
        looked_at = 0
        for table in [body, *body.iter_elements("table")]:
            if table.tag != "table":
                continue
            size, seen = _grid_chars(table)
            looked_at += seen
            left -= size
            if left < 0 or looked_at > MAX_CHARS_LOOKED_AT:
                _unroll(table)
                left += size
    return whole.to_text()


def _grid_chars(table: Element) -> tuple[int, int]:
    """How many characters *table* has at most when it is aligned, and how many were looked at to know that."""
    widths: list[int] = []
    rows = seen = 0
    for row in _rows(table):
        rows += 1
        for column, cell in enumerate(_elements(row)):
            chars = len(cell.text)
            seen += chars
            if column == len(widths):
                widths.append(0)
            widths[column] = max(widths[column], chars)
    return rows * (sum(widths) + SEPARATOR_CHARS * len(widths)), seen


def _unroll(table: Element) -> None:
    """Make *table*, its rows and its cells blocks, which are not aligned."""
    rows = list(_rows(table))
    for part in [table, *_elements(table), *rows, *(cell for row in rows for cell in _elements(row))]:
        part.tag = "div"


def _rows(table: Element) -> Iterator[Element]:
    for part in _elements(table):
        if part.tag in SECTIONS:
            yield from (row for row in _elements(part) if row.tag == "tr")
        elif part.tag == "tr":
            yield part


def _elements(parent: Element) -> Iterator[Element]:
    return (child for child in parent.children if isinstance(child, Element))
