"""HTTP/1.1 requests out of bytes, and heads of responses (RFC 9112).

HttpParser finds where a head ends by itself, so every limit is exact wherever
the bytes are cut and an idle connection holds no parser; httptools then reads
the head, whole, in one call.  Whatever two readers could read differently is
refused: a request with a ``fault`` is the last one that a parser gives.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from http import HTTPStatus
from urllib.parse import urlsplit

import httptools

from fastmesh.errors import ApiError, BadRequest, HeaderTooLarge, PayloadTooLarge

MAX_HEADERS = 100
MAX_BATCH = 16  # requests a feed gives at most; feed(b"") gives the next
MAX_CHUNK_LINE = 256  # a chunk's size with its extensions

_REQUEST_LINE = re.compile(rb"([A-Z]{1,20}) ([\x21-\x7e]+) HTTP/1\.([01])\r\n")
_UNWISE = re.compile(r'[\\"<>#^`{|}]')
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(:[0-9]{0,5})?")
_LENGTH = re.compile(rb"[0-9]{1,19}")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(;[\t\x20-\x7e\x80-\xff]*)?")
_LONE_LF = re.compile(rb"(?<!\r)\n")
# Fields of which a second one would be read by some and not by others.
_SINGLE = frozenset({"host", "content-length", "transfer-encoding", "content-type", "origin", "expect", "x-request-id"})
_UNWRITABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(slots=True)
class Request:
    """One request, whole; or, with a *fault*, why there will be none."""

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
        """Whether the client waits for a 100 before it sends the body (RFC 9110, section 10.1.1)."""
        return self.minor == 1 and self.headers.get("expect", "").lower() == "100-continue"


class Phase(Enum):
    """What the next byte belongs to."""

    IDLE = "idle"  # nothing of a request is here
    HEAD = "head"
    SIZED = "sized"  # a body of known length
    CHUNK_LINE = "chunk_line"
    CHUNK_DATA = "chunk_data"
    TRAILER = "trailer"
    OVER = "over"  # after a fault or the last request of a connection: all input is ignored


class HttpParser:
    """Bytes in, requests out; owns no socket and no clock.

    *max_header_bytes* counts from the first byte, line ends before the request
    included; *max_body_bytes* counts the body as received, chunk framing
    included.
    """

    __slots__ = (
        "_body",
        "_buffer",
        "_head",
        "_max_body",
        "_max_header",
        "_received",
        "_scanned",
        "_want",
        "begun",
        "phase",
        "rest",
    )

    def __init__(self, max_header_bytes: int = 65_536, max_body_bytes: int = 1_048_576) -> None:
        self._max_header = max_header_bytes
        self._max_body = max_body_bytes
        self._buffer = bytearray()
        self._scanned = 0  # of the buffer, without the end of a head
        self._want = 0  # bytes of body or chunk still to come
        self._received = 0  # of the body, framing included
        self._head: Request | None = None
        self._body = bytearray()
        self.begun = 0  # heads begun so far: a new one gets a new deadline
        self.phase = Phase.IDLE
        self.rest = b""  # what came behind a request that asks for another protocol

    @property
    def pending(self) -> bool:
        """Whether feed(b"") might give another request."""
        return bool(self._buffer) and self.phase is not Phase.OVER

    @property
    def awaiting_body(self) -> Request | None:
        """The request whose head is here and whose body is not."""
        return self._head

    def feed(self, data: bytes) -> list[Request]:
        """Take *data*; return the requests that are complete, MAX_BATCH at most."""
        requests: list[Request] = []
        step = _STEPS
        if self.phase in step:
            self._buffer += data
        while len(requests) < MAX_BATCH and self.phase in step:
            try:
                before = self.phase, len(self._buffer)
                request = step[self.phase](self)
            except ApiError as fault:
                request = self._head or Request()
                request.fault, request.keep_alive = fault, False
            if request is not None:
                requests.append(request)
                self._head = None
                self.phase = Phase.IDLE if request.keep_alive else Phase.OVER
            elif before == (self.phase, len(self._buffer)):
                break
        if self.phase not in step:
            if requests and requests[-1].fault is None and "upgrade" in requests[-1].headers:
                self.rest = bytes(self._buffer)
            self._buffer.clear()
        return requests

    # ── one step each: consume something, perhaps complete a request ─────────────────────

    def _begin(self) -> Request | None:
        if self._buffer:
            self.begun += 1
            self._scanned = 0
            self.phase = Phase.HEAD
        return None

    def _read_head(self) -> Request | None:
        buffer = self._buffer
        start = 0  # line ends before a request are passed over (RFC 9112, section 2.2), but they count
        while buffer.startswith(b"\r\n", start):
            start += 2
        end = buffer.find(b"\r\n\r\n", max(start, self._scanned - 3))
        seen = self._max_header if end < 0 or end + 4 > self._max_header else end + 4
        if start < len(buffer) and not (65 <= buffer[start] <= 90 or buffer[start:] == b"\r"):
            raise BadRequest("a request begins with a method in capital letters")
        if _LONE_LF.search(buffer, max(0, self._scanned - 1), seen):
            raise BadRequest("a line must end with CR LF")
        self._scanned = len(buffer)
        if end < 0 and len(buffer) <= self._max_header:
            return None
        if end < 0 or end + 4 > self._max_header:
            raise HeaderTooLarge(f"the head of a request may have {self._max_header} bytes")
        head = bytes(buffer[start : end + 4])
        del buffer[: end + 4]
        return self._begin_body(*_read_head(head))

    def _begin_body(self, request: Request, length: int | None) -> Request | None:
        """*length* is the body's, None when it is chunked."""
        self._head = request
        self._received = 0
        self._body = bytearray()
        if length is None:
            self.phase = Phase.CHUNK_LINE
            return None
        if length > self._max_body:
            raise self._too_large()
        if length == 0:
            return request
        self._want = length
        self.phase = Phase.SIZED
        return None

    def _read_sized(self) -> Request | None:
        if len(self._buffer) < self._want:
            return None
        request = self._head
        assert request is not None
        request.body = bytes(self._buffer[: self._want])
        del self._buffer[: self._want]
        return request

    def _read_chunk_line(self) -> Request | None:
        line = self._line("a chunk's size")
        if line is None:
            return None
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise BadRequest("a chunk begins with its size in hexadecimal digits")
        self._want = int(match[1], 16)
        if self._received + self._want > self._max_body:
            raise self._too_large()
        self.phase = Phase.CHUNK_DATA if self._want else Phase.TRAILER
        return None

    def _read_chunk_data(self) -> Request | None:
        if len(self._buffer) < self._want + 2:
            # A missing line end is told as soon as it can be seen, not when the next bytes happen to come.
            if len(self._buffer) == self._want + 1 and self._buffer[self._want] != 13:
                raise BadRequest("a chunk must end with CR LF")
            return None
        if self._buffer[self._want : self._want + 2] != b"\r\n":
            raise BadRequest("a chunk must end with CR LF")
        self._body += self._buffer[: self._want]
        self._consume(self._want + 2)
        self.phase = Phase.CHUNK_LINE
        return None

    def _read_trailer(self) -> Request | None:
        line = self._line("a trailer")
        if line is None or line:  # trailers are dropped: none of them may change what the head said
            return None
        request = self._head
        assert request is not None
        request.body = bytes(self._body)
        self._body = bytearray()
        return request

    def _line(self, what: str) -> bytes | None:
        """The next line of a chunked body without its end, or None when it is not whole yet."""
        buffer = self._buffer
        limit = MAX_CHUNK_LINE if self.phase is Phase.CHUNK_LINE else self._max_header
        end = buffer.find(b"\n", 0, limit + 2)
        if end < 0:
            if len(buffer) >= limit + 2:
                raise BadRequest(f"{what} may take {limit} bytes")
            if self._received + len(buffer) > self._max_body:
                raise self._too_large()
            return None
        line = bytes(buffer[: end + 1])
        if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
            raise BadRequest("a line must end with CR LF")
        self._consume(end + 1)
        return line[:-2]

    def _consume(self, count: int) -> None:
        del self._buffer[:count]
        self._received += count
        if self._received > self._max_body:
            raise self._too_large()

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"the body of a request may have {self._max_body} bytes")


_STEPS = {
    Phase.IDLE: HttpParser._begin,
    Phase.HEAD: HttpParser._read_head,
    Phase.SIZED: HttpParser._read_sized,
    Phase.CHUNK_LINE: HttpParser._read_chunk_line,
    Phase.CHUNK_DATA: HttpParser._read_chunk_data,
    Phase.TRAILER: HttpParser._read_trailer,
}


# ── a head ───────────────────────────────────────────────────────────────────────────────


class _Fields:
    """Takes httptools' callbacks for one head."""

    def __init__(self) -> None:
        self.pairs: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.pairs.append((name, value))


def _read_head(head: bytes) -> tuple[Request, int | None]:
    """The request of a whole *head*, and its body's length, None when it is chunked."""
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
    except httptools.HttpParserError:
        raise BadRequest("the header fields are not as RFC 9112 has them") from None
    request = Request(method=line[1].decode(), minor=int(line[3]))
    request.headers = headers = _joined(fields.pairs)
    request.path, request.query = _target(line[2].decode(), headers)
    length = _body_length(request, headers)
    connection = _tokens(headers.get("connection", ""))
    request.keep_alive = "close" not in connection and (request.minor == 1 or "keep-alive" in connection)
    if "upgrade" in connection and "upgrade" in headers:
        # Some readers take what follows such a head for the new protocol, some for its body.
        if length != 0:
            raise BadRequest("a request that asks for an upgrade may have no body")
        request.keep_alive = False
    return request, length


def _joined(pairs: list[tuple[bytes, bytes]]) -> dict[str, str]:
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
    """Path and query of the request target, in origin form or, naming the same Host, in absolute form."""
    host = headers.get("host")
    if host is not None and _HOST.fullmatch(host) is None:
        raise BadRequest("Host must be a name or an address, and perhaps a port")
    if target.lower().startswith("http://"):
        authority, slash, rest = target[7:].partition("/")
        if authority.lower() != (host or "").lower():
            raise BadRequest("the request target names another host than Host")
        target = slash + rest or "/"
    if not target.startswith("/") or target.startswith("//") or _UNWISE.search(target):
        raise BadRequest("the request target must be a path, and perhaps a query")
    parts = urlsplit(target)
    return parts.path, parts.query


def _body_length(request: Request, headers: dict[str, str]) -> int | None:
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


def _tokens(value: str) -> set[str]:
    return {token.strip(" \t").lower() for token in value.split(",")}


# ── responses ────────────────────────────────────────────────────────────────────────────


def response_head(status: int, headers: list[tuple[str, str]]) -> bytes:
    """A response's head.  Raises ValueError for a field that would end its line early."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in headers)]
    for line in lines:
        if _UNWRITABLE.search(line):
            raise ValueError(f"a header field with a control character: {line!r}")
    return "\r\n".join((*lines, "\r\n")).encode("latin-1")
