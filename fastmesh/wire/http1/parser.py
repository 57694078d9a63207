"""HttpParser: requests out of the bytes of a connection, the same ones wherever the bytes are cut.

It finds the end of a head itself, so that every limit is exact and an idle connection holds no parser of httptools.
Its cost: a call of next_request() takes MAX_STEPS steps at most, into however many chunks a body is cut, and a byte
is searched once, however many packets come behind it.
"""

from __future__ import annotations

import re
from enum import Enum

from fastmesh.errors import ApiError, BadRequest, HeaderTooLarge, PayloadTooLarge
from fastmesh.wire.http1.fields import TOKEN
from fastmesh.wire.http1.head import MAX_HEADERS, Request, read_head

MAX_CHUNK_LINE = 256  # a chunk's size with its extensions
MAX_STEPS = 256  # of a call: a chunk takes two, of 1.5 µs each; 256 KB may hold 42,000 chunks

_TOKEN = TOKEN.encode() + b"+"
_QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+"'
# Size and extensions (RFC 9112, section 7.1.1).  Possessive, so that a line is read in one way and no other is tried.
_CHUNK_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,16})(?:[ \t]*+;[ \t]*+%b(?:[ \t]*+=[ \t]*+(?:%b|%b))?+)*+[ \t]*+" % (_TOKEN, _TOKEN, _QUOTED)
)
_FIELD_LINE = re.compile(rb"%b:[\t\x20-\x7e\x80-\xff]*+" % _TOKEN)
_BLANK_LINES = re.compile(rb"(?:\r\n)*+")
_LONE_LF = re.compile(rb"(?<!\r)\n")


class Phase(Enum):
    """The part of a request that the next byte belongs to."""

    IDLE = "idle"  # nothing of a request is here
    HEAD = "head"
    SIZED = "sized"  # a body of known length
    CHUNK_LINE = "chunk_line"
    CHUNK_DATA = "chunk_data"
    TRAILER = "trailer"
    OVER = "over"  # after a fault or the last request of a connection: all input is ignored


class HttpParser:
    """Bytes in, requests out.  A request with a ``fault`` is the last one.

    *max_header_bytes* are counted from the first byte on, line ends before the request included;
    *max_body_bytes* of the body as it is received, with the framing of its chunks.
    """

    __slots__ = tuple(
        (
            "_blank _body _buffer _head _max_body _max_header _received _scanned _trailers _want begun pending "
            "phase rest"
        ).split()
    )

    def __init__(self, max_header_bytes: int = 65_536, max_body_bytes: int = 1_048_576) -> None:
        self._max_header = max_header_bytes
        self._max_body = max_body_bytes
        self._buffer = bytearray()
        self._scanned = 0  # bytes of the buffer in which the end of a head or a line was searched in vain
        self._blank = 0  # bytes of line ends before the request
        self._want = 0  # bytes that the body or the chunk has
        self._received = 0  # bytes of a chunked body, framing included
        self._trailers = 0
        self._head: Request | None = None
        self._body = bytearray()
        self.begun = 0  # heads that began so far: each has a deadline of its own
        self.pending = False  # whether next_request() has something to go on with
        self.phase = Phase.IDLE
        self.rest = b""  # the bytes behind a request that asks for another protocol

    @property
    def held(self) -> int:
        """Bytes that were received and belong to no whole request yet."""
        return len(self._buffer) + len(self._body)

    @property
    def awaiting_body(self) -> Request | None:
        """The request whose head was read and whose body is not whole yet."""
        return self._head

    def receive(self, data: bytes) -> None:
        """Take *data*, to be read by next_request()."""
        if self.phase is not Phase.OVER:
            self._buffer += data
            self.pending = True

    def next_request(self) -> Request | None:
        """The next whole request; None when there is none yet or, with `pending` set, when the steps are used up."""
        for _ in range(MAX_STEPS):
            if not self.pending:
                break
            phase, held = self.phase, len(self._buffer)
            try:
                request = _STEPS[phase](self)
            except ApiError as fault:
                return self._completed(self._head or Request(), fault)
            if request is not None:
                return self._completed(request)
            self.pending = phase is not self.phase or held != len(self._buffer)
        return None

    def _completed(self, request: Request, fault: ApiError | None = None) -> Request:
        self._head = None
        if fault is not None:
            request.fault, request.keep_alive = fault, False
        if request.keep_alive:
            self.phase = Phase.IDLE
            self.pending = bool(self._buffer)
        else:
            self.phase = Phase.OVER
            self.pending = False
            if fault is None and "upgrade" in request.headers:
                self.rest = bytes(self._buffer)
            self._buffer.clear()
        return request

    # ── steps: each consumes something, and may complete a request ───────────────────────

    def _begin(self) -> Request | None:
        if self._buffer:
            self.begun += 1
            self._scanned = self._blank = 0
            self.phase = Phase.HEAD
        return None

    def _read_head(self) -> Request | None:
        buffer = self._buffer
        if not self._scanned and buffer.startswith(b"\r"):
            # Line ends before a request are passed over (RFC 9112, section 2.2), but counted.
            if len(buffer) == 1:
                return None
            blank = _BLANK_LINES.match(buffer)
            if blank is not None and blank.end():
                self._blank += blank.end()
                del buffer[: blank.end()]
                if self._blank > self._max_header:
                    raise self._head_too_large()
                return None
        most = self._max_header - self._blank
        end = buffer.find(b"\r\n\r\n", max(0, self._scanned - 3))
        fits = end >= 0 and end + 4 <= most
        if buffer and not 65 <= buffer[0] <= 90:
            raise BadRequest("a request begins with a method in capital letters")
        if _LONE_LF.search(buffer, max(0, self._scanned - 1), end + 4 if fits else most):
            raise BadRequest("a line must end with CR LF")
        self._scanned = len(buffer)
        if end < 0 and len(buffer) <= most:
            return None
        if not fits:
            raise self._head_too_large()
        head = bytes(buffer[: end + 4])
        del buffer[: end + 4]
        return self._begin_body(*read_head(head))

    def _begin_body(self, request: Request, length: int | None) -> Request | None:
        """Expect a body of *length* bytes, or a chunked one when that is None."""
        self._head = request
        self._received = self._scanned = self._trailers = 0
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
            raise BadRequest("a chunk begins with its size in hexadecimal digits, and perhaps extensions")
        self._want = int(match[1], 16)
        if self._received + self._want > self._max_body:
            raise self._too_large()
        self.phase = Phase.CHUNK_DATA if self._want else Phase.TRAILER
        return None

    def _read_chunk_data(self) -> Request | None:
        if len(self._buffer) < self._want + 2:
            # A missing line end is refused with the first byte that shows it, wherever the bytes are cut.
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
        if line is None:
            return None
        if line:  # trailers are dropped: none may change what the head said
            self._trailers += 1
            if self._trailers > MAX_HEADERS:
                raise HeaderTooLarge(f"a request may have {MAX_HEADERS} trailers")
            if _FIELD_LINE.fullmatch(line) is None:
                raise BadRequest("a trailer is a header field")
            return None
        request = self._head
        assert request is not None
        request.body = bytes(self._body)
        self._body = bytearray()
        return request

    def _line(self, what: str) -> bytes | None:
        """The next line of a chunked body, without its end; None when it is not whole yet."""
        buffer = self._buffer
        limit = MAX_CHUNK_LINE if self.phase is Phase.CHUNK_LINE else self._max_header
        end = buffer.find(b"\n", self._scanned, limit + 2)
        if end < 0:
            self._scanned = len(buffer)
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
        self._scanned = 0
        self._received += count
        if self._received > self._max_body:
            raise self._too_large()

    def _head_too_large(self) -> HeaderTooLarge:
        return HeaderTooLarge(f"the head of a request may have {self._max_header} bytes")

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
