"""The main content: what is kept of a page, in both grades."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fastmesh.crawl.extract.extract import extract
from fastmesh.crawl.extract.main_content import MAX_ELEMENTS, find_main
from fastmesh.crawl.extract.page import Page
from fastmesh.crawl.extract.spec import ExtractSpec

PROSE = "Some prose about things, with commas, and a little more of it. " * 8
LINKS = "".join(f"<li><a href=/{n}>A headline that leads elsewhere {n}</a>" for n in range(6))


def main_text(body: str) -> str | None:
    page = Page(f"<body>{body}", "http://h/")
    main = find_main(page.tree)
    return None if main is None else " ".join(main.text.split())


def document(html: str, extractor: str) -> dict[str, Any]:
    made = extract(
        html.encode(),
        ExtractSpec(1 << 20, extractor=extractor),
        url="http://example.com/a/b",
        content_type="text/html",
    )
    whole: dict[str, Any] = json.loads(made.document)
    return whole


@pytest.mark.parametrize(
    "content",
    ["div itemprop=articleBody", "div class='x entry-content'", "article", "main", "div role=main", "div id=content"],
)
def test_what_names_itself_the_content_is_it(content: str) -> None:
    body = f"<div>Elsewhere {PROSE[:200]}</div><{content}><p>{PROSE}</{content.split()[0]}><div>More</div>"
    assert main_text(body) == PROSE.strip()


def test_the_surest_name_wins() -> None:
    assert main_text(f"<article><p>Intro<div class=post-body>{PROSE}</div></article>") == PROSE.strip()


def test_a_list_of_cards_is_not_its_largest_card() -> None:
    cards = "".join(f"<article><h2>Head {n}</h2><p>{PROSE}</p></article>" for n in range(5))
    text = main_text(f"<main>{cards}</main>")
    assert text is not None
    assert all(f"Head {n}" in text for n in range(5))


@pytest.mark.parametrize(
    "furniture",
    [
        "<nav>Gone</nav>",
        "<aside>Gone</aside>",
        "<div class='post-meta'>Gone</div>",
        "<ul id=related-posts><li>Gone</ul>",
        "<div class='x social-share'>Gone</div>",
        "<form><p>Gone</form>",
        "<div role=navigation>Gone</div>",
        "<figure><img src=x><figcaption>Gone</figcaption></figure>",
        f"<ul>{LINKS.replace('A headline', 'Gone')}</ul>",
    ],
)
def test_furniture_within_the_content_goes(furniture: str) -> None:
    assert main_text(f"<article><p>{PROSE}</p>{furniture}<p>End.</p></article>") == f"{PROSE}End."


def test_furniture_by_its_name_alone_stays_where_it_holds_the_content() -> None:
    assert main_text(f"<article><div class=widget><p>{PROSE}</div></article>") == PROSE.strip()


def test_a_page_of_links_keeps_them() -> None:
    text = main_text(f"<main><h1>Index</h1><ul>{LINKS * 3}</ul></main>")
    assert text is not None
    assert text.count("headline") == 18


def test_a_content_of_furniture_is_none() -> None:
    assert main_text("<nav>one</nav>") is None
    assert main_text("") is None
    assert find_main(Page("<frameset><frame src=x></frameset>", "http://h/").tree) is None


def test_a_page_of_very_many_elements_is_taken_as_it_is() -> None:
    many = "<p class=widget>x</p>" * (MAX_ELEMENTS + 1)
    text = main_text(f"<main>{many}</main>")
    assert text is not None
    assert len(text) >= MAX_ELEMENTS


PAGE = f"""<!doctype html><title>T</title><body><nav><a href=/n>Nav</a></nav><article><h1>Head</h1>
<p>{PROSE} <b>bold</b> <a href="../x">a link</a>.</p><ul><li>one<li>two</ul><pre><code>x = 1
y = 2</code></pre><table><tr><th>a<th>b<tr><td>1<td>2</table><p>{PROSE}</article>
<footer>Legal</footer>"""


@pytest.mark.parametrize("grade", ["fast", "quality"])
def test_both_grades_give_text_and_markdown_of_the_main_content(grade: str) -> None:
    page = document(PAGE, grade)
    assert page["title"] == "T"
    assert len(page["links"]) == 2
    for absent in ("Nav", "Legal"):
        assert absent not in page["text"]
        assert absent not in page["markdown"]
    assert " ".join(PROSE.split()) in " ".join(page["text"].split())
    assert "bold a link" in " ".join(page["text"].split())
    for present in ("**bold**", "[a link](http://example.com/x)", "- one\n- two", "```\nx = 1\ny = 2\n```"):
        assert present in page["markdown"]
    assert page["word_count"] == len(page["text"].split())


@pytest.mark.parametrize("grade", ["fast", "quality"])
@pytest.mark.parametrize(
    "html", ["", "<p>x", "<nav>only</nav>", "<?xml version='1.0' encoding='latin-1'?><p>x", "\x00"]
)
def test_both_grades_take_pages_of_nearly_nothing(grade: str, html: str) -> None:
    assert document(html, grade)["text"].strip() in ("", "x", "only", "\ufffd")


def test_a_grade_that_is_none_fails_the_page_alone() -> None:
    with pytest.raises(Exception, match="KeyError"):
        document("<p>x", "best")
