"""Takes connections from a listening socket, many a turn of the loop.  uvloop's own server accepts one a turn: behind a
hundred greedy streams a new client would wait for a hundred turns."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from contextlib import suppress
from functools import partial
from typing import Any

from fastmesh.server.binding import SocketFile
from fastmesh.server.context import Context
from fastmesh.server.http.connection import Connection
from fastmesh.server.per_peer import Place
from fastmesh.telemetry.log import get_logger

log = get_logger()

ACCEPTS_A_TURN = 64
# Connections over the limit are answered 503; over so many more of them they are closed without a word.
REFUSALS_AT_ONCE = 256
OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# Errors of the connection that was to be accepted (accept(2)): the next one may be well.
OF_ONE = frozenset(
    getattr(errno, name)
    for name in "ENETDOWN EPROTO ENOPROTOOPT EHOSTDOWN ENONET EHOSTUNREACH EOPNOTSUPP ENETUNREACH EPERM".split()
)
PAUSE_S = 0.2
QUIET_S = 2.0  # out of files again within so long: the log has said it
CLOSING_S = 60.0  # TLS: no close takes longer than this beside the time that a client may be stuck
_TCP_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", 25)  # Linux: in the module since Python 3.12


class Listener:
    """Accepts from *sock* until it is closed; every connection is a Connection of *shared*.  One that is *inherited*
    outlives the daemon: a client that connects while it ends waits for the next daemon."""

    def __init__(self, sock: socket.socket, shared: Context, *, inherited: bool = False) -> None:
        self._sock = sock
        self._shared = shared
        self._inherited = inherited
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._is_tcp = sock.family != socket.AF_UNIX
        # An abstract one, which a unit may have, is written with @ where it has its NUL.
        self._path = None if self._is_tcp else os.fsdecode(sock.getsockname()).replace("\0", "@")
        self._file = None if self._path is None or inherited else SocketFile(self._path)
        # Given up when there are no more files, so that a waiting client can still be accepted, and closed.
        self._reserve: int | None = _reserved()
        sock.setblocking(False)

    @property
    def address(self) -> str:
        """Where it listens, as a client would write it."""
        if self._path is not None:
            return f"unix:{self._path}"
        host, port = self._sock.getsockname()[:2]
        scheme = "http" if self._shared.certificate is None else "https"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    @property
    def bound(self) -> tuple[str, int] | None:
        """The bound address and port, None for a Unix socket."""
        if self._path is not None:
            return None
        host, port = self._sock.getsockname()[:2]
        return host, port

    def start(self) -> None:
        """Accept from now on."""
        self._shared.loop.add_reader(self._sock.fileno(), self._accept)

    def drain(self) -> None:
        """The daemon ends: leave new clients to the next one, where there will be one; else they are refused here."""
        if self._inherited:
            self._stop()

    async def close(self) -> None:
        """Accept no more."""
        self._stop()
        if self._file is not None:
            self._file.remove()
        self._sock.close()
        self._give_up_reserve()
        if self._tasks:
            if self._shared.certificate is not None:  # a handshake waits for its client
                for task in self._tasks:
                    task.cancel()
            await asyncio.wait(self._tasks)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._shared.loop.remove_reader(self._sock.fileno())

    def _accept(self) -> None:
        shared = self._shared
        for _ in range(ACCEPTS_A_TURN):
            try:
                client, address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:  # the client was gone before it was taken
                continue
            except OSError as error:
                if error.errno in OF_ONE:
                    continue
                self._pause(error)
                return
            shared.metrics.bugs.survive("accepting", partial(self._take, client, address))

    def _take(self, client: socket.socket, address: Any) -> None:
        shared, settings = self._shared, self._shared.settings
        # Those whose transport is still being made count too: a burst must not slip past the limit.
        if len(shared.connections) + len(self._tasks) >= settings.max_connections + REFUSALS_AT_ONCE:
            shared.unaccepted += 1
            client.close()
            return
        client.setblocking(False)
        if self._is_tcp:
            try:
                # Else the kernel takes megabytes before a slow client is seen to be slow.
                client.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, shared.high_water)
            except OSError:  # gone already
                client.close()
                return
        place: Place | None = None
        if self._is_tcp and settings.max_connections_per_peer:
            try:
                place = shared.per_peer.come(address[0], settings.max_connections_per_peer)
            except ConnectionRefusedError:
                shared.unaccepted += 1
                client.close()
                return
        task = shared.loop.create_task(self._connect(client, place))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, client: socket.socket, place: Place | None) -> None:
        shared = self._shared
        tls: dict[str, Any] = {}
        if shared.certificate is not None:
            tls = {
                "ssl": shared.certificate.context,
                "ssl_handshake_timeout": shared.settings.header_timeout_s,
                # The connection itself looks whether its client still takes the rest.
                "ssl_shutdown_timeout": CLOSING_S + shared.settings.write_stall_timeout_s,
            }
        try:
            await shared.loop.connect_accepted_socket(lambda: Connection(shared, place), client, **tls)
        except OSError:  # gone already, or it speaks no TLS
            client.close()
            if place is not None:
                place.give_back()
        except BaseException:
            if place is not None:
                place.give_back()
            raise

    def _pause(self, error: OSError) -> None:
        """Try again soon; where no files are left one waiting client is let go, so that it does not wait in vain."""
        shared, now = self._shared, self._shared.clock()
        if now - shared.out_of_files_at > QUIET_S:  # it may last, and be tried again five times a second
            event = "listener.out_of_files" if error.errno in OUT_OF_FILES else "listener.cannot_accept"
            log.warning(event, error=error.strerror, connections=len(shared.connections))
        shared.out_of_files_at = now
        shared.unaccepted += 1
        loop = shared.loop
        loop.remove_reader(self._sock.fileno())
        self._timer = loop.call_later(PAUSE_S, self.start)
        if error.errno in OUT_OF_FILES:
            self._give_up_reserve()
            with suppress(OSError):
                self._sock.accept()[0].close()
            with suppress(OSError):  # another was faster: the next time nobody is told
                self._reserve = _reserved()

    def _give_up_reserve(self) -> None:
        reserve, self._reserve = self._reserve, None
        if reserve is not None:
            os.close(reserve)


def _reserved() -> int:
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
