"""From a batch of frames to the bytes of a protocol, framed in one go.

A frame is the same JSON for every subscriber; an Encoder only puts a protocol
around a whole batch of them, so its cost is counted per batch, not per frame.
"""

from __future__ import annotations

from typing import Protocol


class Encoder(Protocol):
    """What turns a subscriber's batch into bytes."""

    protocol: str
    content_type: str

    def frame(self, batch: list[bytes], text_bytes: int) -> bytes:
        """The *batch*, whose texts are *text_bytes* long together, as one write."""
        ...

    def end(self) -> bytes:
        """What follows the last frame."""
        ...


class NdjsonEncoder:
    """One frame a line, bare: until the end of the connection (HTTP/1.0) or of a file."""

    protocol = "ndjson"
    content_type = "application/x-ndjson"

    def frame(self, batch: list[bytes], text_bytes: int) -> bytes:
        """The *batch* as lines."""
        return b"\n".join((*batch, b""))

    def end(self) -> bytes:
        """Nothing: the end of the file says it."""
        return b""


class ChunkedNdjsonEncoder(NdjsonEncoder):
    """One frame a line, a batch a chunk (RFC 9112, section 7.1)."""

    def frame(self, batch: list[bytes], text_bytes: int) -> bytes:
        """The *batch* as one chunk of lines: a single join writes size, lines and the chunk's end."""
        return b"\n".join((b"%x\r" % (text_bytes + len(batch)), *batch, b"\r\n"))

    def end(self) -> bytes:
        """The last chunk."""
        return b"0\r\n\r\n"
