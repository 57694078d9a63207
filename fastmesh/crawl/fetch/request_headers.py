"""Which request headers a client may choose for its fetches."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from fastmesh.errors import InvalidUrl

# They frame the request or belong to this connection: a client that chose them could
# smuggle a second request or reach another site of the same address.  With _ for - too: gateways that
# hand fields on as variables (CGI, WSGI) make one of both.
RESERVED: Final = frozenset(
    "accept-encoding connection content-length expect host keep-alive proxy-authorization proxy-connection te trailer "
    "transfer-encoding upgrade".split()
)

_NAME: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_TOKEN: Final = re.compile(_NAME)
_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")


def _in_any_spelling(name: str) -> str:
    return "".join(f"[{letter.upper()}{letter}]" if letter.isalpha() else "[-_]" for letter in name)


# These rules for a JSON Schema, whose regular expressions cannot ignore the case.
NAME_PATTERN: Final = rf"^(?!(?:{'|'.join(_in_any_spelling(name) for name in sorted(RESERVED))})$){_NAME}$"
VALUE_PATTERN: Final = rf"^{_VALUE.pattern}$"


def headers_refusal(headers: Mapping[str, str]) -> str | None:
    """Why a client may not have these headers sent to origins; None when it may."""
    names: dict[str, str] = {}
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name):
            return f"{name!r} is no header name"
        if name.lower().replace("_", "-") in RESERVED:
            return f"{name} is set by fastmesh itself"
        if not _VALUE.fullmatch(value):
            return f"the value of {name} holds more than visible ASCII, spaces and tabs"
        if names.setdefault(name.lower(), name) != name:
            return f"{names[name.lower()]} and {name} are one header, and which value is meant is not said"
    return None


def checked(headers: Mapping[str, str]) -> dict[str, str]:
    """*headers*, every one allowed.  Raises InvalidUrl: a request refuses them earlier and by their field."""
    if refusal := headers_refusal(headers):
        raise InvalidUrl(f"the request headers are refused: {refusal}")
    return dict(headers)
