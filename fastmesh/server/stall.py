"""Whether a client is still there and takes what is written to it, as far as the kernel knows before a write fails."""

from __future__ import annotations

import array
import asyncio
import fcntl
import select
import termios
from enum import Enum
from typing import Final

NEVER_SEEN: Final = -1
_POLLRDHUP: Final = getattr(select, "POLLRDHUP", 0)  # Linux


class Presence(Enum):
    """What is known of a client whose socket is not read."""

    THERE = "there"
    ENDED = "ended"  # it sends no more; whether it is gone, the next write tells
    GONE = "gone"


def presence(transport: asyncio.BaseTransport) -> Presence:
    """Ask the kernel, in one call."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return Presence.THERE
    poll = select.poll()
    poll.register(sock.fileno(), _POLLRDHUP)
    ((_, seen),) = poll.poll(0) or ((0, 0),)
    if seen & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
        return Presence.GONE
    return Presence.ENDED if seen & _POLLRDHUP else Presence.THERE


def outstanding(transport: asyncio.WriteTransport) -> int:
    """Bytes that were written and that the peer has not acknowledged: in the transport and in the kernel."""
    sock = transport.get_extra_info("socket")
    queued = array.array("i", [0])
    if sock is not None:
        try:
            fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, queued)  # SIOCOUTQ: for a socket the same number
        except OSError:
            pass
    return transport.get_write_buffer_size() + queued[0]


class StallWatch:
    """Remembers when the peer last took a byte.  It is told the time."""

    __slots__ = ("_taken", "since", "until")

    def __init__(self, now: float) -> None:
        self._taken = NEVER_SEEN
        self.since = now
        self.until = float("inf")  # when all must be taken, even if some of it is taken all the time

    def look(self, written: int, left: int, now: float) -> float:
        """*written* bytes ever, of which *left* are outstanding; return for how many seconds nothing was taken."""
        taken = written - left
        if taken != self._taken or left == 0:
            self._taken = taken
            self.since = now
        return now - self.since
