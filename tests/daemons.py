"""A real daemon in a process of its own, and a client that sees every byte."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import pytest

PATIENCE_S = 30.0  # for what must happen; no test waits so long unless it fails


class Daemon:
    """``fastmesh serve`` with *settings* by their names; ends at the end of the block.  It inherits *fds*.

    with Daemon(SERVER__HEADER_TIMEOUT_S=0.3) as daemon:
        peer = daemon.connect()
    """

    program: ClassVar[Sequence[str]] = ("-m", "fastmesh.cli")

    def __init__(
        self,
        *flags: str,
        prefix: Iterable[str] = (),
        fds: Sequence[int] = (),
        cacert: Path | None = None,
        **settings: object,
    ) -> None:
        environ = {key: value for key, value in os.environ.items() if not key.startswith("FASTMESH_")}
        environ |= {f"FASTMESH_{name}": str(value) for name, value in settings.items()}
        if "SERVER__UDS" not in settings:
            environ.setdefault("FASTMESH_SERVER__PORT", "0")
        self._peers: list[Peer] = []
        self._cacert = cacert  # whom connections trust when it speaks TLS
        self._stderr = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - closed with the daemon
        command = [*prefix, sys.executable, *self.program, "serve", *flags]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self._stderr, env=environ, text=True, pass_fds=fds
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        match = re.fullmatch(r"fastmesh \S+ listening on (\S+)\n", line)
        if match is None:
            self.process.kill()
            self.process.wait()
            said = self.stderr()
            self.process.stdout.close()
            self._stderr.close()
            raise RuntimeError(f"the daemon did not start: {line!r} {said}")
        self.address = match[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for peer in self._peers:
            peer.sock.close()
        until = time.monotonic() + PATIENCE_S
        while self.process.poll() is None and time.monotonic() < until:
            self.process.send_signal(signal.SIGTERM)  # the second one: without waiting for anybody
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.05)
        try:
            self.process.wait(0)
        finally:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self._stderr.close()

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.address.rpartition(":")[2])

    @property
    def host(self) -> str:
        """Host and port, as a Host header has it."""
        return self.address.removeprefix("http://").removeprefix("https://")

    def stderr(self) -> str:
        """All that it logged so far."""
        file = self._stderr.fileno()  # by pread: the daemon writes at the position that we share with it
        return os.pread(file, os.fstat(file).st_size, 0).decode()

    def logs(self, event: str) -> list[dict[str, Any]]:
        """The log lines of *event*."""
        lines = [json.loads(line) for line in self.stderr().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def connect(self, *, receive_buffer: int | None = None) -> Peer:
        """A connection, closed with the daemon; with *receive_buffer* its kernel takes little ahead of its reader."""
        if self.address.startswith("unix:"):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(self.address.removeprefix("unix:"))
        else:
            sock = socket.socket()
            if receive_buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            sock.connect(("127.0.0.1", self.port))
        sock.settimeout(PATIENCE_S)
        if self.address.startswith("https:"):
            sock = ssl.create_default_context(cafile=self._cacert).wrap_socket(sock, server_hostname="127.0.0.1")
        peer = Peer(sock, "localhost" if self.address.startswith("unix:") else self.host)
        self._peers.append(peer)
        return peer

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Response:
        """One request on a connection of its own."""
        with self.connect() as peer:
            return peer.ask(method, path, body, **headers)

    def crawl(
        self, *urls: str | dict[str, Any], stream: dict[str, Any] | None = None, **options: Any
    ) -> list[dict[str, Any]]:
        """The frames of a crawl."""
        response = self.ask("POST", "/crawl/stream", {"urls": urls, "options": options, "stream": stream or {}})
        assert response.status == 200, response
        return response.frames

    def metric(self, name: str) -> float:
        """The value of one sample, its labels as they are written."""
        for line in self.ask("GET", "/metrics").body.decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        return 0.0

    def memory(self) -> int:
        """Its resident bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024


@dataclass
class Response:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def frames(self) -> list[dict[str, Any]]:
        """The body as NDJSON; every line is whole."""
        assert self.body.endswith(b"\n")
        return [json.loads(line) for line in self.body.splitlines()]


class Closed(Exception):
    """The daemon closed the connection."""


class Peer:
    """A connection that reads responses one by one."""

    def __init__(self, sock: socket.socket, host: str) -> None:
        self.sock = sock
        self._host = host
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Write *data* as it is."""
        self.sock.sendall(data)

    def request(self, method: str, path: str, body: object = None, **headers: str) -> bytes:
        """The bytes of a request."""
        fields = {"Host": self._host} | {name.replace("_", "-"): value for name, value in headers.items()}
        text = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        if body is not None:
            fields = {"Content-Type": "application/json", "Content-Length": str(len(text))} | fields
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + text

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Response:
        """Send a request and read its answer."""
        self.send(self.request(method, path, body, **headers))
        return self.read(head_only=method == "HEAD")

    def more(self) -> None:
        """Wait for more bytes.  Raises Closed at the end."""
        try:
            data = self.sock.recv(65_536)
        except ConnectionError as error:
            raise Closed(str(error)) from None
        if not data:
            raise Closed("end of file")
        self._buffer += data

    def line(self) -> bytes:
        """The next line without its end."""
        while b"\n" not in self._buffer:
            self.more()
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.removesuffix(b"\r")

    def exactly(self, count: int) -> bytes:
        """The next *count* bytes."""
        while len(self._buffer) < count:
            self.more()
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    def head(self) -> Response:
        """The next response's status and headers."""
        version, status, _ = self.line().split(b" ", 2)
        assert version == b"HTTP/1.1"
        headers = {}
        while line := self.line():
            name, _, value = line.decode("latin-1").partition(": ")
            assert name.lower() not in headers, f"{name} twice"
            headers[name.lower()] = value
        return Response(int(status), headers, b"")

    def chunks(self) -> Iterator[bytes]:
        """The chunks of a body, as they come."""
        while size := int(self.line(), 16):
            yield self.exactly(size)
            assert self.exactly(2) == b"\r\n"
        assert self.line() == b""

    def frames(self) -> Iterator[dict[str, Any]]:
        """The frames of a chunked stream, as they come; every chunk holds whole lines."""
        for chunk in self.chunks():
            assert chunk.endswith(b"\n")
            yield from map(json.loads, chunk.splitlines())

    def read(self, *, head_only: bool = False) -> Response:
        """The next whole response."""
        response = self.head()
        if response.status < 200 or response.status == 204 or head_only:
            return response
        if response.headers.get("transfer-encoding") == "chunked":
            response.body = b"".join(self.chunks())
        elif "content-length" in response.headers:
            response.body = self.exactly(int(response.headers["content-length"]))
        else:
            response.body = self.rest()
        return response

    def rest(self) -> bytes:
        """All until the daemon closes."""
        while True:
            try:
                self.more()
            except Closed:
                data, self._buffer = self._buffer, b""
                return data

    def closed(self) -> bool:
        """Wait for the daemon to close; True when nothing came before."""
        return self.rest() == b""


def own_address() -> str:
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has loopback addresses only")
        return str(probe.getsockname()[0])
