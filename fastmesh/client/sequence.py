"""A stream's id, which goes into paths and header fields, and the proof that nothing was lost: the numbers of its
frames.  A machine: it is shown every frame in the order of its arrival, over as many connections as it takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from fastmesh.client.errors import ProtocolViolation
from fastmesh.client.frames import Frame, Gap, Metadata, Summary

_STREAM_ID: Final = re.compile(r"[A-Za-z0-9._~:-]{1,256}")


def valid_stream_id(text: str) -> bool:
    """Whether *text* may be a stream's id."""
    return _STREAM_ID.fullmatch(text) is not None and text.strip(".") != ""


def checked(stream_id: str) -> str:
    """*stream_id*.  Raises ValueError when it is none."""
    if not valid_stream_id(stream_id):
        raise ValueError(f"{stream_id!r} is no stream id")
    return stream_id


def opened_id(answer: Mapping[str, Any]) -> str:
    """The id in the answer of ``POST /streams``.  Raises ProtocolViolation."""
    stream_id = answer.get("stream_id")
    if not isinstance(stream_id, str) or not valid_stream_id(stream_id):
        raise ProtocolViolation("the answer to POST /streams names no stream")
    return stream_id


def stream_path(stream_id: str) -> str:
    """The path of a stream."""
    return f"/streams/{quote(stream_id, safe='')}"


class Sequence:
    """Where a reader is in its stream, beginning after frame *after*.  ``position`` is the last frame that was shown or
    named by a gap; ``complete`` is true once the summary was seen."""

    __slots__ = ("complete", "position", "stream_id")

    def __init__(self, stream_id: str | None = None, after: int = 0) -> None:
        self.stream_id = stream_id
        self.position = after
        self.complete = False

    def take(self, frame: Frame) -> None:
        """See *frame*.  Raises ProtocolViolation when it cannot come here."""
        if self.stream_id is None:
            if not valid_stream_id(frame.stream_id):
                raise ProtocolViolation(f"{frame.stream_id[:256]!r} is no stream id")
            self.stream_id = frame.stream_id
        elif frame.stream_id != self.stream_id:
            raise ProtocolViolation(f"a frame of stream {frame.stream_id[:256]!r} came in stream {self.stream_id}")
        if self.complete and (frame.seq is not None or isinstance(frame, Gap)):
            raise ProtocolViolation(f"a {frame.type} frame came after the summary")
        if isinstance(frame, Gap):
            self._expect(frame.from_seq, "a gap")
            if frame.to_seq < frame.from_seq:
                raise ProtocolViolation(f"a gap from {frame.from_seq} to {frame.to_seq}")
            self.position = frame.to_seq
        elif frame.seq is not None:
            self._expect(frame.seq, f"a {frame.type} frame")
            if isinstance(frame, Metadata) is not (frame.seq == 1):
                raise ProtocolViolation(
                    f"frame {frame.seq} is of type {frame.type}: metadata is 1, and nothing else is"
                )
            self.position = frame.seq
            self.complete = isinstance(frame, Summary)
        elif isinstance(frame, Metadata | Summary):
            raise ProtocolViolation(f"a {frame.type} frame has no seq")

    def _expect(self, seq: int, what: str) -> None:
        wanted = self.position + 1
        if seq < wanted:
            raise ProtocolViolation(f"{what} with seq {seq} came again, or too late: {self.position} was before it")
        if seq > wanted:
            raise ProtocolViolation(f"frames {wanted} to {seq - 1} are missing before {what} with seq {seq}")
