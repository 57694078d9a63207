"""The head of an answer: cut from what an origin sends, and made plain before anybody parses it.

A machine without I/O.  It hands on the final head alone, and passes over interim (1xx) answers: so the parser behind it
gets one whole head, never a part of one, and nothing of what follows in the same piece.  A line that is no field (a
warning of PHP's, a name with a blank behind it) is left out as browsers do, unless it names what frames the answer:
then two readers would read two answers, and it is refused.

Its worst case, however the bytes are cut: every byte is searched once, at most two of them once more a segment, and
copied three times; and a head ends at the first of MAX_HEAD_BYTES, MAX_INTERIM_ANSWERS and MAX_FIELDS that it passes.
"""

from __future__ import annotations

import re
from typing import Final

from fastmesh.errors import BadResponse

# Everything up to the end of the final head, all interim answers and line ends before it included.
MAX_HEAD_BYTES: Final = 65_536
# An origin says 103 Early Hints once or twice; a thousand are work for us and nothing else.
MAX_INTERIM_ANSWERS: Final = 16
# Of one head, and with its trailers: some sites set 200 cookies at once, and none that was seen 300.
MAX_FIELDS: Final = 1_000

# They decide where an answer ends, and what its bytes are.
FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"content-encoding", b"connection"})

_START: Final = b"HTTP/1."
_BEGIN: Final = re.compile(rb"[^\r\n]")
# A bare LF ends a line as well (RFC 9112, 2.2).
_HEAD_END: Final = re.compile(rb"\n\r?\n")
# The repeats are possessive: nothing is tried twice, so all of it is read in one pass.
_STATUS: Final = rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: [^\r\n\0]*+)?+"
_FIELD: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++:[^\r\n\0]*+"
_PLAIN: Final = re.compile(_STATUS + rb"\r?\n(?:" + _FIELD + rb"\r?\n)*+\r?\n")
_STATUS_LINE: Final = re.compile(_STATUS)
_FIELD_LINE: Final = re.compile(_FIELD)
_NO_TOKEN: Final = re.compile(rb"[^!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BLANKS: Final = (b" ", b"\t")


class AnswerHead:
    """The head of one answer; *whole* once it was handed on."""

    __slots__ = ("_interim", "_pending", "_searched", "_taken", "whole")

    def __init__(self) -> None:
        self.whole = False
        self._pending = bytearray()  # what came of a head that is not whole
        self._searched = 0  # of it: so much holds no end of a head
        self._taken = 0  # bytes of interim answers and of line ends, which are gone
        self._interim = 0

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Take *data*; the final head, made plain, and what came after it, or None while it is not whole.  Raises
        BadResponse: the origin speaks no HTTP/1.x, has no end, or two readers could read it differently."""
        came: bytes | bytearray = data
        if self._pending:
            self._pending += data
            came = self._pending
        at = 0
        while True:
            begin = _BEGIN.search(came, at)
            start = len(came) if begin is None else begin.start()
            self._taken += start - at
            limit = start + MAX_HEAD_BYTES - self._taken
            end = _HEAD_END.search(came, max(start, self._searched), max(start, limit))
            self._searched = 0
            if end is None:
                self._keep(came, start)
                return None
            head = bytes(came[start : end.end()])
            at = end.end()
            self._taken += len(head)
            status, plain = _made_plain(head)
            # 101 is final: no other answer follows it.
            if status >= 200 or status == 101:
                self.whole = True
                self._pending = bytearray()
                return plain, bytes(came[at:])
            self._interim += 1
            if self._interim > MAX_INTERIM_ANSWERS:
                raise BadResponse(f"the origin sent more than {MAX_INTERIM_ANSWERS} interim answers")

    def _keep(self, came: bytes | bytearray, start: int) -> None:
        """Keep what came from *start* on until its end has come, if it can be the begin of a head at all."""
        if self._taken + len(came) - start >= MAX_HEAD_BYTES:
            raise BadResponse(f"the origin sent {MAX_HEAD_BYTES} bytes of head without an answer")
        if not came.startswith(_START[: len(came) - start], start):
            raise BadResponse("the origin's answer is no HTTP/1.0 or 1.1")
        if came is self._pending:
            del self._pending[:start]
        else:
            self._pending += came[start:]
        self._searched = max(0, len(self._pending) - 2)


def _made_plain(head: bytes) -> tuple[int, bytes]:
    """The status of *head*, and *head* without the lines that are no fields.  Raises BadResponse."""
    if head.count(b"\n") - 2 > MAX_FIELDS:
        raise BadResponse(f"the origin's answer has more than {MAX_FIELDS} header fields")
    plain = _PLAIN.fullmatch(head)
    if plain is not None:
        return int(plain[1]), head
    first, *lines = (line.removesuffix(b"\r") for line in head.split(b"\n")[:-2])
    status = _STATUS_LINE.fullmatch(first)
    if status is None:
        raise BadResponse("the origin's answer is no HTTP/1.0 or 1.1")
    return int(status[1]), b"\r\n".join([first, *_fields(lines), b"", b""])


def _fields(lines: list[bytes]) -> list[bytes]:
    """The fields among *lines*, each on one line.  Raises BadResponse."""
    fields: list[list[bytes]] = []
    goes_on = False  # whether a line that begins with a blank belongs to a field
    for line in lines:
        if b"\0" in line or b"\r" in line:
            raise BadResponse("the head of the origin's answer holds a NUL or a bare CR")
        if _FIELD_LINE.fullmatch(line):
            fields.append([line])
            goes_on = True
        elif _names_framing(line):
            raise BadResponse("a line of the head that is no field names what frames the answer")
        elif goes_on and line.startswith(_BLANKS):
            if _names_framing(fields[-1][0]):
                raise BadResponse("a field that frames the answer is folded over two lines")
            fields[-1].append(line.strip(b" \t"))
        else:
            goes_on = False
    # Folding is obsolete, and one blank to a user agent (RFC 9112, 5.2).
    return [b" ".join(parts) for parts in fields]


def _names_framing(line: bytes) -> bool:
    """Whether some reader, strict or lenient, finds the name of a framing field at the begin of *line*."""
    words = _NO_TOKEN.sub(b" ", line.partition(b":")[0].lower()).split()
    return b"".join(words) in FRAMING or (bool(words) and words[0] in FRAMING)
