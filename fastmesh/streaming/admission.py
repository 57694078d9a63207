"""Whether a stream may start one more URL: there is room in what its mode allows it, and in the total of all streams.
The only place that decides who waits for whom.  It is there from a stream's start to its summary."""

from __future__ import annotations

from typing import Protocol

from fastmesh.streaming.lifecycle import Lifecycle, State, Step
from fastmesh.streaming.retention import Retention
from fastmesh.telemetry.log import get_logger

log = get_logger()


class Stream(Protocol):
    """The stream whose room it is."""

    lifecycle: Lifecycle

    @property
    def named(self) -> dict[str, str]:
        """What every log line about the stream has."""

    def step(self, step: Step) -> None:
        """Go on in its life."""

    def room(self) -> None:
        """There may be room again."""


class Admission:
    """Answers the processor of one stream."""

    __slots__ = ("_buffers", "_retention", "_stream", "waiting")

    def __init__(self, stream: Stream, retention: Retention) -> None:
        self._stream = stream
        self._retention = retention
        self._buffers = retention.buffers
        self.waiting = False  # a detached stream that is full of what nobody has read

    def may_start(self, running: int, held_bytes: int = 0) -> bool:
        """Whether one more URL may be started; *running* are under way or held back, with *held_bytes* in all."""
        stream = self._stream
        lifecycle = stream.lifecycle
        if not lifecycle.open or not self._has_room(running, held_bytes):
            return False
        if self._total_allows(running):
            if lifecycle.state is State.FLUSHING:
                stream.step(Step.RESUME)
            return True
        if lifecycle.state is State.ACTIVE:
            stream.step(Step.FLUSH)
        return False

    def may_append(self) -> bool:
        """Whether a result may be appended for which no URL was started."""
        return self._has_room(0, 0) and self._total_allows(0)

    def count_held(self, count: int) -> None:
        """*count* bytes more (or less) are held for the stream, outside of its journal."""
        self._buffers.total.add(count)

    def allowance(self) -> tuple[int, int]:
        """How many frames and bytes more the stream may be ahead of the reader that it waits for."""
        frames, octets = self._retention.allowance()
        # When all streams together hold as much as they may: one frame at a time.
        return frames, octets if self._buffers.has_room else 1

    def close(self) -> None:
        """The summary is there: nothing is started any more."""
        self._buffers.forget(self._stream.room)

    def _total_allows(self, running: int) -> bool:
        """Whether all journals together leave room; if not, the stream is woken when they do."""
        # A stream that has nothing unread may always go on by one frame, so that streams cannot lock each other out.
        if self._buffers.has_room or (running == 0 and self._retention.unread_frames == 0):
            return True
        self._buffers.wait(self._stream.room)
        return False

    def _has_room(self, running: int, held_bytes: int) -> bool:
        retention = self._retention
        has_room = retention.has_room(running, held_bytes, self._stream.room)
        if has_room or not retention.full_waits:
            self.waiting = False
        elif not self.waiting:
            self.waiting = True
            log.info("stream.waiting", **self._stream.named, unsent_bytes=retention.unsent_bytes)
        return has_room
