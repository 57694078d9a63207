"""The gate: from facts to a decision and a score, and from a page to its facts."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmesh.crawl.extract.extract import extract
from fastmesh.crawl.extract.gate import DECISIONS, NO_PAGE, Gate, PageFacts, judge
from fastmesh.crawl.extract.page import Page
from fastmesh.crawl.extract.protocol import ANSWER, DONE, answer_head, gate_of
from fastmesh.crawl.extract.spec import ExtractSpec

BARE = ExtractSpec(1 << 20, include=frozenset())
PROSE = "Some prose about things, with commas, and a little more of it. "
ARTICLE = PageFacts(
    html_chars=40_000,
    text_chars=6_000,
    paragraphs=12,
    has_article=True,
    has_opengraph=True,
    has_json_ld=True,
    scripts=9,
    script_chars=4_000,
    app_markers=0,
)


def test_the_score_is_the_formula_of_the_docs() -> None:
    assert judge(ARTICLE) == Gate("raw", 0.96)  # 1 - 0.2 · (0.1 / 0.5)
    assert judge(ARTICLE._replace(text_chars=2_000, paragraphs=1)) == Gate("raw", 0.545)
    assert judge(ARTICLE._replace(has_article=False, has_opengraph=False)) == Gate("raw", 0.71)
    assert judge(ARTICLE._replace(script_chars=30_000)) == Gate("raw", 0.8)
    assert judge(ARTICLE._replace(app_markers=1)) == Gate("raw", 0.81)


@pytest.mark.parametrize(
    ("changed", "decision"),
    [
        ({"text_chars": 199}, "headless"),
        ({"text_chars": 199, "scripts": 0}, "raw"),  # a browser has nothing to run
        ({"text_chars": 999, "app_markers": 1}, "headless"),
        ({"text_chars": 999}, "raw"),
        ({"text_chars": 400, "paragraphs": 0, "has_article": False}, "probes_first"),
        ({"text_chars": 1000, "app_markers": 1, "paragraphs": 0, "html_chars": 400_000}, "probes_first"),
    ],
)
def test_the_gate_decides_by_text_scripts_and_markers(changed: dict[str, int], decision: str) -> None:
    assert judge(ARTICLE._replace(**changed)).decision == decision


COUNTS = st.integers(0, 1 << 40)


@given(st.builds(PageFacts, *[COUNTS] * 3, *[st.booleans()] * 3, *[COUNTS] * 2, st.integers(0, 2)))
def test_any_facts_give_a_score_from_0_to_1_that_crosses_the_wire_as_it_is(facts: PageFacts) -> None:
    gate = judge(facts)
    assert gate.quality_score is not None
    assert 0 <= gate.quality_score <= 1
    _, _, *wire = ANSWER.unpack(answer_head(DONE, 0, gate))
    assert gate_of(*wire) == gate


def test_what_has_no_score_crosses_the_wire_too_and_nonsense_does_not() -> None:
    _, _, *wire = ANSWER.unpack(answer_head(DONE, 0, NO_PAGE))
    assert gate_of(*wire) == NO_PAGE
    for decision, score in ((len(DECISIONS), 0), (0, 1001)):
        with pytest.raises(ValueError, match="no gate says"):
            gate_of(decision, score)


def test_the_facts_of_a_page() -> None:
    html = f"""<!doctype html><html><head><meta property="og:title" content="x">
        <script type="application/ld+json">{{"@type": "Article"}}</script><script src=/a.js></script>
        <script>let x = 1;</script><style>p {{ color: red }}</style></head>
        <body><article><p>{PROSE}<p>{PROSE}<p>short</article><noscript>Please turn JavaScript on</noscript>
        <div id=root></div></body></html>"""
    assert Page(html, "http://h/").strip() == PageFacts(
        html_chars=len(html),
        text_chars=len(f"{PROSE}{PROSE}short"),
        paragraphs=2,
        has_article=True,
        has_opengraph=True,
        has_json_ld=True,
        scripts=2,
        script_chars=len("let x = 1;"),
        app_markers=2,
    )


@pytest.mark.parametrize(
    ("html", "needs_js"),
    [
        ("<title>App</title><div id=root></div><script src=/main.js></script>", True),
        ("<app-root>Loading…</app-root><script>boot()</script>", True),
        ("<body><noscript>You need to enable JavaScript.</noscript><script src=x></script>", True),
        (f"<div id=root><p>{PROSE * 20}</p></div><script src=/main.js></script>", False),  # rendered on the server
        ("<title>t</title><p>A short page without scripts", False),
        ("", False),
    ],
)
def test_a_page_that_needs_a_browser_says_so(html: str, needs_js: bool) -> None:
    made = extract(html.encode(), BARE, url="http://h/", content_type="text/html")
    document = json.loads(made.document)
    assert document.get("needs_js", False) is needs_js
    assert made.gate.decision == ("headless" if needs_js else made.gate.decision)


def test_what_is_no_page_passes_the_gate_without_a_score() -> None:
    made = extract(b"{}", BARE, url="http://h/", content_type="application/json")
    assert made.gate == NO_PAGE
