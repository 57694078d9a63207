"""A whole stream as one JSON document, sent as the stream goes on: the answer of ``POST /crawl``.

``{"results": […], "summary": {…}}``, and before the summary an ``error`` when the stream as a whole failed.  A result
is cut out of its frame, with its index, and not parsed: events.py builds frames with their fields in one order.
"""

from __future__ import annotations

from typing import Final

from fastmesh._core import Batch
from fastmesh.wire.encoders import ChunkedEncoder

INDEX: Final = b'"index":'
RESULT: Final = b'"result":{'
PROGRESS: Final = b',"progress":{'  # the last field, and numbers only: its last place is the right one
ERROR: Final = b'"error":{'


class WholeEncoder(ChunkedEncoder):
    """The encoder of one subscriber, since it remembers what it has written."""

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
