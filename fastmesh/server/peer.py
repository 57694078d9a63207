"""A connection of any protocol, as far as its socket: written, watched and closed with care.

A client that takes no byte is cut off, every wait has a deadline, and a close still delivers all that was written.

    OPEN ──▶ CLOSING  all is written; what is on its way is still delivered, what comes is thrown away
       ╲        ↓
        ╲──▶ CLOSED
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from ipaddress import ip_address
from sys import intern
from typing import cast

from fastmesh._core import Outlet
from fastmesh.server.context import Context
from fastmesh.server.intake import SLICE_S
from fastmesh.server.per_peer import Place
from fastmesh.server.stall import Presence, StallWatch, outstanding, presence
from fastmesh.server.timers import NEVER
from fastmesh.telemetry.log import get_logger

log = get_logger()

LINGER_S = 2.0
LEAST_RATE = 1024  # bytes a second: a client that takes the rest at its close more slowly is not waited for
LOOKS_A_TIMEOUT = 4  # so a client that takes nothing is cut off a quarter late at most
# How far a connection's life has come; the pump and readers write while it is OPEN.
OPEN, CLOSING, CLOSED = range(3)


class Peer(Outlet, asyncio.Protocol):
    """The transport's side of a connection."""

    __slots__ = ("_due", "_finished", "_stall", "born", "deadline", "filed", "place", "shared", "waits")

    transport: asyncio.Transport | None

    def __init__(self, shared: Context) -> None:
        super().__init__(shared.pump)
        self.shared = shared
        self.born = 0.0  # when the connection was accepted, in seconds
        self.place: Place | None = None  # among its peer's, where these are counted
        self._finished = False  # the client sends no more
        self._stall: StallWatch | None = None  # while something written may be stuck
        self._due = NEVER  # when the bytes that are awaited must be here
        self.deadline = NEVER  # when to look at it again: at that time, or earlier where something may be stuck
        self.filed = 0
        self.waits = False  # for its turn in the intake

    # ── for the protocol's own class ─────────────────────────────────────────────────────────

    @property
    @abstractmethod
    def request_id(self) -> str | None:
        """Of the request under way, for the log."""

    @property
    def named(self) -> dict[str, object]:
        """What the log calls it."""
        return {"request_id": self.request_id}

    @property
    @abstractmethod
    def client(self) -> str | None:
        """Whose request is under way; None when none is, or this machine's."""

    @property
    @abstractmethod
    def idle(self) -> bool:
        """Whether no request is under way, and no stream."""

    @abstractmethod
    def _too_late(self) -> None:
        """What was awaited is not here in time."""

    @abstractmethod
    def drain(self) -> None:
        """The daemon is on its way out: close when nothing is under way."""

    @abstractmethod
    def _go_on(self, slice_s: float = SLICE_S) -> None:
        """Work off a slice of what was read; the rest waits for its turn, and no more is read until then."""

    def _let_go(self) -> None:
        """No more is read or answered: what was kept for it may go."""

    # ── the transport ────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is this connection's, from now on."""
        # No isinstance: uvloop's Unix transport is none of asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(self.shared.high_water, self.shared.low_water)
        self.shared.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone, or another's."""
        self.life = CLOSED
        self.shared.connections.discard(self)
        self.shared.wheel.forget(self)
        self.deadline = self._due = NEVER
        self.transport = None
        if self.place is not None:
            self.place.give_back()
        self._let_go()

    def hand_over(self, to: Peer) -> None:
        """Give the socket to *to*, which speaks another protocol on it."""
        transport = self.transport
        assert transport is not None
        to.born, to.place, self.place = self.born, self.place, None
        Peer.connection_lost(self, None)  # the request under way goes on
        transport.set_protocol(to)
        to.connection_made(transport)

    @property
    def lasts(self) -> bool:
        """Whether it may stay when what is under way is over."""
        return not self.shared.draining and not self._aged()

    def _aged(self) -> bool:
        """Whether it is so old that it ends as soon as nothing is under way."""
        most_s = self.shared.settings.max_age_s
        return most_s > 0 and self.shared.clock() - self.born >= most_s

    @property
    def _half_open(self) -> bool:
        """Whether the transport outlives its client's end, for answers not written yet: TLS sends these by itself."""
        return self.transport is None or self.transport.can_write_eof()

    def pause_writing(self) -> None:
        """The transport has enough: the pump passes this connection by."""
        self.paused = True
        self._watch_stall()

    def resume_writing(self) -> None:
        """There is room again."""
        self.paused = False

    def go_on(self) -> None:
        """Its turn in the line has come: it goes on, unless the client left meanwhile, unseen, for it was not read.  A
        client that has ended its side may have left: the first answer to it will tell."""
        if self.life != OPEN or self.transport is None:
            return
        client = presence(self.transport)
        if client is Presence.GONE:
            self.abort()
        else:
            self._go_on(0.0 if client is Presence.ENDED else SLICE_S)

    # ── writing, waiting, closing ────────────────────────────────────────────────────────

    def abort(self) -> None:
        """Close now, whatever is still to be written."""
        if self.transport is not None and self.life != CLOSED:
            self.life = CLOSED
            self.transport.abort()

    def _set_due(self, due: float) -> None:
        self._due = due
        self._look_again()

    def _look_again(self) -> None:
        """Have the wheel look at this connection when the next thing is due."""
        self.deadline = self._due
        if self._stall is not None:
            pause_s = min(LINGER_S, self.shared.settings.write_stall_timeout_s / LOOKS_A_TIMEOUT)
            self.deadline = min(self._due, self.shared.clock() + pause_s)
        self.shared.wheel.file(self)

    def _watch_stall(self) -> None:
        """Look from now on whether the client takes the bytes that were written, until all are taken."""
        if self._stall is None:
            self._stall = StallWatch(self.shared.clock())
            self._look_again()

    def expired(self, now: float) -> None:
        """The wheel's call: it is time to look."""
        if self._stall is not None and self.transport is not None:
            left = outstanding(self.transport)
            if self._stall.look(self.written, left, now) >= self.shared.settings.write_stall_timeout_s:
                log.info("connection.write_stall", request_id=self.request_id, bytes=left)
                self._cut_off()
                return
            if left and now >= self._stall.until:
                log.info("connection.close_stall", request_id=self.request_id, bytes=left)
                self.abort()
                return
            if not left and not self.paused:
                self._stall = None
            elif self.life == CLOSING:
                self._due = now + LINGER_S  # counts from when all is delivered
        if now < self._due:
            self._look_again()
            return
        self._due = self.deadline = NEVER
        if self.life == CLOSING:
            self.abort()
        elif self.life == OPEN and self.transport is not None:
            self._too_late()

    def _cut_off(self) -> None:
        """The client takes nothing."""
        self.abort()

    def _close(self, within_s: float | None = None) -> None:
        """Write and answer no more; all that was written is still delivered.

        Closing with unread input would send RST, and the client would lose the bytes on
        their way to it: so input is read and thrown away until the client's end, for
        LINGER_S at most once all is delivered.  Delivery is waited for as long as the client takes
        something, at LEAST_RATE; or *within_s*, where it loses nothing that it cannot have again.
        """
        if self.life != OPEN:
            return
        self.life = CLOSING
        self._let_go()
        transport = self.transport
        assert transport is not None
        self._resume_reading()
        if transport.can_write_eof():
            transport.write_eof()
        else:  # TLS says that it ends, and waits for the peer to say so
            self.paused = False  # nobody tells any more that there is room
            transport.close()
        now = self.shared.clock()
        self._set_due(now + LINGER_S)
        self._watch_stall()
        if self._stall is not None:
            if within_s is None:
                within_s = self.shared.settings.write_stall_timeout_s + outstanding(transport) / LEAST_RATE
            self._stall.until = now + within_s
        if self._finished:
            self._abort_when_written()

    def _abort_when_written(self) -> None:
        """No input is unread: what the kernel has is still delivered after the close, without an RST."""
        if self.transport is None:
            return
        # TLS must say that it ends, and below it there is a buffer of which nothing is known here.
        if self.transport.get_write_buffer_size() or not self.transport.can_write_eof():
            self._close()
        else:
            self.abort()

    def _pause_reading(self) -> None:
        if self.transport is not None and self.transport.is_reading():
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if self.transport is not None and not self.transport.is_reading():
            self.transport.resume_reading()


def addresses(transport: asyncio.Transport) -> tuple[str | None, str]:
    """For whom its streams are counted (None: nobody), and the address that it came to."""
    peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    if not isinstance(peer, tuple) or not isinstance(own, tuple):  # a Unix socket
        return None, ""
    client = _plain(str(peer[0]).partition("%")[0])
    # The same few strings for thousands of connections.
    return None if ip_address(client).is_loopback else client, intern(_plain(str(own[0])))


def _plain(address: str) -> str:
    """*address* as IPv4 if it is that: a socket of both families, which a unit may have, says ::ffff:127.0.0.1."""
    mapped = getattr(ip_address(address), "ipv4_mapped", None)
    return address if mapped is None else str(mapped)
