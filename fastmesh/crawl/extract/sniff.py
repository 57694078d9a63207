"""What kind of document a body is: by its content type, and by its first bytes where that says nothing.

Where the type is missing, or is one that servers send for "unknown", the first bytes decide.  Besides, a body that
begins like a PDF, an image or an archive is one, whatever its type says; XML that begins like a feed is a feed; and a
body that begins like HTML is HTML where its type says something that no document is made of.

Only the first HEAD_BYTES are looked at, and each pattern reads each of them a fixed number of times at most.
"""

from __future__ import annotations

import codecs
import re
from typing import Final, Literal

from fastmesh.errors import UnsupportedContent

Kind = Literal["html", "text", "feed", "pdf"]

HTML_TYPES: Final = frozenset({"text/html", "application/xhtml+xml", "application/vnd.wap.xhtml+xml"})
FEED_TYPES: Final = frozenset(
    {"application/rss+xml", "application/x-rss+xml", "application/atom+xml", "application/rdf+xml"}
)
XML_TYPES: Final = frozenset({"application/xml", "text/xml"})
TEXT_TYPES: Final = frozenset(
    f"application/{name}"
    for name in (
        "ecmascript javascript json ndjson sql toml x-javascript x-ndjson x-sh x-yaml xml xml-dtd yaml"
    ).split()
)
UNKNOWN_TYPES: Final = frozenset(
    {"", "*/*", "application/octet-stream", "application/unknown", "binary/octet-stream", "unknown/unknown"}
)
MEDIA: Final = ("image/", "audio/", "video/", "font/", "model/")

PDF_MAGIC: Final = b"%PDF-"
# How far into a body that is called a PDF it is searched for, as readers do (ISO 32000-1, annex H.3.4.1, note 13).
PDF_WITHIN_BYTES: Final = 1024
PDF_TYPES: Final = frozenset({"application/pdf", "application/x-pdf"})
# Where in the body, which bytes, and what type they are of.  Letters and digits may begin a text as well: such a
# signature counts only where the first bytes are no text.
SIGNATURES: Final = (
    (0, b"%!PS-Adobe-", "application/postscript"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (8, b"WEBPVP", "image/webp"),
    (4, b"ftyp", "video/mp4"),
    (0, b"\x1a\x45\xdf\xa3", "video/webm"),
    (0, b"OggS\x00", "application/ogg"),
    (0, b"ID3\x03", "audio/mpeg"),
    (0, b"ID3\x04", "audio/mpeg"),
    (0, b"wOFF", "font/woff"),
    (0, b"wOF2", "font/woff2"),
    (0, b"PK\x03\x04", "application/zip"),
    (0, b"\x1f\x8b\x08", "application/gzip"),
    (0, b"BZh", "application/x-bzip2"),
    (0, b"\xfd7zXZ\x00", "application/x-xz"),
    (0, b"\x28\xb5\x2f\xfd", "application/zstd"),
    (0, b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (0, b"Rar!\x1a\x07", "application/vnd.rar"),
    (0, b"\x7fELF", "application/x-executable"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
)

HEAD_BYTES: Final = 2048
_TYPE: Final = re.compile(r"[a-z0-9!#$&^_.+*-]{1,64}/[a-z0-9!#$&^_.+*-]{1,100}")
_HTML: Final = re.compile(
    rb"\s*(?:<\?xml[^>]*>\s*)?<(?:!--|(?:!doctype\s+html|html|head|body|title|meta|link|base|script|style|noscript|"
    rb"iframe|main|article|section|nav|header|footer|div|p|h[1-6]|table|ul|ol|dl|pre|form|font|center|span|img|"
    rb"blockquote|a|b|br|hr|i|em|strong)(?=[\s/>]))",
    re.IGNORECASE,
)
# Atomic: what stands before the root is read once, and never again in another way.  Its comments ended a match in
# 2ⁿ ways before: 26 of them took 79 s.
_FEED: Final = re.compile(
    rb"(?>\s*(?:(?:<\?[^>]*>|<!--.*?-->)\s*)*)<(?:rss|feed|rdf:rdf)(?=[\s>])", re.IGNORECASE | re.DOTALL
)
# What no text has (WHATWG, MIME Sniffing, "binary data byte").
_BINARY: Final = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")


def kind_of(body: bytes, content_type: str | None) -> Kind:
    """What kind of document *body* is.  Raises UnsupportedContent, with type and size, when none is made of it."""
    declared = essence(content_type)
    if _is_pdf(body, declared):
        return "pdf"
    if body:
        for at, signature, type_ in SIGNATURES:
            if body.startswith(signature, at) and not (signature.isalnum() and _is_text(_head(body))):
                raise _refusal(type_, body)
    if declared in HTML_TYPES:
        return "html"
    if declared in FEED_TYPES or (declared in XML_TYPES | UNKNOWN_TYPES and _FEED.match(_head(body))):
        return "feed"
    if not declared.startswith(MEDIA) and (
        declared.startswith("text/") or declared in TEXT_TYPES or declared.endswith(("+json", "+xml", "+yaml"))
    ):
        return "text"
    if _HTML.match(_head(body)):
        return "html"
    if declared in UNKNOWN_TYPES and _is_text(_head(body)):
        return "text"
    named = "binary data without a content type" if declared in UNKNOWN_TYPES else declared
    raise _refusal(named, body)


def essence(content_type: str | None) -> str:
    """``type/subtype`` in lower case; empty when it is missing or malformed."""
    type_ = (content_type or "").partition(";")[0].strip().lower()
    return type_ if _TYPE.fullmatch(type_) else ""


def _refusal(type_: str, body: bytes) -> UnsupportedContent:
    return UnsupportedContent(f"no document is made of {type_} ({len(body)} bytes)")


def _is_pdf(body: bytes, declared: str) -> bool:
    if declared in PDF_TYPES:
        return PDF_MAGIC in body[: PDF_WITHIN_BYTES + len(PDF_MAGIC)]
    # Line ends and a mark before it come from a server's templates, whatever type the server sends with it.
    return body[:PDF_WITHIN_BYTES].removeprefix(codecs.BOM_UTF8).lstrip().startswith(PDF_MAGIC)


def _is_text(head: bytes) -> bool:
    return _BINARY.search(head) is None


def _head(body: bytes) -> bytes:
    """The first bytes, in UTF-8 when a mark says that they are of UTF-16."""
    for bom, codec in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if body.startswith(bom):
            return body[2:HEAD_BYTES].decode(codec, "replace").encode()
    return body[:HEAD_BYTES].removeprefix(codecs.BOM_UTF8)
