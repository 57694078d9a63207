"""Who may ask what, on every route and protocol: a table made from the route table itself."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemons import Daemon, Peer, Response
from origins import Origin
from sockets import WebSocket, handshake

from fastmesh.api.access.tokens import line_of, new_token
from fastmesh.api.calls import Route
from fastmesh.api.router import PREFIX
from fastmesh.config import load
from fastmesh.server.daemon import Daemon as InThisProcess

PAGE = "https://page.test"
UNKNOWN = "00000-" + "0" * 32
ALICE, BOB, STRANGER = new_token(), new_token(), new_token()
HEALTH = {"/healthz", "/livez", "/readyz"}


async def _table() -> list[Route]:
    daemon = InThisProcess(load({}, environ={}).values)
    try:
        return daemon._shared.router.routes
    finally:
        await daemon.close()


ROUTES = asyncio.run(_table())
# Every method of every route, both ways that it is reached, and paths and methods that are none.
ASKED = [
    (method, prefix + route.name.replace("{id}", UNKNOWN), route.name)
    for route in ROUTES
    for method in ([route.method, "HEAD"] if route.method == "GET" else [route.method])
    for prefix in ("", PREFIX)
] + [("GET", "/nothing", "none"), ("GET", f"{PREFIX}/streams/", "none"), ("PATCH", "/streams", "none")]
GUARDED = [row for row in ASKED if row[2] not in HEALTH]
each_guarded = pytest.mark.parametrize(("method", "path", "name"), GUARDED)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    path: Path = tmp_path_factory.mktemp("access") / "tokens"
    path.write_text(f"{line_of(ALICE, 'alice')}\n{BOB} bob\n")
    with Daemon(
        AUTH__TOKENS_FILE=path,
        CORS__ALLOW_ORIGINS=PAGE,
        FETCH__ALLOW_NETWORKS="127.0.0.0/8",
        FIREHOSE__ENABLED="true",
        LOG__LEVEL="debug",
    ) as running:
        yield running
        said = running.stderr()
        for secret in (ALICE, BOB, STRANGER, *SHOWN_TICKETS):
            assert secret not in said


SHOWN_TICKETS: list[str] = []


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def ticket(daemon: Daemon, token: str = ALICE) -> str:
    answer = daemon.ask("POST", "/tickets", **bearer(token))
    assert (answer.status, answer.json["expires_in_s"]) == (201, 30), answer
    SHOWN_TICKETS.append(answer.json["ticket"])
    return SHOWN_TICKETS[-1]


def asked(daemon: Daemon, method: str, path: str, body: object = None, **headers: str) -> Response:
    with daemon.connect() as peer:
        fields = {"Content_Type": "application/json"} if body is None and method == "POST" else {}
        return peer.ask(method, path, body, **fields, X_Request_ID="the-id", **headers)


def told(response: Response) -> tuple[int, dict[str, str], bytes]:
    """All that an answer says, but for the moment."""
    return response.status, {k: v for k, v in response.headers.items() if k != "date"}, response.body


# What is shown in place of a token of this daemon.  A query is added to the path.
SHOWN: dict[str, tuple[str, dict[str, str]]] = {
    "nothing": ("", {}),
    "a foreign token": ("", bearer(STRANGER)),
    "half a token": ("", bearer(ALICE[:-1])),
    "two tokens": ("", {"Authorization": f"Bearer {ALICE}, Bearer {BOB}"}),
    "no token": ("", {"Authorization": "Bearer "}),
    "its hash": ("", bearer(line_of(ALICE, None))),
    "another scheme": ("", {"Authorization": f"Basic {ALICE}"}),
    "a token in the query": (f"?token={ALICE}&access_token={ALICE}", {}),
    "a cookie": ("", {"Cookie": f"token={ALICE}"}),
    "no ticket": (f"?ticket={STRANGER}", {}),
    "an empty ticket": ("?ticket=", {}),
    "a token for a ticket": (f"?ticket={ALICE}", {}),
    "a foreign subprotocol": ("", {"Sec-WebSocket-Protocol": f"fastmesh.v1, fastmesh.token.{STRANGER}"}),
    "two subprotocols": ("", {"Sec-WebSocket-Protocol": f"fastmesh.token.{ALICE}, fastmesh.token.{BOB}"}),
}


@each_guarded
@pytest.mark.parametrize("shown", SHOWN)
def test_without_a_token_every_route_is_like_none(
    daemon: Daemon, method: str, path: str, name: str, shown: str
) -> None:
    query, headers = SHOWN[shown]
    body = {"urls": ["http://127.0.0.1:1/"]} if method == "POST" else None
    answer = asked(daemon, method, path + query, body, **headers)
    nothing = asked(daemon, "HEAD" if method == "HEAD" else "GET", "/nothing")
    assert told(answer) == told(nothing)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="fastmesh"'
    if method != "HEAD":
        assert answer.json["error"]["type"] == "unauthorized"


@each_guarded
def test_a_body_is_not_waited_for(daemon: Daemon, method: str, path: str, name: str) -> None:
    with daemon.connect() as peer:
        head = {"Content_Length": "10", "Content_Type": "application/json", "Expect": "100-continue"}
        peer.send(peer.request(method, path, **head))
        assert peer.read(head_only=method == "HEAD").status == 401


@pytest.mark.parametrize(("method", "path", "name"), ASKED)
def test_with_a_token_a_route_is_reached(daemon: Daemon, method: str, path: str, name: str) -> None:
    answer = asked(daemon, method, path, **bearer(ALICE))
    assert answer.status not in (401, 403, 421)
    assert asked(daemon, method, path, Host="any.test", **bearer(ALICE)).status == answer.status
    if name in HEALTH:
        assert asked(daemon, method, path).status == answer.status
        assert asked(daemon, method, path, **bearer(STRANGER)).status == answer.status


@each_guarded
@pytest.mark.parametrize("origin", ["https://evil.test", "null", "https://page.test.evil.test"])
def test_a_page_of_another_origin_is_refused_whatever_token_it_has(
    daemon: Daemon, method: str, path: str, name: str, origin: str
) -> None:
    for headers in ({}, bearer(ALICE), bearer(STRANGER)):
        answer = asked(daemon, method, path, Origin=origin, **headers)
        assert answer.status == 403
        assert "access-control-allow-origin" not in answer.headers
    assert asked(daemon, method, path, Origin=PAGE).status == 401


@each_guarded
def test_a_preflight_needs_no_token_and_learns_nothing(daemon: Daemon, method: str, path: str, name: str) -> None:
    preflight = {"Origin": PAGE, "Access-Control-Request-Method": method}
    answer = asked(daemon, "OPTIONS", path, **preflight)
    assert told(answer) == told(asked(daemon, "OPTIONS", "/nothing", **preflight))
    assert answer.status == 204
    assert "Authorization" in answer.headers["access-control-allow-headers"].split(", ")
    assert asked(daemon, "OPTIONS", path, **preflight | {"Origin": "https://evil.test"}).status == 403


@pytest.fixture(scope="module")
def picky(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    path: Path = tmp_path_factory.mktemp("picky") / "tokens"
    path.write_text(line_of(ALICE, None))
    with Daemon(AUTH__TOKENS_FILE=path, SERVER__ALLOWED_HOSTS="crawl.test") as running:
        yield running


@pytest.mark.parametrize(("method", "path", "name"), ASKED)
def test_a_host_that_is_not_served_is_told_first(picky: Daemon, method: str, path: str, name: str) -> None:
    for headers in ({}, bearer(ALICE), bearer(STRANGER), {"Origin": "https://evil.test"}):
        assert asked(picky, method, path, Host="evil.test", **headers).status == 421
    assert asked(picky, method, path, Host="crawl.test").status == (200 if name in HEALTH else 401)


# ── owners ───────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def secret(daemon: Daemon) -> Iterator[str]:
    """A stream of Alice's that runs."""
    with daemon.connect() as peer:
        peer.send(peer.request("GET", "/firehose/stream?frames=1000&rate=0.1", **bearer(ALICE)))
        yield peer.head().headers["x-stream-id"]


def without(stream_id: str, response: Response) -> tuple[int, dict[str, str], bytes]:
    status, headers, body = told(response)
    return status, headers, body.replace(stream_id.encode(), b"ID")


OF_A_STREAM = [(method, path, name) for method, path, name in ASKED if "{id}" in name]


@pytest.mark.parametrize(("method", "path", "name"), OF_A_STREAM)
def test_a_stream_of_another_client_is_like_none(
    daemon: Daemon, secret: str, method: str, path: str, name: str
) -> None:
    theirs = asked(daemon, method, path.replace(UNKNOWN, secret), **bearer(BOB))
    none = asked(daemon, method, path, **bearer(BOB))
    assert without(secret, theirs) == without(UNKNOWN, none)
    assert theirs.status == 404
    if method != "DELETE":
        assert asked(daemon, "GET", f"/streams/{secret}", **bearer(ALICE)).status == 200


STREAMING = [(method, path, name) for method, path, name in ASKED if name != "none" and method != "DELETE"]


@pytest.mark.parametrize(("method", "path", "name"), STREAMING)
def test_a_last_event_id_of_another_client_is_like_none(
    daemon: Daemon, secret: str, method: str, path: str, name: str
) -> None:
    path = path.replace(UNKNOWN, secret)
    body = {"urls": ["x"]} if method == "POST" else None
    theirs = asked(daemon, method, path, body, Last_Event_ID=f"{secret}:1", **bearer(BOB))
    none = asked(daemon, method, path, body, Last_Event_ID=f"{UNKNOWN}:1", **bearer(BOB))
    assert theirs.headers.get("x-stream-id") != secret
    assert theirs.status == none.status
    if theirs.status >= 400:
        assert without(secret, theirs) == without(UNKNOWN, none)


def test_the_list_has_ones_own_streams(daemon: Daemon, secret: str) -> None:
    def listed(token: str) -> list[str]:
        return [stream["stream_id"] for stream in daemon.ask("GET", "/streams", **bearer(token)).json["streams"]]

    assert secret in listed(ALICE)
    assert secret not in listed(BOB)


def test_a_key_is_a_clients_own(daemon: Daemon) -> None:
    body, key = {"urls": ["nonsense"]}, {"Idempotency_Key": "the-key"}
    first = daemon.ask("POST", "/streams", body, **key, **bearer(ALICE))
    again = daemon.ask("POST", "/streams", body, **key, **bearer(ALICE))
    other = daemon.ask("POST", "/streams", body, **key, **bearer(BOB))
    assert (first.status, again.status, other.status) == (201, 200, 201)
    assert first.json["stream_id"] == again.json["stream_id"] != other.json["stream_id"]


def test_on_a_websocket_a_stream_of_another_client_is_like_none(daemon: Daemon, secret: str) -> None:
    with WebSocket(daemon, **bearer(BOB)) as socket:
        operations = [name for name in socket.welcome["operations"] if name not in ("crawl", "ping", "status")]
        assert {"subscribe", "cancel", "hold"} <= set(operations)
        for name in operations:
            theirs, none = (socket.ask(name, stream_id=stream_id) for stream_id in (secret, UNKNOWN))
            assert theirs["error"] == none["error"]
            assert theirs["error"]["type"] == "not_found"
        assert socket.ask("status")["streams"] == []
    with WebSocket(daemon, **bearer(ALICE)) as socket:
        assert socket.ask("subscribe", stream_id=secret)["type"] == "ack"


# ── browsers ─────────────────────────────────────────────────────────────────────────────

SOCKETS = ["/crawl/ws", f"{PREFIX}/crawl/ws", "/firehose/ws?frames=1"]


def with_ticket(path: str, text: str) -> str:
    return f"{path}{'&' if '?' in path else '?'}ticket={text}"


def test_the_sockets_and_the_event_streams_are_those_that_take_tickets() -> None:
    names = {route.name for route in ROUTES if route.method == "GET" and re.search("sse|ws|events", route.name)}
    assert {route.name for route in ROUTES if route.ticket} == names
    assert {route.name for route in ROUTES if route.socket} == {name for name in names if "ws" in name}


@pytest.mark.parametrize("path", SOCKETS)
def test_a_websocket_opens_with_a_subprotocol(daemon: Daemon, path: str) -> None:
    with WebSocket(daemon, path, Sec_WebSocket_Protocol=f"fastmesh.v1, fastmesh.token.{ALICE}") as socket:
        assert socket.response.headers["sec-websocket-protocol"] == "fastmesh.v1"
        assert ALICE not in str(socket.response)


@pytest.mark.parametrize("path", SOCKETS)
def test_a_websocket_opens_with_a_ticket_once(daemon: Daemon, path: str) -> None:
    path = with_ticket(path, ticket(daemon))
    with WebSocket(daemon, path) as socket:
        assert socket.welcome["type"] == "welcome"
    with daemon.connect() as peer:
        peer.send(handshake(peer, path))
        assert peer.read().status == 401


@pytest.mark.parametrize("shown", SHOWN)
@pytest.mark.parametrize("path", SOCKETS)
def test_no_websocket_opens_without(daemon: Daemon, path: str, shown: str) -> None:
    query, headers = SHOWN[shown]
    with daemon.connect() as peer:
        peer.send(handshake(peer, path + query.replace("?", "&" if "?" in path else "?"), **headers))
        assert peer.read().status == 401


def test_a_handshake_that_is_refused_costs_no_ticket(daemon: Daemon) -> None:
    path = with_ticket("/crawl/ws", ticket(daemon))
    assert daemon.ask("GET", path).status == 426
    WebSocket(daemon, path).peer.sock.close()


@pytest.mark.parametrize("path", ["/streams", "/metrics", "/firehose/stream", "/nothing", "/crawl/ws"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_ticket_is_no_token_elsewhere(daemon: Daemon, method: str, path: str) -> None:
    if (method, path) != ("GET", "/crawl/ws"):
        assert daemon.ask(method, with_ticket(path, ticket(daemon))).status == 401


class TestEventSource:
    """A browser repeats its URL; the second time with the last id that it has."""

    SLOW = "/firehose/sse?frames=1000&rate=0.1"

    def opened(self, daemon: Daemon, path: str, **headers: str) -> tuple[Peer, Response]:
        peer = daemon.connect()
        peer.send(peer.request("GET", path, **headers))
        return peer, peer.head()

    def test_reads_on_with_the_same_ticket(self, daemon: Daemon) -> None:
        path = with_ticket(self.SLOW, ticket(daemon))
        first, head = self.opened(daemon, path)
        assert head.status == 200
        stream_id = head.headers["x-stream-id"]
        first.sock.close()
        for headers in ({"Last_Event_ID": f"{stream_id}:1"}, {}):  # with its first event, or before it
            again, head = self.opened(daemon, path, **headers)
            assert (head.status, head.headers.get("x-stream-id")) == (200, stream_id)
            again.sock.close()

    def test_a_used_ticket_opens_and_reads_nothing_else(self, daemon: Daemon, secret: str) -> None:
        used = ticket(daemon)
        peer, head = self.opened(daemon, with_ticket(self.SLOW, used))
        own = head.headers["x-stream-id"]
        streams = len(daemon.ask("GET", "/streams", **bearer(ALICE)).json["streams"])

        def refused(path: str, **headers: str) -> int:
            return daemon.ask("GET", with_ticket(path, used), **headers).status

        assert refused("/firehose/sse?frames=5") == 409
        assert refused("/crawl/sse?url=x") == 409
        assert refused("/crawl/ws") == 401
        assert refused(f"/streams/{secret}/events") == 404
        assert refused(self.SLOW, Last_Event_ID=f"{secret}:1") == 404
        assert len(daemon.ask("GET", "/streams", **bearer(ALICE)).json["streams"]) == streams
        reader, head = self.opened(daemon, with_ticket(f"/streams/{own}/events", used), Accept="text/event-stream")
        assert head.status == 200
        reader.sock.close()
        peer.sock.close()

    def test_a_stream_that_is_there_is_read_with_a_ticket(self, daemon: Daemon, secret: str) -> None:
        path = f"/streams/{secret}/events"
        assert daemon.ask("GET", with_ticket(path, ticket(daemon, BOB))).status == 404
        peer, head = self.opened(daemon, with_ticket(path, ticket(daemon)) + "&after=0")
        assert head.headers["x-stream-id"] == secret
        peer.sock.close()

    def test_a_crawl_with_a_key(self, daemon: Daemon, origin: Origin) -> None:
        origin.page("/access", "<title>Access</title>")
        path = with_ticket(f"/crawl/sse?url={origin.url('/access')}&key=k1", ticket(daemon))
        answer = daemon.ask("GET", path)
        assert answer.status == 200
        assert b"<title>" not in answer.body
        stream_id = answer.headers["x-stream-id"]
        last = int(re.findall(rf"id: {stream_id}:(\d+)\n", answer.body.decode())[-1])
        assert daemon.ask("GET", path, Last_Event_ID=f"{stream_id}:{last}").status == 204

    def test_a_ticket_and_a_key_that_is_known(self, daemon: Daemon) -> None:
        path = f"/crawl/sse?url=nonsense&key={new_token()}"
        first = daemon.ask("GET", path, **bearer(ALICE))
        path = with_ticket(path, ticket(daemon))
        for _ in range(2):
            again = daemon.ask("GET", path)
            assert (again.status, again.headers["x-stream-id"]) == (200, first.headers["x-stream-id"])

    def test_a_request_that_is_refused_costs_no_ticket(self, daemon: Daemon) -> None:
        text = ticket(daemon)
        assert daemon.ask("GET", with_ticket("/firehose/sse?frames=0", text)).status == 400
        assert daemon.ask("GET", with_ticket("/firehose/sse?frames=1", text)).status == 200

    def test_head_starts_nothing_and_costs_no_ticket(self, daemon: Daemon) -> None:
        path = with_ticket("/firehose/sse?frames=1", ticket(daemon))
        assert daemon.ask("HEAD", path).status == 401
        assert daemon.ask("GET", path).status == 200

    def test_token_and_ticket_are_not_both_shown(self, daemon: Daemon) -> None:
        path = with_ticket("/firehose/sse?frames=1", ticket(daemon))
        answer = daemon.ask("GET", path, **bearer(ALICE))
        assert (answer.status, answer.json["error"]["field"]) == (400, "ticket")
        assert daemon.ask("GET", path, **bearer(STRANGER)).status == 401


def test_tickets_are_bounded_and_take_no_body(daemon: Daemon) -> None:
    assert daemon.ask("POST", "/tickets", {"for": "ever"}, **bearer(BOB)).json["error"]["field"] == "for"
    assert daemon.ask("POST", "/tickets", {}, **bearer(BOB)).status == 201
    answers = [daemon.ask("POST", "/tickets", **bearer(BOB)) for _ in range(101)]
    last = answers[-1]
    assert last.json["error"]["type"] == "rate_limited"
    assert 1 <= int(last.headers["retry-after"]) <= 31
    assert daemon.ask("POST", "/tickets", **bearer(ALICE)).status == 201


# ── limits ───────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(f"{line_of(ALICE, 'alice')}\n{line_of(BOB, 'bob')}\n")
    return path


OPENERS: list[tuple[str, str, Any]] = [
    ("POST", "/crawl/stream", {"urls": ["x"]}),
    ("POST", "/crawl/sse", {"urls": ["x"]}),
    ("GET", "/crawl/sse?url=x", None),
    ("POST", "/crawl", {"urls": ["x"]}),
    ("POST", "/streams", {"urls": ["x"]}),
    ("POST", "/deepsearch/stream", {"query": "q"}),
    ("GET", "/firehose/stream?frames=1", None),
    ("GET", "/firehose/sse?frames=1", None),
]


def test_every_way_to_open_a_stream_has_the_rate(tokens: Path, tmp_path: Path) -> None:
    (tmp_path / "found.json").write_text(json.dumps({"q": ["x"]}))
    limits = {"STREAM__RATE_LIMIT_RPS": 0.001, "STREAM__RATE_LIMIT_BURST": 2}
    search = {"SEARCH__PROVIDER": "static", "SEARCH__STATIC_FILE": tmp_path / "found.json"}
    with Daemon(AUTH__TOKENS_FILE=tokens, FIREHOSE__ENABLED="true", **limits, **search) as daemon:
        for _ in range(2):
            assert daemon.ask("POST", "/crawl/stream", {"urls": ["x"]}, **bearer(ALICE)).status == 200
        for method, path, body in OPENERS:
            answer = daemon.ask(method, path, body, **bearer(ALICE))
            assert (answer.status, answer.json["error"]["type"]) == (429, "rate_limited"), path
            assert 900 < int(answer.headers["retry-after"]) <= 1000
        with WebSocket(daemon, **bearer(ALICE)) as socket:
            error = socket.ask("crawl", urls=["x"])["error"]
            assert error["type"] == "rate_limited"
            assert 900 < error["retry_after_s"] <= 1000
        with daemon.connect() as peer:
            peer.send(handshake(peer, "/firehose/ws?frames=1", **bearer(ALICE)))
            assert peer.read().status == 429
        opening = {route.name for route in ROUTES if re.search("crawl|deepsearch|firehose", route.name)}
        assert {path.partition("?")[0] for _, path, _ in OPENERS} - {"/streams"} | {
            "/crawl/ws",
            "/firehose/ws",
        } == opening
        assert daemon.ask("POST", "/crawl/stream", {"urls": ["x"]}, **bearer(BOB)).status == 200


def test_a_client_is_its_token_even_on_loopback(tokens: Path) -> None:
    with Daemon(AUTH__TOKENS_FILE=tokens, STREAM__MAX_PER_CLIENT=1) as daemon:
        body = {"urls": ["x"], "stream": {}}
        assert daemon.ask("POST", "/streams", body, **bearer(ALICE)).status == 201
        assert daemon.ask("POST", "/streams", body, **bearer(ALICE)).status == 429
        assert daemon.ask("POST", "/streams", body, **bearer(BOB)).status == 201


def test_without_tokens_loopback_has_no_rate() -> None:
    with Daemon(STREAM__RATE_LIMIT_RPS=0.001, STREAM__RATE_LIMIT_BURST=1) as daemon:
        for _ in range(3):
            daemon.crawl("x")
        assert daemon.ask("POST", "/tickets").status == 404


# ── starting ─────────────────────────────────────────────────────────────────────────────


def test_with_tokens_a_public_address_may_be_bound(tokens: Path) -> None:
    with Daemon("--host", "0.0.0.0", AUTH__TOKENS_FILE=tokens) as daemon, daemon.connect() as peer:
        assert peer.ask("GET", "/streams", Host="any.test").status == 401
        assert peer.ask("GET", "/streams", Host="any.test", **bearer(ALICE)).status == 200
    with pytest.raises(RuntimeError, match="AUTH__TOKENS_FILE"):
        Daemon("--host", "0.0.0.0")


def test_a_tokens_file_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    with pytest.raises(RuntimeError, match=r"AUTH__TOKENS_FILE=.* cannot be read: No such file"):
        Daemon(AUTH__TOKENS_FILE=path)
    path.write_text("hunter2\n")
    with pytest.raises(RuntimeError, match=r"line 1: a token of under 32 characters can be guessed") as error:
        Daemon(AUTH__TOKENS_FILE=path)
    assert "hunter2" not in str(error.value)


def test_a_unix_socket_wants_tokens_too(tokens: Path, tmp_path: Path) -> None:
    with Daemon(AUTH__TOKENS_FILE=tokens, SERVER__UDS=tmp_path / "s") as daemon:
        assert daemon.ask("GET", "/streams").status == 401
        assert daemon.ask("GET", "/streams", **bearer(ALICE)).status == 200
        assert daemon.ask("GET", "/livez").status == 200
