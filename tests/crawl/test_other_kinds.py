"""Feeds and PDFs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fastmesh.crawl.extract.extract import extract
from fastmesh.crawl.extract.feed import MAX_ENTRIES
from fastmesh.crawl.extract.spec import ExtractSpec
from fastmesh.errors import ExtractFailed

DEFAULT = frozenset({"text", "markdown", "links", "metadata"})


def document(body: bytes | str, content_type: str | None) -> dict[str, Any]:
    raw = body.encode() if isinstance(body, str) else body
    made = extract(raw, ExtractSpec(1 << 22, DEFAULT), url="http://h/feeds/all", content_type=content_type)
    assert (made.gate.decision, made.gate.quality_score) == ("raw", None)
    whole: dict[str, Any] = json.loads(made.document)
    return whole


RSS = """<?xml version="1.0" encoding="utf-8"?><!-- made -->
<rss version="2.0"><channel><title>The &amp; feed</title><link>/</link><description>Of things</description>
<lastBuildDate>Mon, 01 Jan 2024</lastBuildDate>
<item><title>One &lt;1&gt;</title><link>../one</link><pubDate>Sun</pubDate>
<description>&lt;p&gt;Hello &lt;b&gt;you&lt;/b&gt; &lt;a href="x"&gt;there&lt;/a&gt;
&lt;script&gt;no&lt;/script&gt;&lt;!-- open</description></item>
<item><title>Two</title><link>javascript:alert(1)</link></item></channel></rss>"""
ATOM = """<feed xmlns="http://www.w3.org/2005/Atom"><title>The &amp; feed</title>
<subtitle>Of things</subtitle><link href="/"/>
<updated>Mon, 01 Jan 2024</updated><entry><title>One &lt;1&gt;</title><link href="../one"/><published>Sun</published>
<content type="html">&lt;p&gt;Hello &lt;b&gt;you&lt;/b&gt; &lt;a href="x"&gt;there&lt;/a&gt;</content></entry>
<entry><title>Two</title></entry></feed>"""


@pytest.mark.parametrize(
    ("feed", "content_type"),
    [
        (RSS, "application/rss+xml"),
        (RSS, "text/xml; charset=utf-8"),
        (RSS, None),
        (ATOM, "application/atom+xml"),
        (ATOM, "application/xml"),
    ],
)
def test_a_feed_lists_its_entries(feed: str, content_type: str | None) -> None:
    page = document(feed, content_type)
    assert page["title"] == "The & feed"
    assert (page["description"], page["canonical_url"]) == ("Of things", "http://h/")
    assert page["links"] == [
        {"url": "http://h/one", "text": "One <1>", "rel": None},
        {"url": "http://h/feeds/x", "text": "there", "rel": None},
    ]
    for part in ("# The & feed", "## [One", "](http://h/one)", "Hello **you** [there](http://h/feeds/x)", "## Two"):
        assert part in page["markdown"]
    assert "no" not in page["text"].split()
    assert "javascript" not in page["markdown"]


def test_a_broken_feed_is_read_as_far_as_it_goes() -> None:
    for cut in range(len(RSS)):
        document(RSS[:cut], "application/rss+xml")


def test_entities_do_not_multiply() -> None:
    lines = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(9))
    bomb = f'<!DOCTYPE x [<!ENTITY l0 "lol">{lines}]><rss version="2.0"><channel><title>&l9;</title></channel></rss>'
    assert len(document(bomb, "application/rss+xml")["text"]) < 100


def test_a_feed_of_very_many_entries_is_cut_and_says_so() -> None:
    items = "<item><title>t</title><link>/x</link></item>" * (MAX_ENTRIES + 1)
    page = document(f'<rss version="2.0"><channel>{items}</channel></rss>', "application/rss+xml")
    assert (len(page["links"]), page["truncated"]) == (MAX_ENTRIES, True)


def pdf(*texts: str) -> bytes:
    """A PDF with a page for each text, and a title."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%b] /Count %d >>"
        % (b" ".join(b"%d 0 R" % (5 + 2 * n) for n in range(len(texts))), len(texts)),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Title (A  title) /Author (Ann) >>",
    ]
    for number, text in enumerate(texts):
        stream = b"BT /F1 12 Tf 72 720 Td (%b) Tj ET" % text.encode()
        objects += [
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R "
            b"/Resources << /Font << /F1 3 0 R >> >> >>" % (6 + 2 * number),
            b"<< /Length %d >>\nstream\n%b\nendstream" % (len(stream), stream),
        ]
    body, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(body))
        body += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(objects) + 1
    tail = b"trailer\n<< /Size %d /Root 1 0 R /Info 4 0 R >>\nstartxref\n%d\n%%%%EOF" % (size, len(body))
    return body + b"xref\n0 %d\n0000000000 65535 f \n%b" % (size, table) + tail


@pytest.mark.parametrize("content_type", ["application/pdf", "application/octet-stream", None, "text/html"])
def test_the_text_of_a_pdf_is_read(content_type: str | None) -> None:
    page = document(pdf("The first page.", "The second."), content_type)
    assert (page["title"], page["byline"], page["links"], page["media"]) == ("A title", "Ann", [], [])
    assert page["text"] == page["markdown"] == "The first page.\n\nThe second."
    assert page["word_count"] == 5


BEFORE = [b"\r\n\t\r\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"]


@pytest.mark.parametrize("content_type", ["application/pdf", "application/octet-stream", None, "text/html"])
@pytest.mark.parametrize("before", BEFORE)
def test_blanks_before_a_pdf_are_passed_over(before: bytes, content_type: str | None) -> None:
    assert document(before + pdf("The page."), content_type)["text"] == "The page."


@pytest.mark.parametrize("before", [*BEFORE, b"Notice: undefined index in print.php\n", b"x" * 1024])
def test_what_stands_before_what_is_called_a_pdf_is_passed_over(before: bytes) -> None:
    assert document(before + pdf("The page."), "application/pdf")["text"] == "The page."


def test_a_page_that_cannot_be_read_costs_itself() -> None:
    whole = pdf("one", "two", "three")
    page = document(whole.replace(b"[5 0 R 7 0 R 9 0 R]", b"[5 0 R 1 0 R 9 0 R]"), "application/pdf")
    assert (page["text"], page["truncated"]) == ("one\n\nthree", True)
    with pytest.raises(ExtractFailed, match="no page"):
        document(whole.replace(b"[5 0 R 7 0 R 9 0 R]", b"[1 0 R 1 0 R 1 0 R]"), "application/pdf")


def test_a_broken_pdf_fails_or_is_read_wherever_it_is_cut() -> None:
    whole = pdf("Some text")
    for cut in range(5, len(whole), 7):
        try:
            document(whole[:cut], "application/pdf")
        except ExtractFailed as error:
            assert error.message in ("the PDF is broken, or needs a password", "no page of the PDF can be read")  # noqa: PT017
