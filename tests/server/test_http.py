"""One connection, many requests: order, forms, refusals; against a real daemon."""

from __future__ import annotations

import json
import re

import pytest
from daemons import Closed, Daemon, Peer

GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def peer(daemon: Daemon):
    with daemon.connect() as connected:
        yield connected


def test_answers_pipelined_requests_in_their_order(peer: Peer) -> None:
    paths = ["/livez", "/readyz", "/nothing", "/healthz"] * 30
    peer.send(b"".join(peer.request("GET", path, X_Request_ID=str(at)) for at, path in enumerate(paths)))
    answers = [peer.read() for _ in paths]
    assert [answer.headers["x-request-id"] for answer in answers] == [str(at) for at in range(len(paths))]
    assert [answer.status for answer in answers] == [200, 200, 404, 200] * 30


def test_ten_thousand_requests_on_one_connection(peer: Peer) -> None:
    for _ in range(100):
        peer.send(GET * 100)
        assert all(peer.read().status == 200 for _ in range(100))


@pytest.mark.long
def test_ten_thousand_requests_on_each_of_a_hundred_connections(daemon: Daemon) -> None:
    peers = [daemon.connect() for _ in range(100)]
    before = daemon.memory()
    for _ in range(100):
        for peer in peers:
            peer.send(GET * 100)
        for peer in peers:
            assert all(peer.read().status == 200 for _ in range(100))
    for peer in peers:
        peer.sock.close()
    assert daemon.memory() - before < 16 << 20


def test_streams_take_their_turn_among_pipelined_requests(peer: Peer) -> None:
    firehose = peer.request("GET", "/firehose/stream?frames=50")
    peer.send(firehose + GET + firehose + GET)
    for _ in range(2):
        assert [frame["seq"] for frame in peer.read().frames] == list(range(1, 53))
        assert peer.read().body == b'{"status":"alive"}'


def test_a_request_cut_at_every_byte_is_answered_the_same(daemon: Daemon) -> None:
    body = {"urls": ["nonsense"]}
    with daemon.connect() as peer:
        request = peer.request("POST", "/crawl/stream", body)
        for cut in range(1, len(request), 7):
            peer.send(request[:cut])
            peer.send(request[cut:])
            frames = peer.read().frames
            assert [frame["type"] for frame in frames] == ["metadata", "result", "summary"]
            assert frames[1]["result"]["error"]["type"] == "invalid_url"


def test_a_chunked_body_is_read_like_a_sized_one(peer: Peer) -> None:
    text = json.dumps({"urls": ["nonsense", "other"]}).encode()
    chunks = b"".join(b"%x;note=1\r\n%b\r\n" % (len(part), part) for part in (text[:5], text[5:6], text[6:]))
    head = b"POST /crawl/stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    peer.send(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\nX-Trailer: a\r\n\r\n")
    assert peer.read().frames[-1]["failed"] == 2
    assert peer.ask("GET", "/livez").status == 200


class TestContinue:
    HEAD = (
        b"POST /crawl/stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
    )

    def test_asks_for_the_body_and_answers(self, peer: Peer) -> None:
        peer.send(self.HEAD + b"Content-Length: 14\r\n\r\n")
        assert peer.read().status == 100
        peer.send(b'{"urls":["x"]}')
        assert peer.read().frames[-1]["status"] == "completed"

    def test_is_not_said_when_the_body_is_there_already(self, peer: Peer) -> None:
        peer.send(self.HEAD + b'Content-Length: 14\r\n\r\n{"urls":["x"]}')
        assert peer.read().status == 200

    @pytest.mark.parametrize(
        ("change", "status"),
        [
            (lambda head: head + b"Content-Length: 1048577\r\n\r\n", 413),
            (lambda head: head.replace(b"/crawl/stream", b"/nothing") + b"Content-Length: 14\r\n\r\n", 404),
            (lambda head: head.replace(b"POST", b"PUT") + b"Content-Length: 14\r\n\r\n", 405),
            (lambda head: head.replace(b"localhost", b"evil.test") + b"Content-Length: 14\r\n\r\n", 421),
            (lambda head: head + b"Origin: http://evil.test\r\nContent-Length: 14\r\n\r\n", 403),
        ],
    )
    def test_a_refusal_comes_instead_of_it(self, peer: Peer, change, status: int) -> None:
        peer.send(change(self.HEAD))
        assert peer.read().status == status
        assert peer.closed()


class TestHead:
    @pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/metrics"])
    def test_is_get_without_the_body(self, peer: Peer, path: str) -> None:
        head = peer.ask("HEAD", path)
        assert head.status == 200
        assert int(head.headers["content-length"]) > 0
        assert peer.ask("GET", "/livez").body == b'{"status":"alive"}'  # no body stood before it

    def test_starts_no_stream(self, daemon: Daemon, peer: Peer) -> None:
        before = daemon.metric('fastmesh_streaming_connections_total{protocol="ndjson"}')
        assert peer.ask("HEAD", "/firehose/stream?frames=5").headers["content-type"] == "application/x-ndjson"
        assert peer.ask("GET", "/livez").status == 200
        assert daemon.metric('fastmesh_streaming_connections_total{protocol="ndjson"}') == before

    def test_where_get_is_not_is_refused(self, peer: Peer) -> None:
        assert peer.ask("HEAD", "/crawl/stream").headers["allow"] == "POST"


class TestHttp10:
    def test_a_stream_is_bare_and_ends_with_the_connection(self, peer: Peer) -> None:
        peer.send(b"GET /firehose/stream?frames=3 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        head = peer.head()
        assert "transfer-encoding" not in head.headers
        assert head.headers["connection"] == "close"
        assert [json.loads(line)["seq"] for line in peer.rest().splitlines()] == [1, 2, 3, 4, 5]

    def test_keeps_the_connection_only_when_asked(self, peer: Peer) -> None:
        peer.send(b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert peer.read().headers["connection"] == "keep-alive"
        peer.send(b"GET /livez HTTP/1.0\r\n\r\n")
        assert peer.read().headers["connection"] == "close"
        assert peer.closed()


def test_connection_close_is_answered_and_what_follows_is_not(peer: Peer) -> None:
    peer.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" + GET)
    assert peer.read().headers["connection"] == "close"
    assert peer.closed()


@pytest.mark.parametrize("offered", ["h2c", "TLS/1.0", "websocket", "h2c, websocket"])
def test_an_offer_of_another_protocol_is_answered_in_this_one(peer: Peer, offered: str) -> None:
    """And nothing behind it is read: to some it would be of the other protocol (RFC 9110, section 7.8)."""
    peer.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\n")
    peer.send(b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nUpgrade: " + offered.encode() + b"\r\n\r\n" + GET * 3)
    answer = peer.read()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert peer.closed()


def test_a_client_that_ends_its_side_gets_its_answers(peer: Peer) -> None:
    peer.send(GET * 3)
    peer.sock.shutdown(1)
    assert [peer.read().status for _ in range(3)] == [200] * 3
    assert peer.closed()


class TestRefusals:
    @pytest.mark.parametrize(
        ("request_bytes", "status", "type_"),
        [
            (b"nonsense\r\n\r\n", 400, "bad_request"),
            (b"GET /livez HTTP/1.1\r\n\r\n", 400, "bad_request"),
            (b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "bad_request"),
            (b"GET /livez HTTP/2.0\r\nHost: localhost\r\n\r\n", 400, "bad_request"),
            (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
             400, "bad_request"),
            (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 65_536 + b"\r\n\r\n", 431, "header_too_large"),
            (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X-%d: a\r\n" % at for at in range(101)) + b"\r\n",
             431, "header_too_large"),
        ],
    )  # fmt: skip
    def test_what_is_not_http_closes(self, peer: Peer, request_bytes: bytes, status: int, type_: str) -> None:
        peer.send(request_bytes)
        answer = peer.read()
        assert (answer.status, answer.json["error"]["type"]) == (status, type_)
        assert answer.json["error"]["request_id"] == answer.headers["x-request-id"]
        assert peer.closed()

    def test_a_fault_does_not_touch_the_requests_before_it(self, peer: Peer) -> None:
        peer.send(GET + GET + b"bad\r\n\r\n" + GET)
        assert [peer.read().status for _ in range(3)] == [200, 200, 400]
        assert peer.closed()

    def test_a_large_body_is_refused_whole_and_the_answer_arrives(self, peer: Peer) -> None:
        peer.send(peer.request("POST", "/crawl/stream", b"x" * 1_048_577)[:300_000])
        answer = peer.read()
        assert (answer.status, answer.json["error"]["type"]) == (413, "payload_too_large")
        assert peer.closed()

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/nothing", 404),
            ("GET", "/crawl/stream", 405),
            ("DELETE", "/healthz", 405),
            ("OPTIONS", "/", 404),
            *((method, "/livez", 405) for method in ("CONNECT", "TRACE", "QUERY", "SOURCE", "PROPFIND")),
        ],
    )
    def test_an_unknown_path_or_method_keeps_the_connection(
        self, peer: Peer, method: str, path: str, status: int
    ) -> None:
        answer = peer.ask(method, path)
        assert answer.status == status
        assert answer.json["error"]["status"] == status
        assert ("allow" in answer.headers) == (status == 405)
        assert peer.ask("GET", "/livez").status == 200

    @pytest.mark.parametrize(
        "content_type", ["text/plain", "application/json; charset=latin-1", "application/jsonp", ""]
    )
    def test_another_content_type_is_415(self, peer: Peer, content_type: str) -> None:
        answer = peer.ask("POST", "/crawl/stream", {"urls": ["x"]}, Content_Type=content_type)
        assert (answer.status, answer.json["error"]["type"]) == (415, "unsupported_media_type")
        assert peer.ask("GET", "/livez").status == 200

    def test_the_order_is_host_then_origin_then_path_then_method(self, peer: Peer) -> None:
        evil = {"Origin": "http://evil.test"}
        assert peer.ask("PUT", "/nothing", Host="evil.test", **evil).status == 421
        assert peer.ask("PUT", "/nothing", **evil).status == 403
        assert peer.ask("PUT", "/nothing").status == 404
        assert peer.ask("PUT", "/crawl/stream", b"{", Content_Type="text/plain").status == 405
        assert peer.ask("POST", "/crawl/stream", b"{", Content_Type="text/plain").status == 415
        assert peer.ask("POST", "/crawl/stream", b"{").status == 400


class TestWhoMayAsk:
    @pytest.mark.parametrize("path", ["/healthz", "/metrics", "/crawl/stream", "/nothing"])
    @pytest.mark.parametrize("host", ["evil.test", "127.0.0.1.evil.test", "0.0.0.0", "[::]", "192.0.2.1"])
    def test_a_foreign_host_is_421_on_every_route(self, peer: Peer, path: str, host: str) -> None:
        assert peer.ask("GET", path, Host=host).status == 421

    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:99", "[::1]", "[::1]:8080"])
    def test_loopback_names_are_served_whatever_the_port(self, peer: Peer, host: str) -> None:
        assert peer.ask("GET", "/healthz", Host=host).status == 200

    @pytest.mark.parametrize(
        "origin", ["http://evil.test", "null", "http://localhost:1", "", "file://", "http://[", "http://localhost/x"]
    )
    def test_a_foreign_origin_reads_only_health(self, peer: Peer, origin: str) -> None:
        assert peer.ask("GET", "/metrics", Host="localhost:80", Origin=origin).status == 403
        assert peer.ask("POST", "/crawl/stream", {"urls": ["x"]}, Host="localhost:80", Origin=origin).status == 403
        assert peer.ask("GET", "/healthz", Host="localhost:80", Origin=origin).status == 200

    def test_its_own_origin_may_ask(self, peer: Peer) -> None:
        assert peer.ask("GET", "/metrics", Host="localhost:80", Origin="http://localhost:80").status == 200

    def test_a_cross_site_page_without_an_origin_may_not(self, peer: Peer) -> None:
        assert peer.ask("GET", "/metrics", Sec_Fetch_Site="cross-site").status == 403
        assert peer.ask("GET", "/metrics", Sec_Fetch_Site="same-origin").status == 200

    def test_forwarded_headers_change_nothing(self, peer: Peer) -> None:
        assert peer.ask("GET", "/healthz", X_Forwarded_Host="evil.test", Forwarded="host=evil.test").status == 200


class TestRequestId:
    def test_the_clients_own_is_echoed_and_told_in_the_metadata(self, peer: Peer) -> None:
        answer = peer.ask("POST", "/crawl/stream", {"urls": ["x"]}, X_Request_ID="a.B-9_z")
        assert answer.headers["x-request-id"] == "a.B-9_z" == answer.frames[0]["request_id"]

    @pytest.mark.parametrize("given", ["", "a b", "a" * 129, "é", "a;b"])
    def test_any_other_is_replaced(self, peer: Peer, given: str) -> None:
        new = peer.ask("GET", "/livez", X_Request_ID=given.encode().decode("latin-1")).headers["x-request-id"]
        assert re.fullmatch("[0-9a-f]{32}", new)


def test_every_answer_carries_the_safe_headers(peer: Peer) -> None:
    for answer in (
        peer.ask("GET", "/healthz"),
        peer.ask("GET", "/nothing"),
        peer.ask("GET", "/firehose/stream?frames=1"),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "no-store" in answer.headers["cache-control"]
        assert not any(name.startswith("access-control-") for name in answer.headers)
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", answer.headers["date"])


def test_a_stream_carries_its_own(peer: Peer) -> None:
    answer = peer.ask("GET", "/api/v1/firehose/stream?frames=1")
    assert answer.headers["cache-control"] == "no-store, no-transform"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["x-stream-id"] == answer.frames[0]["stream_id"]
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x02\x00\x01\x00", b"\x00" * 100, b"SSH-2.0-x\r\n", b"\xff" * 9])
def test_other_protocols_are_told_400(peer: Peer, garbage: bytes) -> None:
    peer.send(garbage + b"\r\n\r\n")
    assert peer.read().status == 400
    with pytest.raises(Closed):
        peer.more()
