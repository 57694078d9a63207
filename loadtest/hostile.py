"""The loop's lag under each hostile client and each hostile origin, one after the other.

    python -m loadtest.hostile --seconds 5

A client's attack is bytes that CONNECTIONS connections send again and again, whatever is answered; an origin's is a
crawl of nothing but one kind of soak_origin.  The table says the 99th percentile of how late the loop ran a timer
meanwhile, and of its own part of that: what it waited for a core is not its doing.  Exit status 1 when its own part
passes LIMIT_MS anywhere.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from urllib.error import HTTPError

from rich.progress import track

from loadtest import report
from loadtest.metrics import lag_of, metrics
from loadtest.servers import FASTMESH, Server, running
from loadtest.soak import crawled, origin
from loadtest.soak_origin import HOSTS, KINDS

LIMIT_MS = 20.0
CONNECTIONS = 8
URLS = 160
SERVED_WITHIN_S, LOOK_S = 60.0, 0.1
SETTINGS = {
    "FETCH__ALLOW_NETWORKS": "127.0.0.0/8",
    "FIREHOSE__ENABLED": "true",
    "STREAM__RESUME_WINDOW_S": "1",
    "LOG__LEVEL": "error",
}


POST = b"POST /streams HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def _post(body: bytes) -> bytes:
    return POST + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def _chunked(rest: bytes) -> bytes:
    return POST + b"Transfer-Encoding: chunked\r\n\r\n" + rest


def _frame(opcode: int, text: bytes) -> bytes:
    """A masked frame of less than 126 bytes; the mask is zeros."""
    return bytes([opcode, 0x80 | len(text), 0, 0, 0, 0]) + text


UPGRADE = (
    b"GET /crawl/ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
STREAM = b"GET /firehose/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
URL = b'"http://127.0.0.1:1/%d"'
# What a connection sends, and whether it reads what is answered.
CLIENTS: dict[str, tuple[bytes, bool]] = {
    "chunks of one byte": (_chunked(b"1\r\nx\r\n" * 170_000 + b"0\r\n\r\n"), True),
    "trailers": (_chunked(b"0\r\n" + b"a:b\r\n" * 40_000), True),
    "chunk extensions": (_chunked(b"1" + b';a="b"' * 40_000), True),
    "line ends": (b"\r\n" * 120_000, True),
    "pipelined requests": (GET * 5_000, True),
    "pipelined requests, answers not read": (GET * 5_000, False),
    "fields": (GET[:-2] + b"a:b\r\n" * 12_000 + b"\r\n", True),
    "a field without end": (GET[:-2] + b"a:" + b"b" * 250_000, True),
    "no HTTP": (os.urandom(250_000), True),
    "numbers": (_post(b'{"urls":[' + b"1," * 500_000 + b"1]}"), True),
    "depth": (_post(b"[" * 500_000 + b"]" * 500_000), True),
    "a thousand URLs": (_post(b'{"urls":[' + b",".join(URL % n for n in range(1000)) + b"]}"), True),
    "streams of one frame": (b"GET /firehose/stream?frames=1 HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200, True),
    "streams that nobody reads": (STREAM, False),
    "pings": (UPGRADE + _frame(0x89, b"") * 40_000, True),
    "fragments": (UPGRADE + _frame(0x01, b"") + _frame(0x00, b"") * 40_000, True),
    "commands": (UPGRADE + _frame(0x81, b'{"type":"status","id":"a"}') * 8_000, True),
    "commands, answers not read": (UPGRADE + _frame(0x81, b'{"type":"status","id":"a"}') * 8_000, False),
}


def main() -> int:
    """Try all; the exit status."""
    parser = argparse.ArgumentParser(prog="loadtest.hostile", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each")
    parser.add_argument("--only", help="those whose name has this in it")
    asked = parser.parse_args()
    rows: list[list[object]] = []
    worst = 0.0
    with origin() as port:
        tried: list[tuple[str, Callable[[Server, float], None]]] = [
            *((f"client: {name}", _by_client(*attack)) for name, attack in CLIENTS.items()),
            *((f"origin: {name}", _by_origin(name, port)) for name in KINDS),
        ]
        tried = [(name, attack) for name, attack in tried if asked.only is None or asked.only in name]
        for name, attack in track(tried, "hostile", console=report.STDERR):
            with running(FASTMESH, None, **SETTINGS) as server, lag_of(server) as lag:
                attack(server, asked.seconds)
                over_s = _served_again(server)
            worst = max(worst, lag.own)
            report.STDERR.print(
                f"{name}: {lag.whole:g} ms, its own part {lag.own:g} ms, served again after {over_s:.1f} s"
            )
            within = "yes" if lag.own <= LIMIT_MS else "NO"
            rows.append([name, f"{lag.whole:g}", f"{lag.own:g}", within, f"{over_s:.1f}"])
    columns = ["", "loop lag p99, ms at most", "its own part, ms at most", f"within {LIMIT_MS:g} ms", "served again, s"]
    report.publish("hostile", [report.Table("Hostile clients and origins", columns, rows)])
    return 0 if worst <= LIMIT_MS else 1


def _served_again(server: Server) -> float:
    """After how many seconds somebody else is: a flood may have taken all connections that there may be."""
    began = time.monotonic()
    while True:
        try:
            metrics(server)
            return time.monotonic() - began
        except HTTPError as error:
            with error:
                if error.status != HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() - began > SERVED_WITHIN_S:
                    raise
        time.sleep(LOOK_S)


def _by_client(data: bytes, reads: bool) -> Callable[[Server, float], None]:
    def attack(server: Server, seconds: float) -> None:
        until = time.monotonic() + seconds
        clients = [threading.Thread(target=_send, args=(server, data, reads, until)) for _ in range(CONNECTIONS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()

    return attack


def _send(server: Server, data: bytes, reads: bool, until: float) -> None:
    """Send *data* on one connection after the other."""
    while time.monotonic() < until:
        with suppress(OSError), socket.create_connection((server.host, server.port), 1.0) as sock:
            sock.settimeout(1.0)
            reader = threading.Thread(target=_read, args=(sock, until))
            if reads:
                reader.start()
            try:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
            finally:
                if reads:
                    reader.join()


def _read(sock: socket.socket, until: float) -> None:
    with suppress(OSError):
        while time.monotonic() < until and sock.recv(1 << 20):
            pass


def _by_origin(kind: str, port: int) -> Callable[[Server, float], None]:
    def attack(server: Server, seconds: float) -> None:
        until, number = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            urls = [f"http://{HOSTS[at % len(HOSTS)]}:{port}/{kind}?n={100 * (number + at) + 4}" for at in range(URLS)]
            asyncio.run(crawled(server, urls, timeout_ms=2000))
            number += URLS

    return attack


if __name__ == "__main__":
    sys.exit(main())
