"""What the tests of systemd's two sides share: sockets handed to a daemon, and the socket that hears its news."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from daemons import PATIENCE_S

# Descriptors 3, 4, … are the given ones, as a service manager leaves them; then the rest of the command line runs.
_HAND_OVER = """
import os, sys
names, *numbers = sys.argv[1].split(",")
fds = [os.dup(int(number)) for number in numbers]
high = [os.dup2(fd, 100 + at) for at, fd in enumerate(fds)]
for at, fd in enumerate(high):
    os.dup2(fd, 3 + at)
    os.set_inheritable(3 + at, True)
    os.close(fd)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=names)
os.execv(sys.argv[2], sys.argv[2:])
"""


def handing_over(fds: Sequence[int], names: str = "") -> list[str]:
    """The beginning of a command that is given *fds* by name."""
    return [sys.executable, "-c", _HAND_OVER, ",".join([names, *map(str, fds)])]


class Hearing:
    """The service manager's end: a datagram socket that collects what is said."""

    def __init__(self, path: Path | str) -> None:
        self.path = str(path)
        self.said: list[str] = []
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind("\0" + self.path[1:] if self.path.startswith("@") else self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._sock.close()

    def hear(self, timeout_s: float) -> str | None:
        """The next datagram, None when none came in time."""
        self._sock.settimeout(timeout_s)
        try:
            text = self._sock.recv(65_536).decode()
        except TimeoutError:
            return None
        self.said.append(text)
        return text

    def until(self, wanted: Callable[[str], bool]) -> str:
        """The next datagram that is *wanted*."""
        deadline = time.monotonic() + PATIENCE_S
        while (left := deadline - time.monotonic()) > 0:
            text = self.hear(left)
            if text is not None and wanted(text):
                return text
        raise AssertionError(f"it was not said: {self.said[-5:]}")

    def drained(self) -> list[str]:
        """All that was said and not heard yet."""
        said = []
        while (text := self.hear(0.001)) is not None:
            said.append(text)
        return said
