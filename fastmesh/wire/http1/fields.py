"""Header fields whose value is a list (RFC 9110, section 5.6.1); a long one is searched or counted, not split."""

from __future__ import annotations

import re

from fastmesh.errors import BadRequest

TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
MAX_ELEMENTS = 100

# 64 KB of commas are 65,000 elements.
_LISTED = {
    token: re.compile(rf"(?:^|,)[ \t]*+{token}[ \t]*+(?:,|\Z)", re.IGNORECASE | re.ASCII)
    for token in ("close", "keep-alive", "upgrade", "websocket")
}


def listed(value: str) -> list[str]:
    """The elements of *value*, without the empty ones (RFC 9110, section 5.6.1.2).  Raises BadRequest when there are
    more than MAX_ELEMENTS."""
    if value.count(",") >= MAX_ELEMENTS:
        raise BadRequest(f"a field that is a list may have {MAX_ELEMENTS} elements")
    return [element for part in value.split(",") if (element := part.strip(" \t"))]


def has_token(value: str, token: str) -> bool:
    """Whether *value* has the element *token*, in upper or lower case."""
    return _LISTED[token].search(value) is not None
