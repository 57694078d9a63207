"""How systemd and the daemon talk: sockets at the start (sd_listen_fds(3)), news after it (sd_notify(3)).  Both are
plain: variables, inherited descriptors, datagrams to a Unix socket.  Without systemd nothing of it happens."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Final

from fastmesh.errors import ConfigError
from fastmesh.telemetry.bugs import Bugs
from fastmesh.telemetry.log import get_logger

log = get_logger()

FIRST_FD: Final = 3  # SD_LISTEN_FDS_START
MICROSECONDS: Final = 1_000_000
NEWS_S: Final = 1.0
CLOSING_S: Final = 10.0  # for what is done when all clients are gone: workers end, connections to origins close


@dataclass(frozen=True, slots=True)
class Inherited:
    """A listening socket that was there before the daemon, and the name that its unit gives it."""

    name: str
    sock: socket.socket


def inherited_sockets(environ: MutableMapping[str, str]) -> list[Inherited]:
    """A socket unit's sockets, if any; the variables go, children must not see them.  Raises ConfigError."""
    pid, count, names = (environ.pop(f"LISTEN_{name}", "") for name in ("PID", "FDS", "FDNAMES"))
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    named = names.split(":") if names else []
    found = []
    for at in range(int(count)):
        name = named[at] if at < len(named) else "unknown"
        found.append(Inherited(name, _listening(FIRST_FD + at, name)))
    return found


def _listening(fd: int, name: str) -> socket.socket:
    what = f"descriptor {fd} of the socket unit ({name!r})"
    try:
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise ConfigError(f"{what} is no socket: {error.strerror}") from None
    families = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    if sock.family not in families or sock.type != socket.SOCK_STREAM:
        raise ConfigError(f"{what} is an {sock.family.name} socket of type {sock.type.name}: want ListenStream=")
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ConfigError(f"{what} does not listen: want Accept=no")
    return sock


class Notifier:
    """Sends news to the service manager; to nobody when there is none.  *watchdog_s* is how often it wants to hear that
    the daemon lives, None when it does not."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._path = environ.get("NOTIFY_SOCKET", "")
        self.watchdog_s = _watchdog_s(environ)
        self._sock: socket.socket | None = None
        if self._path:
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._sock.setblocking(False)

    @property
    def listens(self) -> bool:
        """Whether anybody is told."""
        return self._sock is not None

    def ready(self) -> None:
        """Connections are accepted; after a reload, again."""
        self._tell("READY=1")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``."""
        self._tell(f"STATUS={text}")

    def reloading(self) -> None:
        """The settings are read again; ready() follows."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, within_s: float) -> None:
        """The daemon ends *within_s* seconds; said again as long as it takes."""
        self._tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(within_s * MICROSECONDS)}")

    def alive(self) -> None:
        """The loop runs."""
        self._tell("WATCHDOG=1")

    def close(self) -> None:
        """Nothing more is said."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _tell(self, *lines: str) -> None:
        if self._sock is None:
            return
        path = "\0" + self._path[1:] if self._path.startswith("@") else self._path
        try:
            self._sock.sendto("\n".join(lines).encode(), path)
        except OSError as error:  # the manager is deaf or gone: that must not end the daemon
            log.warning("systemd.unheard", said=lines[0], error=error.strerror)


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    asked, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not asked.isdigit() or int(asked) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(asked) / MICROSECONDS


async def keep_informed(
    notifier: Notifier, status: Callable[[], str], ends_in: Callable[[], float | None], bugs: Bugs
) -> None:
    """Say every second what the daemon does, that its loop runs, and how long its end still takes.  Whatever raises in
    it is one of *bugs*: a daemon that cannot say how it is may be well."""
    if not notifier.listens:
        return
    said = ""

    def tell_end() -> None:
        if (left_s := ends_in()) is not None:
            # No longer than that, or an end that hangs would be waited for for ever.
            notifier.stopping(max(0.0, left_s + CLOSING_S))

    def tell_status() -> None:
        nonlocal said
        if (text := status()) != said:
            said = text
            notifier.status(text)

    while True:
        if notifier.watchdog_s is not None:
            notifier.alive()
        bugs.survive("news", tell_end)
        bugs.survive("news", tell_status)
        await asyncio.sleep(min(NEWS_S, (notifier.watchdog_s or NEWS_S) / 3))
