"""What a client's bytes may do to others, and to what it is sent itself: nothing."""

from __future__ import annotations

import select
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import made
from daemons import PATIENCE_S, Daemon, Peer, own_address
from sockets import TEXT, WebSocket, frame

GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKED = (
    b"POST /crawl/stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
FOREVER = "/firehose/stream?frames=1000000000&rate=1"
SHORT = "/firehose/stream?frames=20&rate=40"  # half a second


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon(FIREHOSE__ENABLED="true", STREAM__RESUME_WINDOW_S=0) as running:
        yield running


# ── nobody waits for another's bytes ─────────────────────────────────────────────────────

CRUMBS = CHUNKED + b"1\r\n \r\n" * 170_000 + b"0\r\n\r\n"  # takes the parser half a second; 400, as it is no JSON
COMMANDS = 6000  # of 224 bytes: shorter ones would be crumbs, which are counted
FLOODS = {
    "chunks of one byte": (CRUMBS, b"HTTP/1.1 400", 1),
    "requests": (GET * 6000, b"HTTP/1.1 200", 6000),
    "heads of many fields": ((GET[:-2] + b"X:\r\n" * 90 + b"\r\n") * 2000, b"HTTP/1.1 200", 2000),
}


@pytest.mark.parametrize("name", FLOODS)
def test_an_ordinary_request_does_not_wait_for_what_another_sent(daemon: Daemon, name: str) -> None:
    """Told by the order of the answers and not by a clock: many small requests are answered before the flood is."""
    flood, sign, count = FLOODS[name]
    with daemon.connect() as hostile, daemon.connect() as other:
        sender = threading.Thread(target=hostile.send, args=(flood,))
        sender.start()
        hostile.sock.setblocking(False)
        answers = b""
        for _ in range(20):
            assert other.ask("GET", "/livez").status == 200
            answers += at_hand(hostile)
        assert answers.count(sign) < count
        hostile.sock.settimeout(PATIENCE_S)
        while answers.count(sign) < count:
            answers += hostile.sock.recv(1 << 20)
        sender.join()


def at_hand(peer: Peer) -> bytes:
    """What came and was not read."""
    data = b""
    while True:
        try:
            data += peer.sock.recv(1 << 20)
        except BlockingIOError:
            return data


def test_commands_of_one_websocket_hold_up_nobody(daemon: Daemon) -> None:
    with WebSocket(daemon) as hostile, daemon.connect() as other:
        flood = frame(TEXT, b'{"type":"ping","id":"x"}' + b" " * 200) * COMMANDS
        sender = threading.Thread(target=hostile.peer.send, args=(flood,))
        sender.start()
        hostile.peer.sock.setblocking(False)
        answers = b""
        for _ in range(20):
            assert other.ask("GET", "/livez").status == 200
            answers += at_hand(hostile.peer)
        assert answers.count(b'"pong"') < COMMANDS
        hostile.peer.sock.settimeout(PATIENCE_S)
        while answers.count(b'"pong"') < COMMANDS:
            answers += hostile.peer.sock.recv(1 << 20)
        sender.join()


# ── answers that nobody reads ────────────────────────────────────────────────────────────

PADDED = GET[:-2] + b"X: " + b"x" * 1000 + b"\r\n\r\n"


def test_a_client_that_asks_and_does_not_read_is_not_read_either(daemon: Daemon) -> None:
    """Its answers do not pile up: with them unread, the daemon takes no more of its requests than the kernel does."""
    most = 30_000  # 30 MB of them
    with daemon.connect(receive_buffer=4096) as peer:
        asked = asked_until_blocked(peer, most)
        assert asked < most
        assert all(peer.read().status == 200 for _ in range(asked))


def asked_until_blocked(peer: Peer, most: int) -> int:
    """Send PADDED until nothing more is taken for a second; return how many were sent whole."""
    block = PADDED * 20
    sent = 0
    peer.sock.setblocking(False)
    while sent < most * len(PADDED) and select.select([], [peer.sock], [], 1.0)[1]:
        sent += peer.sock.send(block[sent % len(block) :])
    peer.sock.setblocking(True)
    peer.sock.settimeout(PATIENCE_S)
    return sent // len(PADDED)


ANSWERED = 'fastmesh_http_requests_total{method="GET",route="/livez",status="200"}'
MANY, BURST = 50, 1000  # clients, and requests of each: over what is worked off at once, and whole in one read


def test_who_asks_and_is_gone_is_answered_once_and_never_again() -> None:
    with Daemon() as daemon:
        asked = daemon.metric(ANSWERED)
        daemon.process.send_signal(signal.SIGSTOP)  # so that all are gone before the first of them is accepted
        for _ in range(MANY):
            with daemon.connect() as peer:
                peer.send(GET * BURST)
        daemon.process.send_signal(signal.SIGCONT)
        while daemon.metric("fastmesh_server_connections") > 1:
            pass
        # The first answer is what a client that is gone resets; one that only sends no more takes it.
        assert MANY <= daemon.metric(ANSWERED) - asked <= 2 * MANY


def test_who_sends_no_more_and_reads_gets_all_answers(daemon: Daemon) -> None:
    with daemon.connect() as peer:
        daemon.process.send_signal(signal.SIGSTOP)
        peer.send(GET * BURST)
        peer.sock.shutdown(socket.SHUT_WR)
        daemon.process.send_signal(signal.SIGCONT)
        assert [peer.read().status for _ in range(BURST)] == [200] * BURST
        assert peer.closed()


# ── what comes behind a stream ───────────────────────────────────────────────────────────


@pytest.mark.parametrize("at_once", [True, False], ids=["in one segment", "in two"])
@pytest.mark.parametrize("garbage", [b"\x00\x01\x02\r\n\r\n", b"GET / HTTP/1.1\r\nX : y\r\n\r\n", CHUNKED + b"zz\r\n"])
def test_a_fault_behind_a_stream_is_told_behind_it(daemon: Daemon, garbage: bytes, at_once: bool) -> None:
    with daemon.connect() as peer:
        stream = peer.request("GET", SHORT)
        if at_once:
            peer.send(stream + GET + garbage)
        else:
            peer.send(stream)
            peer.send(GET + garbage)
        assert [f["seq"] for f in peer.read().frames] == list(
            range(1, 23)
        )  # every chunk was whole, and the end as well
        assert peer.read().status == 200
        assert peer.read().status == 400
        assert peer.closed()


def test_half_a_request_behind_a_stream_is_not_told_to_be_late_within_it() -> None:
    with Daemon(FIREHOSE__ENABLED="true", SERVER__HEADER_TIMEOUT_S=1) as daemon, daemon.connect() as peer:
        peer.send(peer.request("GET", "/firehose/stream?frames=20&rate=10") + b"GET /livez HT")  # two seconds
        assert len(peer.read().frames) == 22
        peer.send(b"TP/1.1\r\nHost: localhost\r\n\r\n")
        assert peer.read().status == 200


@pytest.mark.parametrize("at_once", [True, False], ids=["in one segment", "in two"])
def test_how_much_may_follow_a_stream_does_not_depend_on_where_it_is_cut(daemon: Daemon, at_once: bool) -> None:
    for size, fits in ((60, True), (70, False)):
        behind = (GET[:-2] + b"X: " + b"x" * (1024 - len(GET) - 5) + b"\r\n\r\n") * size
        assert len(behind) == size * 1024
        with daemon.connect() as peer:
            stream = peer.request("GET", SHORT if fits else FOREVER)
            daemon.process.send_signal(signal.SIGSTOP)  # so that one segment is one read
            try:
                peer.send(stream + (behind if at_once else b""))
            finally:
                daemon.process.send_signal(signal.SIGCONT)
            if not at_once:
                peer.head()
                peer.send(behind)
                if fits:
                    assert len(list(peer.frames())) == 22
            elif fits:
                assert len(peer.read().frames) == 22
            if fits:
                assert all(peer.read().status == 200 for _ in range(size))
            else:
                peer.rest()  # it is closed, with what was on its way


def test_what_follows_a_stream_that_ends_its_connection_is_thrown_away(daemon: Daemon) -> None:
    with daemon.connect() as peer:
        peer.send(peer.request("GET", SHORT, Connection="close") + GET * 1000)
        peer.send(GET * 3000)
        assert len(peer.read().frames) == 22
        assert peer.closed()


# ── ends ─────────────────────────────────────────────────────────────────────────────────


def test_a_close_does_not_take_back_what_was_answered(daemon: Daemon) -> None:
    """Much is on its way when the daemon closes: it is read and thrown away, or the kernel would reset.

    The answers stand in the daemon's kernel then, since the client has read nothing.
    """
    asked = 100
    with daemon.connect(receive_buffer=4096) as peer:
        last = peer.request("GET", "/openapi.json", Connection="close")
        flood = PADDED * (asked - 1) + last + PADDED * 3000
        sender = threading.Thread(target=send_what_is_taken, args=(peer, flood))
        sender.start()
        sender.join(3.0)  # all is taken, or the kernel's buffers are full of answers that are not read
        assert [peer.read().status for _ in range(asked - 1)] == [200] * (asked - 1)
        answer = peer.read()
        assert answer.status == 200
        assert answer.json["openapi"]
        assert peer.closed()
        sender.join()


def send_what_is_taken(peer: Peer, data: bytes) -> None:
    try:
        peer.send(data)
    except ConnectionError:
        pass  # the daemon closed, once its client's time was over


def test_a_bug_in_a_callback_is_no_fault_of_the_request() -> None:
    broken = Path(__file__).with_name("broken_callbacks.py")
    with Daemon(prefix=(sys.executable, str(broken))) as daemon, daemon.connect() as peer:
        assert peer.ask("GET", "/livez", X_Other="1").status == 200
        peer.send(GET + GET[:-2] + b"X-Break: 1\r\n\r\n" + GET)
        assert peer.read().status == 200
        answer = peer.read()
        assert (answer.status, answer.json["error"]["type"]) == (500, "internal_error")
        assert "secret" not in answer.body.decode()
        assert peer.closed()
        (line,) = daemon.logs("request.bug")
        assert "ZeroDivisionError: secret" in line["exception"]


@pytest.mark.parametrize(
    "head", [b"X : a", b" X: a", b"X", b"X: \x00", b"X\xe9: a", b"X: a\r\n b", b": a", b"X: \rY: a", b"SECRET\x01: a"]
)
def test_what_the_parser_says_is_not_repeated(daemon: Daemon, head: bytes) -> None:
    with daemon.connect() as peer:
        peer.send(GET[:-2] + head + b"\r\n\r\n")
        error = peer.read().json["error"]
        assert error["message"] == "the header fields are not as RFC 9112 has them"


# ── TLS ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_what_came_together_with_the_end_is_answered_over_tls(tmp_path: Path, version: ssl.TLSVersion) -> None:
    pair = made(tmp_path, "own")
    context = ssl.create_default_context(cafile=pair.cert)
    context.maximum_version = version
    with Daemon(cacert=pair.cert, **pair.settings) as secure:
        for count in (1, 20, 60):
            inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(inward, outward, server_hostname="127.0.0.1")
            with socket_to(secure) as sock:
                while True:
                    try:
                        tls.do_handshake()
                        break
                    except ssl.SSLWantReadError:
                        sock.sendall(outward.read())
                        inward.write(sock.recv(65_536))
                tls.write(GET * count)
                with pytest.raises(ssl.SSLWantReadError):
                    tls.unwrap()  # close_notify, in the same segment
                sock.sendall(outward.read())
                assert decrypted(sock, tls, inward).count(b"HTTP/1.1 200") == count


def socket_to(daemon: Daemon) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", daemon.port))
    sock.settimeout(PATIENCE_S)
    return sock


def decrypted(sock: socket.socket, tls: ssl.SSLObject, inward: ssl.MemoryBIO) -> bytes:
    data = b""
    while received := sock.recv(65_536):
        inward.write(received)
        try:
            while part := tls.read(65_536):
                data += part
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            break
    return data


# ── who it says it comes from ────────────────────────────────────────────────────────────

FORWARDED = {
    "Forwarded": 'for=192.0.2.7;host=evil.test;proto=https;by="[2001:db8::1]"',
    "X-Forwarded-For": "192.0.2.7, 127.0.0.1",
    "X-Forwarded-Host": "evil.test",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Port": "443",
    "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-Server": "evil.test",
    "X-Real-IP": "192.0.2.7",
    "X-Client-IP": "192.0.2.7",
    "True-Client-IP": "192.0.2.7",
    "CF-Connecting-IP": "192.0.2.7",
    "Via": "1.1 evil.test",
    "X-Original-URL": "/metrics",
    "X-Rewrite-URL": "/metrics",
    "X-HTTP-Method-Override": "DELETE",
    "X-Original-Host": "evil.test",
}


def test_forwarded_fields_change_neither_path_nor_method_nor_host_nor_origin(daemon: Daemon) -> None:
    with daemon.connect() as peer:
        for twice in (False, True):
            extra = "".join(f"{name}: {value}\r\n" * (1 + twice) for name, value in FORWARDED.items()).encode()
            peer.send(GET[:-2] + extra + b"\r\n")
            assert peer.read().body == b'{"status":"alive"}'
            # An origin is the daemon's own by Host alone, and a Location says nothing of a host.
            head = b"POST /streams HTTP/1.1\r\nHost: localhost:80\r\nContent-Type: application/json\r\n"
            body = b'Content-Length: 14\r\n\r\n{"urls":["x"]}'
            peer.send(head + extra + b"Origin: https://evil.test\r\n" + body)
            assert peer.read().status == 403
            peer.send(head + extra + body)
            opened = peer.read()
            assert (opened.status, opened.headers["location"][:9]) == (201, "/streams/")


def test_a_client_is_counted_by_its_address_whatever_it_says() -> None:
    address = own_address()
    with Daemon(
        SERVER__HOST=address, AUTH__INSECURE="true", STREAM__MAX_PER_CLIENT=1, FIREHOSE__ENABLED="true"
    ) as daemon:

        def peer() -> Peer:
            sock = socket.create_connection((address, daemon.port))
            sock.settimeout(PATIENCE_S)
            return Peer(sock, daemon.host)

        with peer() as first, peer() as second:
            first.send(first.request("GET", FOREVER, **{"X-Forwarded-For": "192.0.2.1", "X-Real-IP": "192.0.2.1"}))
            assert first.head().status == 200
            for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Client-IP"):
                value = "for=192.0.2.2" if name == "Forwarded" else "192.0.2.2"
                assert second.ask("GET", FOREVER, **{name: value}).status == 429
