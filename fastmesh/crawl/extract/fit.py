"""A document as JSON that fits into a frame: what is too long is shortened, the least important part first."""

from __future__ import annotations

from typing import Any, Final

import orjson

from fastmesh.crawl.extract.document import Document
from fastmesh.errors import ExtractFailed

# Links are more use to a crawler than the rest of a long text.
SHORTENED: Final = tuple(
    "html markdown text links media description title byline site_name published language canonical_url".split()
)
# Of an escape that was cut, of \u001f for one, at most so much is there.
CUT_ESCAPE_BYTES: Final = 5


def fitted(whole: Document, max_bytes: int) -> bytes:
    """*whole* as JSON without a raw newline, shortened to *max_bytes* when it is longer; then it says so.

    Raises ExtractFailed when not even an empty document fits.
    """
    encoded = orjson.dumps(whole)
    if len(encoded) <= max_bytes:
        return encoded
    document: dict[str, Any] = {**whole, "truncated": True}
    for name in SHORTENED:
        value = document.get(name)
        if value:
            over = len(orjson.dumps(document)) - max_bytes
            if over <= 0:
                break
            document[name] = _shorter_text(value, over) if isinstance(value, str) else _shorter_list(value, over)
    encoded = orjson.dumps(document)
    if len(encoded) > max_bytes:
        raise ExtractFailed(f"no document fits into {max_bytes} bytes")
    return encoded


def _shorter_text(text: str, over: int) -> str:
    """The beginning of *text*, shorter by *over* bytes of JSON at least; empty when it has no more than these."""
    encoded = orjson.dumps(text)[1:-1]
    kept = _without_cut_escape(encoded[: max(0, len(encoded) - over)])
    # "ignore" drops a character that was cut in its middle.
    whole: str = orjson.loads(b'"%b"' % kept.decode(errors="ignore").encode())
    return whole


def _without_cut_escape(kept: bytes) -> bytes:
    """*kept*, the beginning of a JSON string, without an escape that was cut at its end.  Reads it once at most."""
    begins = kept.rfind(b"\\", -CUT_ESCAPE_BYTES)
    if begins < 0:
        return kept
    slashes = begins + 1 - len(kept[: begins + 1].rstrip(b"\\"))
    # An even number of them are backslashes that were escaped; an odd one begins something, whole unless it is this.
    cut = slashes % 2 and kept[begins + 1 : begins + 2] in (b"", b"u")
    return kept[:begins] if cut else kept


def _shorter_list(items: list[Any], over: int) -> list[Any]:
    kept = len(items)
    while kept and over > 0:
        kept -= 1
        over -= len(orjson.dumps(items[kept])) + 1  # and its comma
    return items[:kept]
