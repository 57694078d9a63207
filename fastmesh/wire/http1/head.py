"""Heads: a request's line, header fields, target and length of body are read, a response's head is written.

httptools reads the fields of a whole head in one call; everything else is read here, and what two readers could read
differently is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from http import HTTPStatus

import httptools

from fastmesh.errors import ApiError, BadRequest, HeaderTooLarge
from fastmesh.wire.http1.fields import has_token

MAX_HEADERS = 100  # of a request, and as many trailers

_REQUEST_LINE = re.compile(rb"([A-Z]{1,20}) ([\x21-\x7e]+) HTTP/1\.([01])\r\n")
# A browser leaves | ^ ` { } and \ raw in a query and escapes the rest (WHATWG URL, query percent-encode set); no path
# that is served has any of them.
_UNWISE_IN_PATH = re.compile(r'[\\"<>#^`{|}]')
_UNWISE_IN_QUERY = re.compile(r'["<>#]')
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(:[0-9]{0,5})?")
_LENGTH = re.compile(rb"[0-9]{1,19}")
# Header fields that may come once: of two, some readers take the first and others the last.
_SINGLE = frozenset({"host", "content-length", "transfer-encoding", "content-type", "origin", "expect", "x-request-id"})
_UNWRITABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(slots=True)
class Request:
    """A whole request; or, with a *fault*, as much of one as came before it was refused."""

    method: str = ""
    path: str = ""
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)  # names in lower case, values latin-1
    body: bytes = b""
    minor: int = 1  # HTTP/1.minor
    keep_alive: bool = False
    fault: ApiError | None = None

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for status 100 before it sends the body (RFC 9110, section 10.1.1)."""
        return self.minor == 1 and self.headers.get("expect", "").lower() == "100-continue"


class _Fields:
    """Takes httptools' callbacks for one head."""

    def __init__(self) -> None:
        self.pairs: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.pairs.append((name, value))


def read_head(head: bytes) -> tuple[Request, int | None]:
    """The request of a whole *head*, and the length of its body, None when that is chunked.  Raises ApiError."""
    line = _REQUEST_LINE.match(head)
    if line is None:
        raise BadRequest("a request line is METHOD, one space, target, one space, HTTP/1.1 or HTTP/1.0")
    if head.count(b"\r\n") - 2 > MAX_HEADERS:
        raise HeaderTooLarge(f"a request may have {MAX_HEADERS} header fields")
    fields = _Fields()
    try:
        httptools.HttpRequestParser(fields).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # the head is whole; what an upgrade means is decided below
    except httptools.HttpParserCallbackError:
        raise  # a fault of fastmesh, not of the head
    except httptools.HttpParserError:
        raise BadRequest("the header fields are not as RFC 9112 has them") from None
    request = Request(method=line[1].decode(), minor=int(line[3]))
    request.headers = headers = _joined(fields.pairs)
    request.path, request.query = _target(line[2].decode(), headers)
    length = _body_length(request, headers)
    connection = headers.get("connection", "")
    kept = request.minor == 1 or has_token(connection, "keep-alive")
    request.keep_alive = kept and not has_token(connection, "close")
    if "upgrade" in headers and has_token(connection, "upgrade"):
        # What follows such a head is the new protocol to some readers, and its body to others.
        if length != 0:
            raise BadRequest("a request that asks for an upgrade may have no body")
        request.keep_alive = False
    return request, length


def _joined(pairs: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """The header fields by their names in lower case; fields of one name become a list."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1").strip(" \t")
        if name in headers:
            if name in _SINGLE:
                raise BadRequest(f"a request may have one {name} field")
            value = f"{headers[name]}, {value}"
        headers[name] = value
    return headers


def _target(target: str, headers: dict[str, str]) -> tuple[str, str]:
    """Path and query of *target*, which is in origin form or, when it names the same Host, in absolute form."""
    host = headers.get("host")
    if host is not None and _HOST.fullmatch(host) is None:
        raise BadRequest("Host must be a name or an address, and perhaps a port")
    if target.lower().startswith("http://"):
        authority, slash, rest = target[7:].partition("/")
        if authority.lower() != (host or "").lower():
            raise BadRequest("the request target names another host than Host")
        target = slash + rest or "/"
    path, _, query = target.partition("?")
    if (
        not path.startswith("/")
        or path.startswith("//")
        or _UNWISE_IN_PATH.search(path)
        or _UNWISE_IN_QUERY.search(query)
    ):
        raise BadRequest("the request target must be a path, and perhaps a query")
    return path, query


def _body_length(request: Request, headers: dict[str, str]) -> int | None:
    """The bytes of the body; None when it is chunked."""
    if request.minor == 1 and "host" not in headers:
        raise BadRequest("a request must have a Host field")
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if request.minor == 0 or coding.lower() != "chunked" or "content-length" in headers:
            raise BadRequest("Transfer-Encoding must be chunked, on HTTP/1.1, without a Content-Length")
        return None
    length = headers.get("content-length", "0")
    if _LENGTH.fullmatch(length.encode("latin-1")) is None:
        raise BadRequest("Content-Length must be a number")
    return int(length)


def response_head(status: int, headers: list[tuple[str, str]]) -> bytes:
    """The head of a response.  Raises ValueError for a header field that would end its line early."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in headers)]
    for line in lines:
        if _UNWRITABLE.search(line):
            raise ValueError(f"a header field with a control character: {line!r}")
    return "\r\n".join((*lines, "\r\n")).encode("latin-1")
