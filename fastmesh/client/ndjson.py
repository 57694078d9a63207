"""NDJSON as a machine: bytes in, whole lines out.

Every byte is looked at once, however the input is cut.  A last line without its
end is never given out: it may be half of one.
"""

from __future__ import annotations

from typing import Final

from fastmesh.client.errors import FrameTooLarge

MAX_FRAME_BYTES: Final = 67_108_864


class NdjsonParser:
    """Cuts what it is fed into lines of at most *max_bytes*; empty ones are passed over."""

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
