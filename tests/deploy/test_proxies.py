"""The configuration files for nginx and Caddy, run for real in front of a daemon with tokens."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from certificates import Pair, made
from conftest import LOOPBACK, need
from daemons import PATIENCE_S, Daemon
from e2e.nginx import free_port, until_it_listens
from origins import Origin, Request, head
from websockets.sync.client import connect

from fastmesh.api.access.tokens import line_of, new_token

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
TOKEN = new_token()
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class Proxy:
    """A proxy that listens at *port*, with a certificate for loopback, and its *log*."""

    def __init__(self, port: int, pair: Pair, log: Path) -> None:
        self.port = port
        self.log = log
        self.tls = ssl.create_default_context(cafile=pair.cert)

    def said(self) -> str:
        """What it logged so far."""
        return self.log.read_text() if self.log.exists() else ""

    def connection(self) -> HTTPConnection:
        """A new one."""
        return HTTPSConnection("127.0.0.1", self.port, timeout=PATIENCE_S, context=self.tls)


def put_in(text: str, *pairs: tuple[str, str]) -> str:
    """*text* with what is this machine's; each place is there once."""
    for written, here in pairs:
        assert text.count(written) == 1, written
        text = text.replace(written, here)
    return text


def nginx(folder: Path, uds: Path, pair: Pair, port: int) -> list[str]:
    site = put_in(
        (DEPLOY / "nginx/fastmesh.conf").read_text(),
        ("unix:/run/fastmesh.sock", f"unix:{uds}"),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/ssl/crawl.example.pem", str(pair.cert)),
        ("/etc/ssl/crawl.example.key", str(pair.key)),
        ("/var/log/nginx/fastmesh.log", f"{folder}/log"),
        ("/var/log/nginx/fastmesh-error.log", f"{folder}/errors"),
    )
    temporary = "".join(f"{part}_temp_path {folder}/{part}; " for part in ("proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/main;\n"
        f"events {{ }}\nhttp {{ client_body_temp_path {folder}/body; {temporary}\n{site}\n}}"
    )
    return [need("nginx"), "-e", f"{folder}/early", "-c", f"{folder}/nginx.conf"]


def caddy(folder: Path, uds: Path, pair: Pair, port: int) -> list[str]:
    site = put_in(
        (DEPLOY / "caddy/Caddyfile").read_text(),
        ("crawl.example {", f"https://127.0.0.1:{port} {{\n\ttls {pair.cert} {pair.key}"),
        ("unix//run/fastmesh.sock", f"unix/{uds}"),
        ("/var/log/caddy/fastmesh.log", f"{folder}/log"),
    )
    (folder / "Caddyfile").write_text(f"{{\n\tadmin off\n\tauto_https disable_redirects\n}}\n{site}")
    return [need("caddy"), "run", "--adapter", "caddyfile", "--config", f"{folder}/Caddyfile"]


PROXIES: dict[str, Callable[[Path, Path, Pair, int], list[str]]] = {"nginx": nginx, "caddy": caddy}


@contextmanager
def running(name: str, folder: Path, uds: Path) -> Iterator[Proxy]:
    pair, port = made(folder, "proxy"), free_port()
    command = PROXIES[name](folder, uds, pair, port)
    with open(folder / "said", "ab") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=os.environ | {"HOME": str(folder)})
    try:
        until_it_listens(process, port, folder / "said")
        yield Proxy(port, pair, folder / "log")
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:  # the path of a Unix socket may have 107 bytes
        yield Path(name)


@pytest.fixture(scope="module")
def daemon(folder: Path) -> Iterator[Daemon]:
    (folder / "tokens").write_text(line_of(TOKEN, "tests"))
    with Daemon(
        SERVER__UDS=folder / "socket",
        AUTH__TOKENS_FILE=folder / "tokens",
        FETCH__ALLOW_NETWORKS=LOOPBACK,
        FIREHOSE__ENABLED="true",
        STREAM__HEARTBEAT_S=0.3,
        STREAM__WS_PING_S=0.3,
    ) as running:
        yield running


@pytest.fixture(scope="module", params=PROXIES)
def proxy(request: pytest.FixtureRequest, folder: Path, daemon: Daemon) -> Iterator[Proxy]:
    own = folder / request.param
    own.mkdir()
    with running(request.param, own, folder / "socket") as here:
        yield here


class Unix(HTTPConnection):
    """The daemon itself."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(self.host)


@contextmanager
def asked(
    connection: HTTPConnection, method: str, path: str, body: Any = None, **headers: str
) -> Iterator[HTTPResponse]:
    """The answer to one request with the token, and the connection's end."""
    given = BEARER | {name.replace("_", "-"): value for name, value in headers.items()}
    fields = {name: value for name, value in given.items() if value}
    if body is not None:
        fields["Content-Type"] = "application/json"
    with closing(connection):
        connection.request(method, path, None if body is None else json.dumps(body), fields)
        with connection.getresponse() as response:
            yield response


def gated(origin: Origin, path: str) -> tuple[str, threading.Event]:
    """A page that answers when the test says so."""
    gate = threading.Event()

    async def answer(_: Request) -> AsyncIterator[bytes]:
        await asyncio.to_thread(gate.wait, PATIENCE_S)
        yield head(200, {"Content-Type": "text/plain", "Content-Length": "4"}) + b"slow"

    return origin.route(path, answer), gate


def test_the_first_frame_comes_within_50_ms_of_the_daemon_s_own(proxy: Proxy, folder: Path) -> None:
    took: dict[str, list[float]] = {"own": [], "behind": []}
    for _ in range(7):
        for name, connection in (("own", Unix(str(folder / "socket"))), ("behind", proxy.connection())):
            connection.connect()
            begun = time.monotonic()
            with asked(
                connection, "POST", "/crawl/stream", {"urls": ["nonsense"]}, Host=f"127.0.0.1:{proxy.port}"
            ) as response:
                assert json.loads(response.readline())["type"] == "metadata"
                took[name].append(time.monotonic() - begun)
    assert median(took["behind"]) - median(took["own"]) < 0.05, took


def test_each_frame_comes_when_it_is_ready_and_heartbeats_meanwhile(proxy: Proxy, origin: Origin) -> None:
    quick = origin.page(f"/quick-{proxy.port}", "<title>Quick</title>")
    slow, gate = gated(origin, f"/slow-{proxy.port}")
    urls = {"urls": [slow, quick]}
    with asked(proxy.connection(), "POST", "/crawl/stream", urls, X_Request_ID="mine") as response:
        assert (response.status, response.headers["X-Request-ID"]) == (200, "mine")
        assert response.headers["Content-Encoding"] is None
        kinds = [json.loads(response.readline())["type"] for _ in range(4)]
        assert kinds == ["metadata", "result", "heartbeat", "heartbeat"]
        gate.set()
        assert [json.loads(line)["type"] for line in response if b"heartbeat" not in line] == ["result", "summary"]


def test_a_cut_stream_is_resumed_and_its_reader_s_leaving_is_seen(proxy: Proxy, daemon: Daemon, origin: Origin) -> None:
    pages = [origin.page(f"/resumed-{proxy.port}-{at}", f"<title>{at}</title>") for at in range(3)]
    slow, gate = gated(origin, f"/gate-{proxy.port}")
    with asked(proxy.connection(), "POST", "/crawl/sse", {"urls": [*pages, slow]}) as response:
        stream_id = response.headers["X-Stream-ID"]
        seen = ids(response, until=3)
    path = f"/streams/{stream_id}"
    while daemon.ask("GET", path, **BEARER).json["subscribers"]:
        pass
    gate.set()
    with asked(
        proxy.connection(), "GET", f"{path}/events", Last_Event_ID=seen[-1], Accept="text/event-stream"
    ) as again:
        assert again.headers["Content-Type"] == "text/event-stream"
        assert [*seen, *ids(again)] == [f"{stream_id}:{seq}" for seq in range(1, 7)]
    assert [origin.hits[f"/resumed-{proxy.port}-{at}"] for at in range(3)] == [1, 1, 1]
    with asked(proxy.connection(), "GET", f"{path}/events", Last_Event_ID=f"{stream_id}:6") as over:
        assert over.status == 204


def ids(response: HTTPResponse, until: int | None = None) -> list[str]:
    """The ids of its events, or of the first *until* of them."""
    found: list[str] = []
    while len(found) != until and (line := response.readline()):
        if line.startswith(b"id: "):
            found.append(line[4:].decode().strip())
    return found


def test_a_websocket_passes(proxy: Proxy, origin: Origin) -> None:
    page = origin.page(f"/socket-{proxy.port}", "<title>Page</title>")
    subprotocols: list[Any] = ["fastmesh.v1", f"fastmesh.token.{TOKEN}"]
    address = f"wss://127.0.0.1:{proxy.port}/crawl/ws"
    with connect(address, subprotocols=subprotocols, ssl=proxy.tls, compression=None, proxy=None) as ws:
        assert ws.subprotocol == "fastmesh.v1"
        assert json.loads(ws.recv())["type"] == "welcome"
        for at in range(2):
            ws.send(json.dumps({"type": "crawl", "id": str(at), "urls": [page]}))
            kinds = [json.loads(ws.recv(PATIENCE_S))["type"] for _ in range(4)]
            assert kinds == ["ack", "metadata", "result", "summary"]
        assert ws.ping().wait(PATIENCE_S)


@pytest.mark.parametrize(
    ("asks", "status"),
    [
        (("GET", "/nothing", None, {}), 404),
        (("GET", "/streams", None, {"Authorization": "Bearer x"}), 401),
        (("GET", "/streams", None, {"Origin": "https://other.example"}), 403),
        (("GET", "/streams", None, {"Origin": "https://127.0.0.1:?"}), 200),
        (("POST", "/crawl", {"urls": ["x" * 1_100_000]}, {}), 413),
    ],
)
def test_what_the_daemon_refuses_is_refused(
    proxy: Proxy, asks: tuple[str, str, Any, dict[str, str]], status: int
) -> None:
    method, path, body, headers = asks
    fields = {name: value.replace("?", str(proxy.port)) for name, value in headers.items()}
    with asked(proxy.connection(), method, path, body, **fields) as answer:
        assert answer.status == status


def test_its_log_holds_neither_token_nor_ticket(proxy: Proxy) -> None:
    with asked(proxy.connection(), "POST", "/tickets") as answer:
        ticket = json.loads(answer.read())["ticket"]
    subprotocols: list[Any] = ["fastmesh.v1", f"fastmesh.token.{TOKEN}"]
    address = f"wss://127.0.0.1:{proxy.port}/crawl/ws"
    with connect(address, subprotocols=subprotocols, ssl=proxy.tls, proxy=None):
        pass
    with asked(proxy.connection(), "GET", f"/firehose/sse?frames=1&ticket={ticket}", Authorization="") as events:
        assert events.status == 200
        events.read()
    while not all(path in proxy.said() for path in ("/crawl/ws", "/firehose/sse")):
        pass
    assert ticket not in proxy.said()
    assert TOKEN not in proxy.said()
