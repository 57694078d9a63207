"""Writing the head of a response."""

from __future__ import annotations

import re
from http import HTTPStatus

_UNWRITABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def response_head(status: int, headers: list[tuple[str, str]]) -> bytes:
    """The head of a response.  Raises ValueError for a header field that would end its line early."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in headers)]
    for line in lines:
        if _UNWRITABLE.search(line):
            raise ValueError(f"a header field with a control character: {line!r}")
    return "\r\n".join((*lines, "\r\n")).encode("latin-1")
