"""What streams leave in memory: closed ones inside the resume window, short ones and large ones behind it.

    python -m loadtest.closed [--streams 100000]

Ends with status 1 when a figure passes its limit (loadtest/README.md).
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import sys
import time
import urllib.request
from collections.abc import Callable

from loadtest import report
from loadtest.metrics import metrics
from loadtest.servers import FASTMESH, Server, resident_bytes, running

KIB, MIB = 1024, 1024 * 1024
WARM = 1_000  # streams before the first look: what is loaded once, and the tables that have grown by then
INSIDE = 20_000
MAX_CLOSED_BYTES = 4 * KIB
MAX_LEFT_BYTES = 20 * MIB
MAX_IDLE_BYTES = 32 * MIB
LARGE = 400
PATIENCE_S = 60.0
# It is refused without a packet, so that what is measured is the stream.
ONE_URL = {"urls": ["http://127.0.0.1:1/"], "options": {"retries": 0}}
MANY_URLS = {"urls": [f"http://192.0.2.1/{number}/{'x' * 1000}" for number in range(1000)]}


class Client:
    """Asks *server* for one stream after the other, on one connection."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._sock = socket.create_connection((server.host, server.port))
        body = json.dumps(ONE_URL).encode()
        head = f"POST /crawl/stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        self._short = f"{head}Content-Type: application/json\r\n\r\n".encode() + body

    def short(self, count: int) -> None:
        """*count* streams of one URL, each read to its end."""
        sock = self._sock
        for _ in range(count):
            sock.sendall(self._short)
            tail = b""
            while not tail.endswith(b"0\r\n\r\n"):
                data = sock.recv(65_536)
                if not data:
                    raise ConnectionError("the daemon closed the connection")
                tail = (tail + data)[-8:]

    def large(self, count: int) -> None:
        """*count* streams of a thousand long URLs, 1 MB together, each cancelled as soon as it is open."""
        for _ in range(count):
            opened = self._ask("POST", "/streams", MANY_URLS)
            self._ask("DELETE", f"/streams/{opened['stream_id']}")

    def settled(self) -> int:
        """Resident bytes once every closed stream has been forgotten."""
        until = time.monotonic() + PATIENCE_S
        while not re.search(r"^fastmesh_streaming_kept_streams 0\.0$", metrics(self._server), re.MULTILINE):
            if time.monotonic() > until:
                raise TimeoutError("streams are kept longer than the resume window")
            time.sleep(0.2)
        time.sleep(2)  # memory is given back once a second
        return resident_bytes(self._server.pid)

    def resident(self) -> int:
        """Resident bytes now."""
        return resident_bytes(self._server.pid)

    def close(self) -> None:
        """It asks for no more."""
        self._sock.close()

    def _ask(self, method: str, path: str, body: object = None) -> dict[str, object]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self._server.url}{path}", data, {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request) as answer:
            told: dict[str, object] = json.loads(answer.read())
            return told


def inside(count: int = INSIDE) -> float:
    """Bytes of the process for each closed stream of one URL that can still be read."""

    def measure(client: Client) -> float:
        client.short(WARM)
        before = client.resident()
        client.short(count)
        return (client.resident() - before) / count

    return _measured(measure, resume_window_s=3600)


def left(count: int) -> float:
    """Bytes that *count* short streams leave behind the window, more than the first thousand do."""

    def measure(client: Client) -> float:
        client.short(WARM)
        before = client.settled()
        client.short(count - WARM)
        return client.settled() - before

    return _measured(measure, resume_window_s=1)


def idle(large: int = LARGE, short: int = INSIDE) -> float:
    """Bytes that an idle daemon has more after large and short streams than after its first page."""

    def measure(client: Client) -> float:
        client.short(1)
        before = client.settled()
        client.large(large)
        client.short(short)
        return client.settled() - before

    return _measured(measure, resume_window_s=1)


def _measured(measure: Callable[[Client], float], *, resume_window_s: int) -> float:
    settings = {"STREAM__RESUME_WINDOW_S": str(resume_window_s), "CACHE__MAX_BYTES": "0", "WORKERS__EXTRACT": "1"}
    with running(FASTMESH, None, **settings) as server:
        client = Client(server)
        try:
            return measure(client)
        finally:
            client.close()


def main() -> int:
    """Measure all; return 1 when a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=100_000, help="short streams behind the window")
    asked = parser.parse_args()
    figures = [
        (f"a closed stream of one URL, of {INSIDE:,} in the window", inside(), MAX_CLOSED_BYTES, "bytes", 1),
        (f"after {asked.streams:,} short streams, to after {WARM:,}", left(asked.streams), MAX_LEFT_BYTES, "MiB", MIB),
        (f"idle after {LARGE} of 1 MB and {INSIDE:,} short ones, to after one", idle(), MAX_IDLE_BYTES, "MiB", MIB),
    ]
    rows = [[name, f"{value / by:,.1f} {unit}", f"{most / by:,.0f} {unit}"] for name, value, most, unit, by in figures]
    report.publish(
        "closed", [report.Table("What streams leave in resident memory", ["what", "found", "at most"], rows)]
    )
    return int(any(value > most for _, value, most, _, _ in figures))


if __name__ == "__main__":
    sys.exit(main())
