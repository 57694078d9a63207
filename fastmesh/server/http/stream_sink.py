"""A connection while it carries a stream: the sink that the stream's reader writes to.  The connection itself is the
sink, since a Reader in C writes to an Outlet without a call into Python."""

from __future__ import annotations

from abc import abstractmethod

from fastmesh.server.peer import Peer
from fastmesh.server.timers import NEVER
from fastmesh.streaming.subscriber import Subscriber
from fastmesh.telemetry.log import get_logger

log = get_logger()


class StreamSink(Peer):
    """Carries one stream at a time; its subclass knows the request before it and the next one behind it."""

    __slots__ = ()

    reader: Subscriber | None  # while a stream is written

    @abstractmethod
    def over(self, status: int) -> None:
        """The request under way was answered with *status*, to its last byte."""

    @abstractmethod
    def go_on_behind(self) -> None:
        """An answer that took its time is over: go on with what came behind its request."""

    def carry(self, subscriber: Subscriber, head: bytes) -> None:
        """Begin to read with *subscriber*: *head* and the first frames leave in one write, in this turn of the loop."""
        self.reader = subscriber
        self.watch()
        subscriber.serve(self.shared.module.registry.first_bytes.share(), head + subscriber.encoder.begin())

    def watch(self) -> None:
        """The answer takes its time: no deadline holds, and reading goes on, since only so the client's end is seen."""
        self._set_due(NEVER)
        self._resume_reading()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.reader is not None:
            self.shared.metrics.protocols[self.reader.encoder.protocol].pauses += 1

    def resume_writing(self) -> None:
        super().resume_writing()
        subscriber = self.reader
        if subscriber is not None:
            self.shared.metrics.protocols[subscriber.encoder.protocol].resumes += 1
            if subscriber.wants_service:
                self.ready()

    write = Peer.send
    give_up = Peer.abort

    def beat(self, data: bytes) -> None:
        """Write a heartbeat; a client that does not acknowledge it in time is gone."""
        self.send(data)
        self._watch_stall()

    def end(self) -> None:
        self._detach()
        self.go_on_behind()

    def failed(self, error: Exception) -> None:
        """A delivery raised *error*, which is a bug; at the very end of a stream its reader may be gone already."""
        named = {} if self.reader is None else self.reader.pipeline.named
        log.error("stream.bug", **named, exc_info=error)
        self.abort()

    def _detach(self) -> None:
        subscriber, self.reader = self.reader, None
        assert subscriber is not None
        subscriber.pipeline.detach(subscriber)
        self.over(200)
