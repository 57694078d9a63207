"""From a batch of frames to the bytes of a protocol.  A frame is the same JSON for every subscriber; an Encoder puts
the protocol around a whole batch of them in one call to C, so that its own cost is per batch, not per frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from fastmesh._core import Batch, frame_events, frame_lines, frame_messages

# Where WholeEncoder cuts a frame.
INDEX: Final = b'"index":'
RESULT: Final = b'"result":{'
PROGRESS: Final = b',"progress":{'  # the last field, and numbers only: its last place is the right one
ERROR: Final = b'"error":{'


class Encoder(Protocol):
    """Turns a subscriber's batches into bytes; all subscribers whose bytes are the same share one."""

    protocol: str

    def begin(self) -> bytes:
        """What precedes the first frame."""
        return b""

    def frame(self, batch: Batch, stream_id: bytes, seq: int) -> bytes:
        """The durable frames *seq*, *seq* + 1, … of *batch*, as one write."""

    def note(self, frame: bytes) -> bytes:
        """A *frame* for this subscriber alone, without a number."""

    def heartbeat(self, frame: bytes) -> bytes:
        """A sign that the stream is alive; b"" where the connection has its own."""
        return b""

    def end(self) -> bytes:
        """What follows the last frame."""
        return b""


class ChunkedEncoder(Encoder):
    """A body of HTTP: in chunks (RFC 9112, section 7.1), or bare, for HTTP/1.0 and files."""

    def __init__(self, *, chunked: bool) -> None:
        self._chunked = chunked

    def end(self) -> bytes:
        """The last chunk; without chunks the end of the file says it."""
        return b"0\r\n\r\n" if self._chunked else b""

    def _body(self, text: bytes) -> bytes:
        """*text* as a part of the body; an empty chunk would be the last."""
        return b"%x\r\n%b\r\n" % (len(text), text) if text and self._chunked else text


class NdjsonEncoder(ChunkedEncoder):
    """One frame a line; a batch is a chunk."""

    protocol = "ndjson"

    def frame(self, batch: Batch, stream_id: bytes, seq: int) -> bytes:
        return frame_lines(batch, self._chunked)

    def note(self, frame: bytes) -> bytes:
        return frame_lines(Batch([frame]), self._chunked)

    heartbeat = note


class SseEncoder(ChunkedEncoder):
    """One frame an event of text/event-stream (WHATWG HTML, section 9.2): its type, its id, one line of data."""

    protocol = "sse"

    def __init__(self, *, retry_ms: int, chunked: bool) -> None:
        super().__init__(chunked=chunked)
        self._begin = self._body(b"retry: %d\n" % retry_ms)  # a field of the first event
        self._heartbeat = self._body(b": heartbeat\n\n")

    def begin(self) -> bytes:
        """How long a browser waits before it comes again."""
        return self._begin

    def frame(self, batch: Batch, stream_id: bytes, seq: int) -> bytes:
        return frame_events(batch, stream_id, seq, self._chunked)

    def note(self, frame: bytes) -> bytes:
        """The *frame* as an event without an id: a client's last id stays that of a durable frame."""
        return frame_events(Batch([frame]), b"", 0, self._chunked)

    def heartbeat(self, frame: bytes) -> bytes:
        return self._heartbeat


class WebSocketEncoder(Encoder):
    """One frame a text message, made by *text*; pings keep the connection alive, and it goes on after the stream."""

    protocol = "websocket"

    def __init__(self, text: Callable[[Batch], bytes] = frame_messages) -> None:
        self._text = text

    def frame(self, batch: Batch, stream_id: bytes, seq: int) -> bytes:
        return self._text(batch)

    def note(self, frame: bytes) -> bytes:
        return self._text(Batch([frame]))


class WholeEncoder(ChunkedEncoder):
    """A whole stream as one JSON document, sent as the stream goes on: the answer of ``POST /crawl``.

    ``{"results": […], "summary": {…}}``, and before the summary an ``error`` when the stream as a whole failed.  A
    result is cut out of its frame, with its index, and not parsed: events.py builds frames with their fields in one
    order.  It is one subscriber's, since it remembers what it has written.
    """

    protocol = "ndjson"  # whose window and figures it shares

    def __init__(self, *, chunked: bool) -> None:
        super().__init__(chunked=chunked)
        self._has_results = False
        self._results_ended = False

    def begin(self) -> bytes:
        """The document is there, before its first result."""
        return self._body(b'{"results":[')

    def frame(self, batch: Batch, stream_id: bytes, seq: int) -> bytes:
        """What the *batch* adds to the document."""
        return self._body(b"".join(map(self._added, batch)))

    def note(self, frame: bytes) -> bytes:
        """A document has no place for such a *frame*.  Raises ValueError: better no answer than one with a hole."""
        raise ValueError(f"a document has no place for {frame[:64]!r}")

    def heartbeat(self, frame: bytes) -> bytes:
        """White space, which JSON may have between any two values."""
        return self._body(b"\n")

    def _added(self, frame: bytes) -> bytes:
        if frame.startswith(b'{"type":"result"'):
            at = frame.index(RESULT)
            index = frame[frame.index(INDEX) : at]
            fields = frame[at + len(RESULT) : frame.rindex(PROGRESS)]
            comma, self._has_results = b",\n" if self._has_results else b"\n", True
            return b"%b{%b%b" % (comma, index, fields)
        if frame.startswith(b'{"type":"error"'):
            self._results_ended = True
            return b'\n],"error":' + frame[frame.index(ERROR) + len(ERROR) - 1 : -1]
        if frame.startswith(b'{"type":"summary"'):
            return b'%b,"summary":%b}\n' % (b"" if self._results_ended else b"\n]", frame)
        return b""
