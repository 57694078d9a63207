"""NDJSON and server-sent events as machines: bytes in, whole lines or events out, however the input is cut.

A last line or event without its end is never given out: it may be half of one.  The rules for events are those of the
HTML standard, 9.2.6, so that what a browser reads is what is read here.  One differs: ``data`` stays bytes, since
broken UTF-8 shall be found where the JSON in it is read and not be replaced.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fastmesh.client.errors import FrameTooLarge

MAX_FRAME_BYTES: Final = 67_108_864
BOM: Final = b"\xef\xbb\xbf"
MAX_RETRY_DIGITS: Final = 10


class NdjsonParser:
    """Cuts what it is fed, each byte once, into lines of at most *max_bytes*; empty ones are passed over."""

    __slots__ = ("_begun", "_max_bytes")

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_bytes = max_bytes
        self._begun = bytearray()  # of a line that has no end yet

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that *data* completes, without their ends.  Raises FrameTooLarge."""
        *lines, rest = data.split(b"\n")
        if lines and self._begun:
            lines[0] = bytes(self._begun) + lines[0]
            self._begun.clear()
        self._begun += rest
        if len(self._begun) > self._max_bytes or any(len(line) > self._max_bytes for line in lines):
            raise FrameTooLarge(self._max_bytes)
        return [line for line in lines if not line.isspace() and line]


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event; *last_event_id* is the newest id so far, its own or an earlier one's."""

    type: str
    data: bytes
    last_event_id: str


class SseParser:
    """Reads events whose lines and data have at most *max_bytes*.  ``last_event_id`` is the id to resume after;
    ``retry_ms`` is how long the server wants to be left alone after a break, None when it said nothing."""

    __slots__ = ("_after_cr", "_begun", "_data", "_id", "_max_bytes", "_start", "_type", "last_event_id", "retry_ms")

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self.last_event_id = ""
        self.retry_ms: int | None = None
        self._max_bytes = max_bytes
        self._start: bytes | None = b""  # what may become a BOM; None when that is decided
        self._after_cr = False  # a LF that comes next belongs to the line end before it
        self._begun = bytearray()  # of a line that has no end yet
        self._data = bytearray()
        self._type = b""
        self._id = ""

    def feed(self, data: bytes) -> list[SseEvent]:
        """The events that *data* completes.  Raises FrameTooLarge."""
        if self._start is not None:
            data = self._start + data
            if len(data) < len(BOM) and BOM.startswith(data):
                self._start = data
                return []
            self._start = None
            data = data.removeprefix(BOM)
        if data and self._after_cr:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        if not data:
            return []
        self._after_cr = data.endswith(b"\r")
        lines = data.splitlines()  # of bytes: at CR, LF and CRLF, nowhere else
        rest = b"" if data.endswith((b"\r", b"\n")) else lines.pop()
        events: list[SseEvent] = []
        for line in lines:
            if self._begun:
                line = bytes(self._begun) + line
                self._begun.clear()
            self._bound(len(line))
            if line:
                self._take(line)
            elif (event := self._dispatch()) is not None:
                events.append(event)
        self._begun += rest
        self._bound(len(self._begun))
        return events

    def _take(self, line: bytes) -> None:
        """One field.  A line that begins with a colon has the empty name, which is no field's."""
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data += value
            self._data += b"\n"
            self._bound(len(self._data) - 1)
        elif name == b"event":
            self._type = value
        elif name == b"id":
            if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) <= MAX_RETRY_DIGITS:
            self.retry_ms = int(value)

    def _dispatch(self) -> SseEvent | None:
        self.last_event_id = self._id
        type_, data = self._type, bytes(self._data[:-1])
        empty = not self._data
        self._type = b""
        self._data.clear()
        return None if empty else SseEvent(type_.decode("utf-8", "replace") or "message", data, self.last_event_id)

    def _bound(self, size_bytes: int) -> None:
        if size_bytes > self._max_bytes:
            raise FrameTooLarge(self._max_bytes)
