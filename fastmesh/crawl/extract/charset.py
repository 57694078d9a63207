"""From a page's bytes to its text.

The charset is said, in this order, by: a byte order mark, the header, what the page declares in its first
PRESCAN_BYTES (in a meta only in HTML: a text may speak of other pages), that it is valid UTF-8, the look of its bytes;
else it is windows-1252.  Labels and decoders are WHATWG's, as in browsers: "iso-8859-1" means windows-1252, and no
label reaches a codec that is not of text.
"""

from __future__ import annotations

import codecs
import re
from typing import Final

from turbohtml import parse
from turbohtml.detect import detect

# A browser looks at 1024 bytes first and starts anew when a meta comes later; pages with much before it exist.
PRESCAN_BYTES: Final = 4096
# Detection takes 66 ns a byte, and what it found in this many it does not take back.
DETECT_BYTES: Final = 262_144
FALLBACK: Final = "whatwg-windows-1252"

BOMS: Final = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
# "<?x" in UTF-16 without a mark (WHATWG, HTML 13.2.3.2).
XML_IN_UTF16: Final = ((b"<\0?\0x\0", "utf-16-le"), (b"\0<\0?\0x", "utf-16-be"))
UTF16_LABELS: Final = frozenset(
    "csunicode iso-10646-ucs-2 ucs-2 unicode unicodefeff unicodefffe utf-16 utf-16be utf-16le".split()
)
# WHATWG decodes these to one U+FFFD, for safety; here the next source is asked.
REPLACEMENT_LABELS: Final = frozenset(
    "csiso2022kr hz-gb-2312 iso-2022-cn iso-2022-cn-ext iso-2022-kr replacement".split()
)
# WHATWG labels that turbohtml 1.15 does not find (tests/crawl/test_charset.py goes through all of them).
MISSED_LABELS: Final = {
    "ansi_x3.4-1968": "windows-1252",
    "gb_2312-80": "gbk",
    "ks_c_5601-1987": "euc-kr",
    "ks_c_5601-1989": "euc-kr",
    **{f"iso_8859-{part}:1987": f"iso-8859-{part}" for part in (1, 2, 6, 7)},
    **{f"iso_8859-{part}:1988": f"iso-8859-{part}" for part in (3, 4, 5, 8)},
    "iso_8859-9:1989": "iso-8859-9",
}

_LABEL: Final = re.compile(r"[a-z0-9_:.+-]{1,40}")
_CHARSET: Final = re.compile(r"""charset\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s;"']+))""", re.IGNORECASE)
_XML_ENCODING: Final = re.compile(rb"""\s*<\?xml\s[^>]*?encoding\s*=\s*["']([^"'>]*)["']""")


def decode(body: bytes, content_type: str | None, *, is_html: bool = True) -> str:
    """The text of *body*; what its charset does not know becomes U+FFFD.  Never raises."""
    for bom, codec in BOMS:
        if body.startswith(bom):
            return body[len(bom) :].decode(codec, "replace")
    codec = codec_of(_charset_in(content_type or "")) or _from_page(body[:PRESCAN_BYTES], is_html) or _from_look(body)
    return body.decode(codec, "replace")


def codec_of(label: str) -> str | None:
    """The name of the codec that the WHATWG label *label* asks for; None when there is none."""
    label = label.strip("\t\n\f\r ").lower()
    label = MISSED_LABELS.get(label, label)
    if label in REPLACEMENT_LABELS or not _LABEL.fullmatch(label):
        return None
    name = f"whatwg-{label}"
    try:
        codecs.lookup(name)
    except LookupError:
        return None
    return name


def _from_page(head: bytes, is_html: bool) -> str | None:
    """What a page declares of itself, in ``<?xml encoding>`` or in a meta."""
    for start, without_mark in XML_IN_UTF16:
        if head.startswith(start):
            return without_mark
    if found := _XML_ENCODING.match(head):
        codec = _declared(found[1].decode("latin-1"))
        if codec is not None:
            return codec
    if not is_html or b"<" not in head:
        return None
    for meta in parse(head.decode("latin-1"), positions=False).iter_elements("meta"):
        label = meta.attr("charset")
        if label is None and (meta.attr("http-equiv") or "").strip().lower() == "content-type":
            label = _charset_in(meta.attr("content") or "")
        codec = _declared(label or "")
        if codec is not None:
            return codec
    return None


def _from_look(body: bytes) -> str:
    # ISO-2022-JP is valid UTF-8 as well, but for its escapes.
    if b"\x1b" not in body and _is_utf8(body):
        return "utf-8"
    return detect(body[:DETECT_BYTES]).codec or FALLBACK


def _is_utf8(body: bytes) -> bool:
    try:
        codecs.utf_8_decode(body, "strict", False)  # not final: a body may be cut within a character
    except UnicodeDecodeError:
        return False
    return True


def _declared(label: str) -> str | None:
    """Where a page could be read so far, it is not UTF-16, whatever it says (WHATWG, HTML 13.2.3.2)."""
    label = label.strip("\t\n\f\r ").lower()
    if label in UTF16_LABELS:
        return "utf-8"
    return FALLBACK if label == "x-user-defined" else codec_of(label)


def _charset_in(content_type: str) -> str:
    found = _CHARSET.search(content_type)
    return "" if found is None else found[1] or found[2] or found[3] or ""
