"""What a page may cost: for four times the page, about four times the work, however hostile it is."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from budgets import MOST, growth
from turbohtml import parse

from fastmesh.crawl.extract.extract import extract
from fastmesh.crawl.extract.grids import laid_out
from fastmesh.crawl.extract.sniff import kind_of
from fastmesh.crawl.extract.spec import ExtractSpec

ALL = frozenset({"text", "markdown", "links", "metadata", "html"})


@pytest.mark.parametrize(("root", "kind"), [(b"<rss version='2.0'>", "feed"), (b"<project/>", "text")])
@pytest.mark.parametrize("before", [b"<!--x-->", b"<!-- x -->\n", b"<?x?>", b"<?x <!-- ?> <!-- ?> -->"])
def test_what_stands_before_a_root_is_read_once(before: bytes, root: bytes, kind: str) -> None:
    for times in (1, 24, 26, 50):  # 26 took over a minute
        body = b"<?xml version='1.0'?>\n" + before * times + root
        assert kind_of(body, "application/xml") == kind


@pytest.mark.parametrize("unit", ["\\", "\\u", "\x1f", "\x1f\\", '"'])
@pytest.mark.parametrize("rest", [0, 20_000])
def test_a_text_of_escapes_is_shortened_in_one_reading(unit: str, rest: int) -> None:
    """With other text behind them, 10,000 backslashes took 18 s."""

    def text(size: int) -> bytes:
        return (unit * (size // len(unit)) + "x" * 2 * min(size, rest)).encode()

    def shortened(body: bytes) -> None:
        extract(body, ExtractSpec(len(body), frozenset({"text"})), url="", content_type="text/plain")

    assert growth(shortened, text, 5_000) < MOST


# What makes n² of n, or stands within one another to the parser's depth of 512.
HOSTILE: dict[str, Callable[[int], str]] = {
    "a wide row and many": lambda n: "<table><tr>" + "<td>t" * n + "<tr><td>t" * n,
    "a wide row of spans": lambda n: "<table><tr>" + "<td rowspan=60000>y" * n + "<tr><td>z" * n,
    "a wide row of wide cells": lambda n: "<table><tr>" + "<td colspan=1000>y" * n + "<tr><td>z" * n,
    "a wide row of empty cells": lambda n: "<table><tr>" + "<td>" * n + "<tr><td>t" * n,
    "a wide cell": lambda n: "<table><tr><td>" + "x" * 10 * n + "<td>y" + "<tr><td>a<td>b" * n,
    "a wide cell in sections": lambda n: (
        "<table><thead><tr><th>" + "x" * 10 * n + "<th>y<tbody>" + "<tr><td>a<td>b" * n
    ),
    "many such tables": lambda n: (
        ("<table><tr><td>" + "x" * 4000 + "<td>y" + "<tr><td>a<td>b" * 400 + "</table>") * (n // 100)
    ),
    "a long base": lambda n: f"<base href='http://h/{'a' * 8000}/'>" + "<a href=x>" * (n // 32),
    "links in links": lambda n: "<a href=x>text<object>" * n,
    "long links in links": lambda n: f"<a href=x>{'text' * 20}<object>" * n,
    "scripts in scripts": lambda n: "<svg>" + "<script>t<g>" * n,
    "notes in notes": lambda n: "<body>" + "<noscript>t" * n,
    "paragraphs in paragraphs": lambda n: "<p>t<object>" * n,
    "furniture in furniture": lambda n: "<div class=ad>t" * n,
    "sections of links": lambda n: "<section><a>x</a><a>x</a><a>x</a><a>x</a>t" * n,
    "quotes in quotes": lambda n: "<blockquote>t" * n,
    "lists in lists": lambda n: "<ol><li>t" * n,
    "tables in tables": lambda n: "<table><tr><td>t<td>t" * n,
    "a long class": lambda n: f"<div class='{'_advert' * n}!'>t",
    "attributes": lambda n: f"<p {' '.join(f'a{at}=1' for at in range(n))}>t",
    "metas": lambda n: "".join(f"<meta name=n{at} content=y>" for at in range(n)),
    "linked data": lambda n: f"<script type='application/ld+json'>[{'{},' * n}{{}}]</script>",
    "ideographs": lambda n: "日本" * n,
}


@pytest.mark.parametrize("what", HOSTILE)
def test_four_times_the_page_is_four_times_the_work(what: str) -> None:
    def extracted(body: bytes) -> None:
        extract(body, ExtractSpec(1 << 22, ALL), url="http://h/", content_type="text/html")

    # At first deep enough that four times is no deeper.
    assert growth(extracted, lambda size: HOSTILE[what](size).encode(), 1_000) < MOST


def test_the_links_of_a_page_that_says_too_much_are_those_of_its_beginning() -> None:
    body = f"<base href='http://h/{'a' * 8000}/'>{'<a href=x>t</a>' * 10_000}".encode()
    made = extract(body, ExtractSpec(1 << 28, frozenset({"links"})), url="http://h/", content_type="text/html")
    document = json.loads(made.document)
    assert document["truncated"] is True
    assert 6_000 < len(document["links"]) < 6_500  # 50 million characters of them


def test_a_table_that_would_be_mostly_padding_is_written_cell_by_cell() -> None:
    def text(html: str) -> str:
        return laid_out(parse(html, positions=False))

    rows = "<tr><td>a<td>b" * 300
    assert text(f"<table><tr><td>{'x' * 100}<td>y{rows}</table>").splitlines()[1] == f"a{' ' * 101}b"
    for begin, end in (("<table>", ""), ("<table><thead>", "</thead><tbody>")):
        table = f"{begin}<tr><td>{'x' * 10_000}<td>y{end}{rows}</table>"
        wide = text(f"<p>before</p>{table}<table><tr><td>k<td>v</table>")
        assert wide.split() == ["before", "x" * 10_000, "y", *["a", "b"] * 300, "k", "v"]
        assert len(wide) < 15_000
        assert wide.endswith("k  v")  # another table stays one
    assert text("") == ""
