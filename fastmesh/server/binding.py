"""The listening socket that the settings ask for, and the file of a Unix socket."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

from fastmesh.config import ServerSettings
from fastmesh.errors import ConfigError

BACKLOG: Final = 4096  # the kernel lowers it to net.core.somaxconn
FORBIDDEN: Final = 0o117  # bits of a Unix socket's mode: all of others', and to be run


def bind(settings: ServerSettings) -> socket.socket:
    """The listening socket that the settings ask for.  Raises ConfigError."""
    try:
        if settings.uds is not None:
            return _bind_unix(settings.uds)
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        return socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        reason = reason.partition(" (while")[0]  # create_server repeats the address
        if settings.uds is not None:
            raise ConfigError(f"SERVER__UDS={settings.uds!r} cannot be bound: {reason}") from None
        raise ConfigError(
            f"SERVER__HOST={settings.host!r} with SERVER__PORT={settings.port} cannot be bound: {reason}"
        ) from None


class SocketFile:
    """The file of a Unix socket that is bound at *path* now."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._bound = _identity(path)

    def remove(self) -> None:
        """Delete it, if it is still the one.  Before the socket is closed: until then its inode is nobody else's."""
        if self._bound is not None and _identity(self._path) == self._bound:
            with suppress(FileNotFoundError):
                os.unlink(self._path)


def _identity(path: str) -> tuple[int, int] | None:
    """Device and inode; None when nothing is there."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _bind_unix(path: str) -> socket.socket:
    """A Unix socket that others may not write to: writers may crawl.  It replaces one that does not answer."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if Path(path).is_socket() and not _answers(path):
            os.unlink(path)
        before = os.umask(FORBIDDEN)
        try:
            os.umask(before | FORBIDDEN)
            listener.bind(path)
        finally:
            os.umask(before)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
    return True
