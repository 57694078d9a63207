"""Documents: what is read of a page, what is refused, and that a limit is kept."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmesh.crawl.extract.extract import extract
from fastmesh.crawl.extract.spec import ExtractSpec
from fastmesh.errors import ExtractFailed, UnsupportedContent

ALL = frozenset({"text", "markdown", "links", "metadata", "html"})
DEFAULT = ALL - {"html"}
KEYS = {
    *("title", "byline", "published", "language", "site_name", "description", "canonical_url", "text", "markdown"),
    *("links", "media", "word_count", "reading_time_min"),
}
URL = "http://example.com/a/b?c"
DOCS = Path("/usr/share/doc/python3.11/html")

PARAGRAPH = "Some prose about things, with commas, and more of it. "
PAGE = f"""<!doctype html><html lang="de-AT"><head>
<title>
  Fish &amp;  Chips </title>
<meta name="Author" content="Ann  Onym"><meta property="article:published_time" content="2024-05-06">
<meta property="og:site_name" content="Site"><meta name=description content="What it is.">
<link rel="alternate canonical" href="/canonical"></head><body>
<nav><a href="/home">Home</a></nav>
<main><h1>Head</h1><p>{PARAGRAPH * 5}</p>
<ul><li>one<li>two <a href="rel/x" rel="nofollow  me">a  <b>link</b></a></ul>
<pre><code class="language-python">x = 1
y = 2</code></pre>
<table><tr><th>a<th>b<tr><td>1<td>2</table>
<img src="i.png" alt="An image"><img src="data:image/png;base64,AAAA"></main>
<footer><a href="mailto:x@example.com">Mail</a> <a href="javascript:alert(1)">no</a> <a href="data:,x">no</a></footer>
<script>var hidden = 1;</script></body></html>"""


def document(
    body: str | bytes,
    content_type: str | None = "text/html",
    include: frozenset[str] = DEFAULT,
    max_bytes: int = 1 << 22,
    url: str = URL,
) -> dict[str, Any]:
    raw = body.encode() if isinstance(body, str) else body
    encoded, _ = extract(raw, ExtractSpec(max_bytes, include), url=url, content_type=content_type)
    assert len(encoded) <= max_bytes
    assert b"\n" not in encoded
    whole: dict[str, Any] = json.loads(encoded)
    assert set(whole) - {"html", "truncated", "needs_js"} == KEYS
    return whole


def test_a_page_is_read_whole() -> None:
    page = document(PAGE)
    text, markdown = page.pop("text"), page.pop("markdown")
    assert page == {
        "title": "Fish & Chips",
        "byline": "Ann Onym",
        "published": "2024-05-06",
        "language": "de-AT",
        "site_name": "Site",
        "description": "What it is.",
        "canonical_url": "http://example.com/canonical",
        "links": [
            {"url": "http://example.com/home", "text": "Home", "rel": None},
            {"url": "http://example.com/a/rel/x", "text": "a link", "rel": "nofollow me"},
            {"url": "mailto:x@example.com", "text": "Mail", "rel": None},
        ],
        "media": [{"type": "image", "url": "http://example.com/a/i.png", "alt": "An image"}],
        "word_count": len(text.split()),
        "reading_time_min": 1,
    }
    assert text.startswith("Head\n\nSome prose")
    assert "x = 1\ny = 2" in text
    for absent in ("Home", "Mail", "hidden"):
        assert absent not in text
        assert absent not in markdown
    for present in (
        "# Head\n",
        "- one\n- two [a **link**](http://example.com/a/rel/x)",
        "```python\nx = 1\ny = 2\n```",
        "| a | b |\n| --- | --- |\n| 1 | 2 |",
        "![An image](http://example.com/a/i.png)",
    ):
        assert present in markdown
    assert "data:" not in markdown


@pytest.mark.parametrize(
    ("html", "title"),
    [
        ("<title>a</title><title>b</title>", "a"),
        ("<title> \n </title><meta property=og:title content=' o  g '><h1>h</h1>", "o g"),
        ("<h1> the <i>first</i>\n heading</h1><h1>b</h1>", "the first heading"),
        ("<svg><title>drawing</title></svg><h1>h</h1>", "h"),
        ("<body><p>x<title>late</title>", "late"),
        ("<title>a &lt;b&gt; \u00a0 c", "a <b> c"),
        ("<p>x", None),
        ("", None),
    ],
)
def test_the_title_is_the_first_that_is_not_empty(html: str, title: str | None) -> None:
    assert document(html)["title"] == title


@pytest.mark.parametrize(
    ("href", "url"),
    [
        ("x", "http://example.com/a/x"),
        ("", URL),
        ("#f", f"{URL}#f"),
        ("?q=ü", "http://example.com/a/b?q=%C3%BC"),
        (" /x\n/y ", "http://example.com/x/y"),
        ("//other.example/z", "http://other.example/z"),
        ("HTTPS://EXAMPLE.com:443/", "https://example.com/"),
        ("a b", "http://example.com/a/a%20b"),
        ("mailto:a@b.example", "mailto:a@b.example"),
        ("java\nscript:1", None),
        (" JavaScript:1", None),
        ("data:text/html,x", None),
        ("ftp://x/", None),
        ("tel:1", None),
        ("http://[", None),
        ("http://a:b:c/", None),
    ],
)
def test_a_link_leads_where_a_browser_would_go(href: str, url: str | None) -> None:
    links = document(f'<a href="{href}">t</a>')["links"]
    assert [link["url"] for link in links] == ([url] if url else [])
    if url is None:
        assert "](" not in document(f'<p><a href="{href}">t</a>')["markdown"]


def test_links_follow_the_base() -> None:
    assert document('<base href="/base/"><a href=x>')["links"][0]["url"] == "http://example.com/base/x"
    assert document('<base href="javascript:"><a href=x>')["links"][0]["url"] == "http://example.com/a/x"
    assert document("<a href=x>", url="not a URL")["links"] == []


def test_json_ld_fills_what_the_metas_leave_open() -> None:
    said = {
        "@graph": [
            1,
            {"@type": "WebPage"},
            {"author": [{"name": "Bob \ud800"}, "Eve"], "datePublished": "2023-01-02", "publisher": {"name": "Pub"}},
        ]
    }
    page = document(f'<script type="application/ld+json">{json.dumps(said)}</script>')
    assert (page["byline"], page["published"], page["site_name"]) == ("Bob ?, Eve", "2023-01-02", "Pub")


def test_only_what_was_asked_for_is_there() -> None:
    nothing = document(PAGE, include=frozenset())
    assert {key for key, value in nothing.items() if value is not None} == {"title", "word_count", "reading_time_min"}
    assert document(PAGE, include=frozenset({"html"}))["html"] == PAGE
    only_links = document(PAGE, include=frozenset({"links"}))
    assert len(only_links["links"]) == 3
    assert (only_links["text"], only_links["markdown"]) == (None, None)


def test_a_page_without_landmarks_loses_its_furniture() -> None:
    page = document(
        f"<header>Brand</header><div class=sidebar>Other</div><p>{PARAGRAPH * 9}</p><div id=footer>Legal</div>"
    )
    assert page["text"] == (PARAGRAPH * 9).strip()


def test_a_page_of_nothing_but_furniture_keeps_it() -> None:
    assert document("<div class=menu><a href=x>one</a></div>")["text"] == "one"


def test_a_small_main_is_not_taken_for_the_page() -> None:
    page = document(f"<div role=main>Search</div><div>{PARAGRAPH * 30}</div>")
    assert PARAGRAPH.strip() in page["text"]


def test_words_are_counted_in_scripts_without_spaces_too() -> None:
    page = document("<p>日本語 and English")
    assert (page["word_count"], page["reading_time_min"]) == (5, 1)
    assert document("")["reading_time_min"] == 0


def test_a_page_reads_as_html_wherever_it_is_cut() -> None:
    raw = PAGE.encode()
    for cut in range(0, len(raw), 7):
        document(raw[:cut])


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("a\r\nb", "text/plain; charset=utf-8"),
        ("# Head", "text/markdown"),
        ('{"a": 1}', "application/json"),
        ("<no feed", "application/rss+xml"),
        ("<?xml version='1.0'?><order/>", "application/xml"),
        ("<a/>", "text/xml"),
        ("just words", None),
        ("<html>as text</html>", "text/plain"),
        ("über <meta charset=gbk>", "text/plain"),
        ('{"über": "<meta charset=koi8-r>"}', "application/json"),
        ("nul \0 is kept", "text/plain"),
        ("BZhang wrote this.", "text/plain"),
        ("The ftyp box of MP4, explained", "text/plain"),
        ("GIF89a is a format", "text/markdown"),
        ("wOFF and wOF2", "text/plain"),
        ("In WebP WEBPVP8 follows", "text/plain"),
        ("What %PDF-1.7 begins is a PDF", "text/plain"),
        ("", None),
        ("", "text/plain"),
    ],
)
def test_text_is_its_own_document(body: str, content_type: str | None) -> None:
    page = document(body, content_type, ALL)
    assert (page["title"], page["text"], page["markdown"], page["html"]) == (None, body, body, body)
    assert (page["links"], page["media"]) == ([], [])


@pytest.mark.parametrize(
    "content_type", [None, "", "application/octet-stream", "html", "unknown/unknown", "*/*; q=1", "\ud800"]
)
def test_a_missing_type_is_guessed(content_type: str | None) -> None:
    assert document("\n <!DOCTYPE html><title>t</title>", content_type)["title"] == "t"
    assert document("\ufeff<p>x".encode("utf-16-le"), content_type)["text"] == "x"
    assert document("<?xml version='1.0'?><html><title>t</title>", content_type)["title"] == "t"
    with pytest.raises(UnsupportedContent, match="binary"):
        document(b"\x00\x01\x02", content_type)


@pytest.mark.parametrize("content_type", ["application/xhtml+xml", "TEXT/HTML;charset=utf-8", "text/html ; x"])
def test_html_has_more_names_than_one(content_type: str) -> None:
    assert document("<title>t</title>", content_type)["title"] == "t"


@pytest.mark.parametrize(
    "type_", ["application/postscript", "image/png", "image/svg+xml", "video/mp4", "font/woff2", "application/zip"]
)
def test_what_is_no_text_is_refused_by_name(type_: str) -> None:
    with pytest.raises(UnsupportedContent, match=type_.replace("+", r"\+")):
        document("<svg>no page</svg>", type_)
    assert document("<!doctype html><title>t</title>", type_)["title"] == "t"  # a page that is called something else


@pytest.mark.parametrize(
    ("body", "type_"),
    [
        (b"%!PS-Adobe-3.0", "application/postscript"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"PK\x03\x04", "zip"),
        (b"GIF89a\x01\x00\x01\x00\x80", "image/gif"),
        (b"BZh91AY&SY\x00\x8d", "x-bzip2"),
        (b"\x00\x00\x00\x20ftypisom", "video/mp4"),
        (b"RIFF\x1a\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"wOF2\x00\x01\x00\x00", "font/woff2"),
    ],
)
@pytest.mark.parametrize("content_type", [None, "text/html", "text/plain"])
def test_a_type_that_the_first_bytes_belie_is_refused(body: bytes, type_: str, content_type: str | None) -> None:
    with pytest.raises(UnsupportedContent, match=rf"{type_}.* \({len(body)} bytes\)"):
        document(body, content_type)


def test_a_long_document_is_shortened_least_important_first() -> None:
    whole = document(PAGE, include=ALL)
    size = len(extract(PAGE.encode(), ExtractSpec(1 << 20, ALL), url=URL, content_type="text/html").document)
    assert "truncated" not in whole
    order = ["html", "markdown", "text", "links", "media", "description", "title"]
    for limit in range(size - 1, 300, -1):
        page = document(PAGE, include=ALL, max_bytes=limit)
        assert page["truncated"] is True
        changed = [name for name in order if page[name] != whole[name]]
        assert changed == order[: len(changed)]
        for name in changed[:-1]:
            assert not page[name]
        for name in changed:
            assert page[name] == whole[name][: len(page[name])]


def test_no_limit_cuts_within_a_character_or_an_escape() -> None:
    text = '\\"\0😀é\n\\u0041\x1f' * 40
    for limit in range(300, 900):
        page = document(text, "text/plain", frozenset({"text"}), limit)
        assert text.startswith(page["text"])


def test_a_limit_that_holds_no_document_fails() -> None:
    with pytest.raises(ExtractFailed, match="100 bytes"):
        document(PAGE, max_bytes=100)


@pytest.mark.parametrize(
    "body",
    [
        b"<div>" * 100_000,
        b"<b>" * 100_000,
        b"<table><tr><td>" * 20_000,
        b"<svg>" * 100_000,
        b"<ul><li>" * 50_000,
        b"<p " + b" ".join(b"a%d=1" % n for n in range(1_000_000)) + b">x",
        b'<script type="application/ld+json">' + b"[" * 500_000 + b"</script>",
        b'<script type="application/ld+json">' + b'{"@graph":' * 100_000 + b"</script>",
        b"<p>" + b"word and word <a href=x>y</a> " * 700_000,
        b"<meta charset=" * 100_000,
        b"<?xml " + b"encoding=" * 100_000,
        bytes(1_000_000),
        b"&#xD800;" * 1000,
        b"<a href='&#0;\xff'>\0</a>",
    ],
    ids=range(14),
)
def test_a_monstrous_page_is_read_or_fails(body: bytes) -> None:
    try:
        document(body, include=ALL)
    except ExtractFailed:
        pass


@given(
    st.binary(max_size=300),
    st.sampled_from([None, "text/html", "text/plain", "application/json", "text/html; charset=gb18030"]),
    st.integers(400, 3000),
    st.frozensets(st.sampled_from(sorted(ALL))),
)
def test_any_bytes_give_a_document_or_a_refusal(
    body: bytes, content_type: str | None, limit: int, include: frozenset[str]
) -> None:
    try:
        document(body, content_type, include, limit)
    except (UnsupportedContent, ExtractFailed):
        pass


PIECES = st.sampled_from(
    [
        *("<", ">", "</", "/>", '"', "'", "=", "&", ";", "#", "\0", "\n", "é", "😀", "<!--", "-->", "<![CDATA["),
        *("<a href=", "<base href=", "javascript:", "//x", "<title>", "</title>", "<h1>", "<main>", "<article>", "<p>"),
        *("<table>", "<td>", "<template>", "<svg>", "<frameset>", "<plaintext>", "<script>", "</script>", "<nav>"),
        *("<img src=x alt=", "<meta charset=", "<meta property=og:title content=", "<script type=application/ld+json>"),
        *('{"@graph":', "[", "</main>", "</p>", "<select><option>", "<link rel=canonical href=", "text "),
    ]
)


@given(st.lists(PIECES, max_size=40).map("".join), st.integers(500, 4000), st.sampled_from([URL, "", "\ud800"]))
def test_mangled_html_gives_a_document_within_its_limit(html: str, limit: int, url: str) -> None:
    document(html, "text/html", ALL, limit, url)


class Independent(HTMLParser):
    """Title and links as the standard library sees them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.title = ""
        self.links = 0
        self._in_title = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_title = self._in_title or tag == "title"
        self.links += tag == "a" and any(name == "href" for name, _ in attrs)

    def handle_endtag(self, tag: str) -> None:
        self._in_title = self._in_title and tag != "title"

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data


@pytest.mark.skipif(not DOCS.is_dir(), reason="the Python documentation is not installed")
@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.long), 6])
def test_the_python_documentation_reads_as_an_independent_parser_reads_it(every: int) -> None:
    pages = sorted(DOCS.rglob("*.html"))[::every]
    assert pages
    for path in pages:
        html = path.read_text("utf-8")
        page = document(html, max_bytes=1 << 25)
        other = Independent(html)
        assert page["title"] == " ".join(other.title.split()), path
        # There html.parser loses 4 of the 77 links; Lexbor sees them too.
        assert len(page["links"]) == other.links or path.parts[-2:] == ("distributing", "index.html"), path
        assert "Report a Bug" not in page["text"], path  # of the sidebar
