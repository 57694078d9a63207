"""Targets: bodies of pages, and what a worker answers for one."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Any

import orjson

from fastmesh.crawl.extract.charset import decode
from fastmesh.crawl.extract.extract import extract
from fastmesh.crawl.extract.protocol import JobHead, answer_head, ready
from fastmesh.crawl.extract.sniff import kind_of
from fastmesh.crawl.extract.spec import ExtractSpec
from fastmesh.crawl.extract.worker_process import Job, WorkerProcess
from fastmesh.crawl.search.searxng import _found
from fastmesh.errors import UrlError

from .budget import Target, Watch, pieces

URL = "http://a.example/b"
PARTS = frozenset({"text", "markdown", "links", "metadata", "html"})
MAX_BYTES = 20_000
TYPES = (
    "text/html",
    "application/xml",
    "text/plain",
    None,
    'text/html; charset="utf-16"',
    "application/pdf",
    "text/html;charset=gbk",
)

PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]/Contents 4 0 R/Resources<</Font<</F<<"
    b"/Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>>>endobj\n4 0 obj<</Length 40>>stream\n"
    b"BT /F 12 Tf 9 9 Td (Hello there) Tj ET\nendstream\nendobj\n"
    b"trailer<</Root 1 0 R/Size 5>>\n%%EOF"
)
PAGE = (
    b"<!doctype html><html lang=en><head><title>T</title><meta name=description content=d><base href=/x/>"
    b'<script type=\'application/ld+json\'>{"@type":"Article","author":{"name":"A"}}</script></head><body>'
    b"<nav><a href=/n>n</a></nav><article><h1>H</h1><p>Some words of a text, long enough to be one. "
    b"<a href='p?q'>link</a></p>"
    b"<ul><li>a<li>b</ul><table><tr><td>1<td>2</table><img src=i.png alt=x><pre>code</pre></article></body></html>"
)
RSS = (
    b"<?xml version='1.0'?><!-- c --><rss version='2.0'><channel><title>T</title><link>http://a.example/</link><item>"
    b"<title>I</title><link>/i</link><description>&lt;p&gt;x</description>"
    b"<pubDate>Sun, 06 Nov 1994 08:49:37 GMT</pubDate></item></channel></rss>"
)
ATOM = (
    b"<feed xmlns='http://www.w3.org/2005/Atom'><title>T</title><entry><title>I</title>"
    b"<content type='html'>x</content></entry></feed>"
)
MARKUP = (
    b"<|>|</|<!--|-->|<![CDATA[|]]>|<?xml|&amp;|&#x|<p>|<div>|<a href='|<table>|<tr><td>|<b>|<script>|"
    b"<svg>|<template>|<select>|<li>|\\|<title>|<base href="
).split(b"|")


def kinds(data: bytes, watch: Watch) -> Hashable:
    """What a body is and how it is written, for every type that may be said of it; the loop never does this."""
    outcome = []
    for type_ in TYPES:
        try:
            kind = watch.turn(kind_of, data, type_)
        except UrlError as error:
            outcome.append(error.message[-12:])
            continue
        outcome.append(f"{kind} {len(watch.turn(decode, data, type_, is_html=kind == 'html')) == len(data)}")
    return tuple(outcome)


def _extracted(data: bytes, type_: str | None, extractor: str, watch: Watch) -> Hashable:
    try:
        found = watch.turn(extract, data, ExtractSpec(MAX_BYTES, PARTS, extractor), url=URL, content_type=type_)
    except UrlError as error:  # which a library's own trouble with a page becomes, too
        return error.message
    assert len(found.document) <= MAX_BYTES
    assert b"\n" not in found.document
    document = orjson.loads(found.document)
    return tuple(bool(value) for value in document.values()), found.gate.decision


def html(data: bytes, watch: Watch) -> Hashable:
    """A page, by either extractor."""
    return _extracted(data, "text/html; charset=utf-8", "fast", watch)


def html_quality(data: bytes, watch: Watch) -> Hashable:
    """A page, by the other extractor."""
    return _extracted(data, "text/html; charset=utf-8", "quality", watch)


def xml(data: bytes, watch: Watch) -> Hashable:
    """Feeds, and XML that is none."""
    return _extracted(data, "application/xml", "fast", watch)


def pdf(data: bytes, watch: Watch) -> Hashable:
    """A PDF."""
    return _extracted(data, "application/pdf", "fast", watch)


class Process:
    """Of a worker that is none."""

    pid = 1

    def kill(self) -> None:
        """There is nothing."""


class Pool:
    """What a worker tells."""

    def worker_free(self, _: object) -> None:
        """It may have another page."""

    worker_gone = worker_starved = worker_free

    def page_failed(self, job: Job, reason: str) -> None:
        """It ended with its page."""
        job.fail(reason)


def worker(data: bytes, watch: Watch) -> Hashable:
    """The framing of a worker's answers, of one that is broken or taken over: its page always comes to an end."""
    return asyncio.run(_answered([data], watch)), asyncio.run(_answered(pieces(data), watch))


async def _answered(parts: list[bytes], watch: Watch) -> Hashable:
    pool: Any = Pool()
    process: Any = Process()
    link: Any = None
    made = WorkerProcess(pool, process, link)
    made.data_received(ready())
    owner: Any = None
    job = Job("client", owner, JobHead(URL, None, ExtractSpec(1000), 1.0, 1.0), b"body")
    made.job = job
    for part in filter(None, parts):
        if not made.gone.done():
            watch.turn(made.data_received, part)
    if not made.gone.done():
        made.connection_lost(None)
    assert job.extracted.done()
    result = job.extracted.result()
    return type(result).__name__, str(result)[:200]


def search(data: bytes, watch: Watch) -> Hashable:
    """What a search provider answers."""
    try:
        given = watch.turn(orjson.loads, data)
    except orjson.JSONDecodeError:
        return "no JSON"
    return len(list(watch.turn(lambda: list(_found(given))))) if isinstance(given, list) else "no list"


TARGETS = (
    Target(
        "kinds",
        kinds,
        (
            PAGE,
            RSS,
            ATOM,
            PDF,
            b"x" * 99 + PDF,
            b"plain text",
            b"\xff\xfea\0b\0",
            b"\xfe\xff\0a",
            b"\x1b$B",
            b"BZh",
            b"    ftyp",
            b"<?xml version='1.0' encoding='utf-16'?>",
            b"<meta charset=x-user-defined>",
            b"<?xml version='1.0'?>" + b"<!-- a -->" * 26 + b"<x>",  # 2 to the power of that many ways
            b"<?xml version='1.0'?>" + b"<!-- - -- -->" * 99 + b"<rss>",
            b"<!DOCTYPE x [" + b"<!ENTITY a 'b'>" * 999 + b"]><rss>",
            b" " * 60_000 + b"<rss",
            b"<?" * 30_000,
            b"<!--" * 15_000,
            b"<meta " * 9000 + b"charset=utf-8>",
            b"<meta charset='" * 4000,
        ),
        (
            *(
                b"<?xml |?>|encoding=|charset=|<rss|<feed|<rdf:RDF|<!DOCTYPE |[|]|%PDF-|\xef\xbb\xbf|utf-8|"
                b"utf-16|<meta |http-equiv=|content="
            ).split(b"|"),
            *MARKUP,
        ),
        s_a_byte=40e-6,
    ),
    Target(
        "html",
        html,
        (
            PAGE,
            PAGE * 30,
            b"<b>" * 3000 + b"x",
            b"<div>" * 9000,
            b"<p>" + b"\\" * 10_000,
            b"<table>" * 3000 + b"x",
            b"<a>" * 9000,
            b"<p>x</p>" * 9000,
            b"<script type='application/ld+json'>" + b"[" * 9000,
            b"&" * 60_000,
            b"<base href='http://[' ><a href=x>",
            b"<title>" + b"\\u001f" * 9000,
            b"<svg><title>x</title>" * 900,
            b"<select><option>" * 3000,
            b"<ruby><rt>" * 3000,
            b"\0" * 9000,
        ),
        MARKUP,
        base_s=1.0,
        s_a_byte=200e-6,
        turn_s=20.0,
    ),
    Target(
        "html-quality",
        html_quality,
        (PAGE, PAGE * 9, b"<div>" * 900, b"<p>x</p>" * 900),
        MARKUP,
        base_s=2.0,
        s_a_byte=1e-3,
        turn_s=40.0,
        max_bytes=20_000,
    ),
    Target(
        "xml",
        xml,
        (
            RSS,
            ATOM,
            RSS.replace(b"<item>", b"<item>" * 900),
            b"<?xml version='1.0'?>" + b"<!-- a -->" * 30 + b"<x>",
            b"<rss><channel>" + b"<item><title>x</title></item>" * 2000,
            b"<feed>" * 9000,
            b"<rss>" + b"\\" * 10_000,
            b"<!DOCTYPE r [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;'>]>"
            b"<rss><channel><title>&b;</title></channel></rss>",
        ),
        (*b"<rss>|<channel>|<item>|<feed>|<entry>|<link>|<content>|<description>|<pubDate>".split(b"|"), *MARKUP),
        base_s=1.0,
        s_a_byte=200e-6,
        turn_s=20.0,
    ),
    Target(
        "pdf",
        pdf,
        (
            PDF,
            b"x" * 900 + PDF,
            PDF.replace(b"/Count 1", b"/Count 99999999"),
            PDF.replace(b"3 0 R", b"2 0 R"),
            PDF[:300],
            b"%PDF-" * 9000,
        ),
        (
            b"obj|endobj|stream\n|endstream|<<|>>|/Kids[|/Type/Page| 0 R|/Length |/Filter/FlateDecode|"
            b"xref\n|trailer|startxref\n|(|)|Tj|Td|[|]"
        ).split(b"|"),
        base_s=2.0,
        s_a_byte=500e-6,
        turn_s=40.0,
    ),
    Target(
        "worker",
        worker,
        (
            answer_head(0, 2) + b"{}",
            answer_head(1, 40) + b'{"type":"extract_failed","message":"x"}  ',
            answer_head(0, 1001) + b"x" * 1001,
            answer_head(0, 3) + b"{\n}",
            answer_head(9, 2) + b"{}",
            answer_head(1, 2) + b"{}",
            answer_head(1, 4) + b"null",
            ready() * 2,
            b"\xff" * 40,
        ),
        (answer_head(0, 2), answer_head(1, 2), ready(), b"{}", b'"type":', b'"message":', b"null", b"\n"),
    ),
    Target(
        "search",
        search,
        (
            b'[{"url":"http://a.example/","title":"t","content":"c"}]',
            b'[{"url":1},null,{"url":"x","title":null,"content":[]}]',
            b"[" * 9000,
            b"{}",
        ),
        b'"url":|"title":|"content":|null|[|{|}|]|,|"\\ud800"'.split(b"|"),
    ),
)
