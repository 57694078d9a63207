"""From a batch of frames to the bytes of a protocol.  A frame is the same JSON for every subscriber; an Encoder puts
the protocol around a whole batch of them in one call to C, so that its own cost is per batch, not per frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fastmesh._core import Batch, frame_events, frame_lines, frame_messages


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
