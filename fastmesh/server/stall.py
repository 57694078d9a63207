"""Whether a client still takes what is written to it."""

from __future__ import annotations

import array
import asyncio
import fcntl
import termios

NEVER_SEEN = -1


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


class Progress:
    """Remembers when the peer last took a byte.  It is told the time."""

    __slots__ = ("_taken", "since", "until")

    def __init__(self, now: float) -> None:
        self._taken = NEVER_SEEN
        self.since = now
        self.until = float("inf")  # when all must be taken, however it goes on

    def look(self, written: int, left: int, now: float) -> float:
        """*written* bytes ever, of which *left* are outstanding; return for how many seconds nothing was taken."""
        taken = written - left
        if taken != self._taken or left == 0:
            self._taken = taken
            self.since = now
        return now - self.since
