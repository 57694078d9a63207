"""The WebSocket of a running daemon: commands and answers, many streams on one connection, and every way it ends."""

from __future__ import annotations

import asyncio
import json
import select
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from daemons import PATIENCE_S, Daemon
from origins import Origin, Request
from sockets import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    WebSocket,
    closing,
    deflated,
    frame,
    handshake,
)
from websockets.sync.client import connect

OPERATIONS = ["crawl", "subscribe", "unsubscribe", "cancel", "hold", "release", "ping", "status"]
GREEDY = "/firehose/ws?frames=1000000000&bytes=2000"
MANY = 300
PAUSED = 'fastmesh_streaming_backpressure_events_total{event="pause",protocol="websocket"}'


@pytest.fixture(scope="module")
def site() -> Iterator[Origin]:
    """300 pages of 20 KB."""
    with Origin() as origin:
        for at in range(MANY):
            origin.page(f"/{at}", f"<title>Page {at}</title><p>" + "words and words " * 1250)
        yield origin


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon(
        FETCH__ALLOW_NETWORKS="127.0.0.0/8",
        FETCH__PER_HOST_CONCURRENCY=64,
        FIREHOSE__ENABLED="true",
        SERVER__DRAIN_TIMEOUT_S=1,  # tests leave streams behind that could still be resumed
    ) as running:
        yield running


def urls(site: Origin, count: int = MANY) -> list[str]:
    return [site.url(f"/{at}") for at in range(count)]


def whole(frames: list[dict[str, Any]], count: int) -> None:
    """Every index once, and no hole in seq."""
    assert [frame["seq"] for frame in frames] == list(range(1, count + 3))
    assert sorted(frame["index"] for frame in frames[1:-1]) == list(range(count))
    assert (frames[-1]["status"], frames[-1]["successful"]) == ("completed", count)


def crawled(socket: WebSocket, given: list[str], **fields: Any) -> str:
    """Open a crawl; returns its stream."""
    ack = socket.ask("crawl", urls=given, **fields)
    assert ack == {"type": "ack", "id": ack["id"], "stream_id": ack["stream_id"]}
    return str(ack["stream_id"])


def hang(asked: list[str]) -> Any:
    """A page that never comes."""

    async def answer(request: Request) -> Any:
        asked.append(request.path)
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
        await asyncio.Event().wait()

    return answer


def state(daemon: Daemon, stream_id: str) -> dict[str, Any]:
    """The stream as the daemon sees it."""
    answer = daemon.ask("GET", f"/streams/{stream_id}")
    assert answer.status == 200, answer
    told: dict[str, Any] = answer.json
    return told


# ── opening ──────────────────────────────────────────────────────────────────────────────


def test_the_welcome_leaves_with_the_handshakes_answer(daemon: Daemon) -> None:
    with daemon.connect() as peer:
        peer.send(handshake(peer, Sec_WebSocket_Protocol="fastmesh.v1", X_Request_ID="mine"))
        first = peer.sock.recv(65_536)
        head, _, rest = first.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        assert head.startswith(b"HTTP/1.1 101 ")
        assert fields["Sec-WebSocket-Accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert fields["Sec-WebSocket-Protocol"] == "fastmesh.v1"
        assert fields["X-Request-ID"] == "mine"
        assert rest[0] == 0x80 | TEXT
        welcome = json.loads(rest[4 if rest[1] == 126 else 2 :])
        assert len(welcome.pop("session_id")) == 32
        assert welcome == {"type": "welcome", "protocol_version": "fastmesh.v1", "operations": OPERATIONS}


@pytest.mark.parametrize("path", ["/crawl/ws", "/api/v1/crawl/ws"])
def test_it_is_served_under_both_paths(daemon: Daemon, path: str) -> None:
    with WebSocket(daemon, path) as socket:
        assert socket.ask("ping")["type"] == "pong"


def test_every_session_has_an_id_of_its_own(daemon: Daemon) -> None:
    with WebSocket(daemon) as one, WebSocket(daemon) as other:
        assert one.welcome["session_id"] != other.welcome["session_id"]


@pytest.mark.parametrize(
    ("fields", "status", "kind"),
    [
        ({"Origin": "http://evil.example"}, 403, "forbidden"),
        ({"Origin": "null"}, 403, "forbidden"),
        ({"Sec_Fetch_Site": "cross-site"}, 403, "forbidden"),
        ({"Host": "evil.example"}, 421, "misdirected_request"),
        ({"Connection": "keep-alive"}, 426, "upgrade_required"),
        ({"Sec_WebSocket_Version": "8"}, 426, "upgrade_required"),
        ({"Sec_WebSocket_Key": "short"}, 400, "bad_request"),
    ],
    ids=str,
)
def test_a_refusal_comes_before_the_upgrade(daemon: Daemon, fields: dict[str, str], status: int, kind: str) -> None:
    with daemon.connect() as peer:
        peer.send(handshake(peer, **fields))
        response = peer.read()
        assert (response.status, response.json["error"]["type"]) == (status, kind)
        if status == 426:
            assert response.headers["sec-websocket-version"] == "13"
            assert response.headers["upgrade"] == "websocket"


def test_a_get_without_an_upgrade_is_told_what_stands_here(daemon: Daemon) -> None:
    assert daemon.ask("GET", "/crawl/ws").status == 426
    assert daemon.ask("POST", "/crawl/ws", {}).status == 405


def test_the_daemons_own_origin_may_connect(daemon: Daemon) -> None:
    with WebSocket(daemon, Origin=f"http://{daemon.host}") as socket:
        assert socket.ask("ping")["type"] == "pong"


def test_what_comes_with_the_handshake_is_read(daemon: Daemon) -> None:
    command = frame(TEXT, b'{"type": "ping", "id": "a"}')
    for cut in range(0, len(command) + 1, 5):
        with WebSocket(daemon, first=command[:cut]) as socket:
            socket.send(command[cut:])
            assert socket.read() == {"type": "pong", "id": "a"}


def test_a_handshake_behind_another_request_on_the_connection(daemon: Daemon) -> None:
    with daemon.connect() as peer:
        command = frame(TEXT, b'{"type": "ping", "id": "a"}')
        peer.send(peer.request("GET", "/livez") + handshake(peer) + command)
        assert peer.read().status == 200
        assert peer.head().status == 101
        assert b"".join(iter(lambda: peer.exactly(1), b"}")).count(b'"welcome"') == 1
        assert peer.exactly(2)[0] == 0x80 | TEXT


def test_a_stream_that_may_not_be_opened_is_refused_before_the_upgrade() -> None:
    with (
        Daemon(STREAM__MAX_CONCURRENT=1, FIREHOSE__ENABLED="true", SERVER__DRAIN_TIMEOUT_S=1) as daemon,
        WebSocket(daemon, "/firehose/ws?frames=1000000&bytes=700&rate=10"),
        daemon.connect() as peer,
    ):
        peer.send(handshake(peer, "/firehose/ws"))
        response = peer.read()
        assert (response.status, response.json["error"]["type"]) == (503, "overloaded")


@pytest.mark.parametrize(
    ("query", "field"), [("frames=0", "frames"), ("bytes=1", "bytes"), ("speed=1", "speed"), ("rate=x", "rate")]
)
def test_a_wrong_query_is_refused_before_the_upgrade(daemon: Daemon, query: str, field: str) -> None:
    with daemon.connect() as peer:
        peer.send(handshake(peer, f"/firehose/ws?{query}"))
        response = peer.read()
        assert (response.status, response.json["error"]["field"]) == (400, field)


def test_the_firehose_is_not_there_unless_it_is_set() -> None:
    with Daemon() as daemon, daemon.connect() as peer:
        peer.send(handshake(peer, "/firehose/ws"))
        assert peer.read().status == 404


# ── commands ─────────────────────────────────────────────────────────────────────────────


def test_every_command_has_exactly_one_answer_with_its_id(daemon: Daemon, site: Origin) -> None:
    asked: list[str] = []
    site.route("/hang", hang(asked))
    with WebSocket(daemon) as socket, WebSocket(daemon) as other:
        stream = crawled(other, [site.url("/hang")])
        told = [
            socket.tell("crawl", urls=[site.url("/0")]),
            socket.tell("subscribe", stream_id=stream),
            socket.tell("hold", stream_id=stream),
            socket.tell("release", stream_id=stream),
            socket.tell("ping"),
            socket.tell("status"),
            socket.tell("unsubscribe", stream_id=stream),
            socket.tell("cancel", stream_id=stream),
            socket.tell("unsubscribe", stream_id=stream),
            socket.tell("nonsense"),
            socket.tell("ping"),
        ]
        answers: list[dict[str, Any]] = []
        while not answers or answers[-1]["id"] != told[-1]:
            message = socket.read()
            if "id" in message:
                answers.append(message)
        assert [answer["id"] for answer in answers] == told
        kinds = "ack ack ack ack pong status ack ack error error pong".split()
        assert [answer["type"] for answer in answers] == kinds
        assert answers[1:5] == [
            {"type": "ack", "id": told[1], "stream_id": stream},
            {"type": "ack", "id": told[2], "stream_id": stream},
            {"type": "ack", "id": told[3], "stream_id": stream},
            {"type": "pong", "id": told[4]},
        ]
        assert list(other.stream(stream))[-1]["status"] == "cancelled"


WRONG: dict[str, tuple[bytes, dict[str, Any]]] = {
    "not JSON": (b"{", {"type": "validation_error"}),
    "nothing": (b"", {"type": "validation_error"}),
    "a list": (b"[]", {"type": "validation_error"}),
    "a number": (b"1", {"type": "validation_error"}),
    "NaN": (b'{"type": "ping", "id": NaN}', {"type": "validation_error"}),
    "nested too deep": (b"[" * 5000, {"type": "validation_error"}),
    "more brackets than any command has": (
        b'{"type": "ping", "id": "x", "x": [' + b"[1]," * 60_000 + b"1]}",
        {"type": "validation_error"},
    ),
    "no id": (b'{"type": "ping"}', {"type": "validation_error", "field": "id"}),
    "a number as id": (b'{"type": "ping", "id": 7}', {"type": "validation_error", "field": "id"}),
    "a long id": (json.dumps({"type": "ping", "id": "x" * 257}).encode(), {"type": "validation_error", "field": "id"}),
}

WRONG_WITH_ID: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "no type": ({}, {"type": "validation_error", "field": "type"}),
    "unknown type": ({"type": "dance"}, {"type": "validation_error", "field": "type"}),
    "a list as type": ({"type": ["ping"]}, {"type": "validation_error", "field": "type"}),
    "unknown field": ({"type": "ping", "more": 1}, {"type": "validation_error", "field": "more"}),
    "no urls": ({"type": "crawl"}, {"type": "validation_error", "field": "urls"}),
    "urls empty": ({"type": "crawl", "urls": []}, {"type": "validation_error", "field": "urls"}),
    "urls too many": ({"type": "crawl", "urls": ["x"] * 1001}, {"type": "validation_error", "field": "urls"}),
    "unknown option": (
        {"type": "crawl", "urls": ["x"], "options": {"speed": 1}},
        {"type": "validation_error", "field": "options.speed"},
    ),
    **{
        f"{number!r} retries": (
            {"type": "crawl", "urls": ["x"], "options": {"retries": number}},
            {"type": "validation_error", "field": "options.retries"},
        )
        for number in (1e30, -1e30, 2**64, 2**64 - 1, 2**53)
    },
    **{
        f"after {number!r}": (
            {"type": "subscribe", "stream_id": "x", "after": number},
            {"type": "validation_error", "field": "after"},
        )
        for number in (1e30, 2**64, -(2**63))
    },
    "a crowd of values": ({"type": "crawl", "urls": ["x"], "x": [[1]] * 1000}, {"type": "validation_error"}),
    "no stream": ({"type": "hold"}, {"type": "validation_error", "field": "stream_id"}),
    "after is text": (
        {"type": "subscribe", "stream_id": "x", "after": "1"},
        {"type": "validation_error", "field": "after"},
    ),
    **{
        f"{kind} an unknown stream": ({"type": kind, "stream_id": "x"}, {"type": "not_found"})
        for kind in ("subscribe", "unsubscribe", "cancel", "hold", "release")
    },
}


@pytest.mark.parametrize(("message", "error"), WRONG.values(), ids=WRONG)
def test_a_message_without_an_id_gets_an_error_and_the_connection_stays(
    daemon: Daemon, message: bytes, error: dict[str, Any]
) -> None:
    with WebSocket(daemon) as socket:
        socket.send(frame(TEXT, message))
        told = socket.read()
        assert told["error"].pop("message")
        assert told == {"type": "error", "error": {"retryable": False} | error}
        assert socket.ask("ping")["type"] == "pong"


@pytest.mark.parametrize(("fields", "error"), WRONG_WITH_ID.values(), ids=WRONG_WITH_ID)
def test_a_wrong_command_gets_an_error_and_the_connection_stays(
    daemon: Daemon, fields: dict[str, Any], error: dict[str, Any]
) -> None:
    with WebSocket(daemon) as socket:
        socket.send(frame(TEXT, json.dumps({"id": "w"} | fields).encode()))
        told = socket.read()
        assert told["error"].pop("message")
        assert told == {"type": "error", "id": "w", "error": {"retryable": False} | error}
        assert socket.ask("ping")["type"] == "pong"


def test_an_id_that_is_no_text_for_utf_8_is_answered_all_the_same(daemon: Daemon) -> None:
    with WebSocket(daemon) as socket:
        socket.send(frame(TEXT, b'{"type": "ping", "id": "\\ud800"}'))
        assert socket.read()["type"] in ("pong", "error")
        assert socket.ask("ping")["type"] == "pong"


def test_a_command_may_come_in_fragments_with_a_ping_among_them(daemon: Daemon) -> None:
    text = '{"type": "ping", "id": "äöü"}'.encode()
    with WebSocket(daemon) as socket:
        for cut in range(1, len(text)):
            socket.send(frame(TEXT, text[:cut], fin=False), frame(PING, b"%d" % cut), frame(CONTINUATION, text[cut:]))
            assert socket.frame() == Frame(PONG, b"%d" % cut)
            assert socket.read() == {"type": "pong", "id": "äöü"}


# ── streams ──────────────────────────────────────────────────────────────────────────────


def test_several_streams_run_at_once_each_without_a_hole(daemon: Daemon, site: Origin) -> None:
    with WebSocket(daemon) as socket:
        ids = [socket.tell("crawl", urls=urls(site, 60)) for _ in range(4)]
        frames: dict[str, list[dict[str, Any]]] = {}
        acks: dict[str, str] = {}
        while sum(told[-1]["type"] == "summary" for told in frames.values()) < 4:
            message = socket.read()
            if message["type"] == "ack":
                acks[message["id"]] = message["stream_id"]
            else:
                assert message["stream_id"] in acks.values()  # the ack comes first
                frames.setdefault(message["stream_id"], []).append(message)
        assert sorted(acks) == sorted(ids)
        for told in frames.values():
            whole(told, 60)
        assert socket.ask("status")["streams"] == []


def test_a_greedy_stream_does_not_hold_up_a_crawl_beside_it(daemon: Daemon, site: Origin) -> None:
    with WebSocket(daemon, GREEDY) as socket:
        crawl = socket.tell("crawl", urls=urls(site, 100))
        ack, _ = socket.answer(crawl)
        greedy: list[int] = []
        mine: list[dict[str, Any]] = []
        while not mine or mine[-1]["type"] != "summary":
            message = socket.read()
            if message["stream_id"] == ack["stream_id"]:
                mine.append(message)
            else:
                greedy.append(message["seq"])
        whole(mine, 100)
        assert greedy == list(range(greedy[0], greedy[0] + len(greedy)))
        assert greedy


def test_a_held_stream_stops_its_producer_and_no_other(daemon: Daemon, site: Origin) -> None:
    with WebSocket(daemon) as socket:
        site.hits.clear()
        held = crawled(socket, urls(site), options={"concurrency": 8})
        ack, before = socket.answer(socket.tell("hold", stream_id=held))
        assert ack["type"] == "ack"
        # Its window fills, and no URL is started any more.
        while True:
            told = state(daemon, held)
            (reader,) = told["subscribers"]
            full = reader["unread_bytes"] >= reader["capacity_bytes"]
            if full or reader["unread_frames"] >= reader["capacity_frames"]:
                break
        other = crawled(socket, urls(site, 50))
        whole(list(socket.stream(other)), 50)
        (status,) = socket.ask("status")["streams"]
        assert (status["stream_id"], status["held"]) == (held, True)
        assert status["unread"] == status["last_seq"] - status["sent_seq"] > 0
        assert sum(site.hits[f"/{at}"] for at in range(MANY)) < MANY
        socket.tell("release", stream_id=held)
        frames = [message for message in before if message.get("stream_id") == held]
        frames += list(socket.stream(held))
        whole(frames, MANY)


def test_nothing_is_lost_around_hold_and_release(daemon: Daemon) -> None:
    with WebSocket(daemon, "/firehose/ws?frames=3000&bytes=700") as socket:
        first = socket.read()
        stream, frames = first["stream_id"], [first]
        acks = 0
        while frames[-1]["type"] != "summary":
            if len(frames) % 500 == 1 and acks == 2 * (len(frames) // 500):
                socket.tell("hold", stream_id=stream)
                socket.tell("release", stream_id=stream)
            message = socket.read()
            if message["type"] == "ack":
                acks += 1
            elif message["type"] == "error":
                assert message["error"]["type"] == "not_found"  # the stream was over
            else:
                frames.append(message)
        assert [told["seq"] for told in frames] == list(range(1, 3003))


def test_who_unsubscribes_hears_no_more_of_it_and_may_come_back(daemon: Daemon) -> None:
    with WebSocket(daemon, "/firehose/ws?frames=1000000&bytes=700&rate=200") as socket:
        first = socket.read()
        stream = first["stream_id"]
        ack, before = socket.answer(socket.tell("unsubscribe", stream_id=stream))
        assert ack["type"] == "ack"
        last = (before[-1] if before else first)["seq"]
        pong, between = socket.answer(socket.tell("ping"))
        assert (pong["type"], between) == ("pong", [])
        again = socket.tell("subscribe", stream_id=stream, after=last)
        ack, between = socket.answer(again)
        assert (ack, between) == ({"type": "ack", "id": again, "stream_id": stream}, [])
        assert [socket.read()["seq"] for _ in range(20)] == list(range(last + 1, last + 21))
        assert socket.ask("cancel", stream_id=stream)["type"] == "ack"


def test_cancel_ends_a_stream_with_its_summary(daemon: Daemon, site: Origin) -> None:
    asked: list[str] = []
    site.route("/hang", hang(asked))
    with WebSocket(daemon) as socket:
        stream = crawled(socket, [site.url("/hang"), site.url("/0")])
        while not asked:
            pass
        socket.tell("cancel", stream_id=stream)
        *_, summary = socket.stream(stream)
        assert summary["status"] == "cancelled"
        assert summary["successful"] + summary["cancelled"] == 2
        assert 0 in [index for low, high in summary["unfinished"] for index in range(low, high + 1)]
        again = socket.ask("cancel", stream_id=stream)
        assert (again["type"], again["error"]["type"]) == ("error", "conflict")


def test_a_stream_is_read_from_where_it_is_asked_for(daemon: Daemon, site: Origin) -> None:
    with WebSocket(daemon) as socket:
        stream = crawled(socket, urls(site, 5))
        frames = list(socket.stream(stream))
        whole(frames, 5)
        for after in (None, 0, 1, 3, 6):
            with WebSocket(daemon) as other:
                fields = {} if after is None else {"after": after}
                ack = other.ask("subscribe", stream_id=stream, **fields)
                assert ack == {"type": "ack", "id": ack["id"], "stream_id": stream}
                assert list(other.stream(stream)) == frames[after or 0 :]
        ack = socket.ask("subscribe", stream_id=stream, after=7)
        assert ack == {"type": "ack", "id": ack["id"], "stream_id": stream, "complete": True}
        for after in (-1, 8):
            refused = socket.ask("subscribe", stream_id=stream, after=after)
            assert (refused["error"]["type"], refused["error"]["field"]) == ("validation_error", "after")
        assert socket.ask("status")["streams"] == []


def test_a_stream_is_subscribed_to_once(daemon: Daemon) -> None:
    with WebSocket(daemon, "/firehose/ws?frames=1000000&bytes=700&rate=10") as socket:
        stream = socket.read()["stream_id"]
        refused = socket.ask("subscribe", stream_id=stream)
        assert (refused["type"], refused["error"]["type"]) == ("error", "conflict")
        assert [told["stream_id"] for told in socket.ask("status")["streams"]] == [stream]


def test_the_same_frames_on_every_protocol(daemon: Daemon, site: Origin) -> None:
    with WebSocket(daemon) as socket, daemon.connect() as peer:
        stream = crawled(socket, urls(site, 5))
        frames = list(socket.stream(stream))
        assert peer.ask("GET", f"/streams/{stream}/events").frames == frames


def test_a_client_that_leaves_can_be_resumed_from_another_connection(daemon: Daemon, site: Origin) -> None:
    with WebSocket(daemon) as socket:
        stream = crawled(socket, urls(site, 100), options={"concurrency": 2})
        seen = [socket.read() for _ in range(10)]
    with WebSocket(daemon) as socket:
        while socket.ask("subscribe", stream_id=stream, after=seen[-1]["seq"])["type"] != "ack":
            pass
        whole(seen + list(socket.stream(stream)), 100)


# ── endings ──────────────────────────────────────────────────────────────────────────────

ENDINGS: dict[str, tuple[bytes, int]] = {
    "a binary message": (frame(BINARY, b"{}"), 1003),
    "too large": (frame(TEXT, b" " * 1_048_577), 1009),
    "too large by its length": (b"\x81\xff" + (1 << 62).to_bytes(8, "big") + bytes(4), 1009),
    "too large in fragments": (frame(TEXT, b" " * 524_288, fin=False) + frame(CONTINUATION, b" " * 524_289), 1009),
    "not UTF-8": (frame(TEXT, b'{"id": "\xff"}'), 1007),
    "unmasked": (frame(TEXT, b"{}", mask=None), 1002),
    "a reserved bit": (frame(TEXT, b"{}", rsv=4), 1002),
    "a reserved opcode": (frame(3), 1002),
    "a continuation of nothing": (frame(CONTINUATION, b"x"), 1002),
    "a close code of nobody": (frame(CLOSE, closing(999)), 1002),
    "pings without end": (frame(PING) * 20_000, 1008),
    "fragments without end": (frame(TEXT, b"x", fin=False) + frame(CONTINUATION, b"x", fin=False) * 20_000, 1008),
    "a close": (frame(CLOSE, closing(1000, b"bye")), 1000),
    "a close of its own": (frame(CLOSE, closing(4321)), 4321),
}


@pytest.mark.parametrize(("data", "code"), ENDINGS.values(), ids=ENDINGS)
def test_it_ends_with_the_code_that_fits(daemon: Daemon, data: bytes, code: int) -> None:
    with WebSocket(daemon) as socket:
        socket.send(data)
        assert socket.closed()[0] == code


def test_a_close_without_a_code_is_answered_alike(daemon: Daemon) -> None:
    with WebSocket(daemon) as socket:
        socket.send(frame(CLOSE))
        assert socket.frame() == Frame(CLOSE, b"")
        assert socket.peer.closed()


@pytest.mark.parametrize("code", ["a close", "a reserved opcode", "a binary message"])
def test_what_was_asked_before_the_end_is_answered_first(daemon: Daemon, code: str) -> None:
    data, said = ENDINGS[code]
    with WebSocket(daemon) as socket:
        socket.send(frame(TEXT, b'{"type": "ping", "id": "a"}'), data)
        assert socket.read() == {"type": "pong", "id": "a"}
        assert socket.closed()[0] == said


@pytest.mark.parametrize("path", ["/crawl/ws", GREEDY])
def test_nothing_is_left_of_a_client_that_vanishes(daemon: Daemon, path: str) -> None:
    with WebSocket(daemon, path) as socket:
        stream = socket.read()["stream_id"] if path == GREEDY else None
    if stream is not None:
        while state(daemon, stream)["subscribers"]:
            pass
        assert daemon.ask("DELETE", f"/streams/{stream}").status == 200
    assert "Traceback" not in daemon.stderr()


def test_a_close_while_a_greedy_stream_runs_is_answered(daemon: Daemon) -> None:
    with WebSocket(daemon, GREEDY) as socket:
        stream = socket.read()["stream_id"]
        socket.send(frame(CLOSE, closing(1000)))
        assert socket.closed() == (1000, "")
        daemon.ask("DELETE", f"/streams/{stream}")


# ── floods and clients that do not read ──────────────────────────────────────────────────


def late(daemon: Daemon) -> float:
    """How often the loop was more than 20 ms late by its own doing, and not for want of a core."""
    total = daemon.metric("fastmesh_loop_own_lag_seconds_count")
    return total - daemon.metric('fastmesh_loop_own_lag_seconds_bucket{le="0.02"}')


@pytest.mark.parametrize("flood", ["pings without end", "fragments without end", "messages without end"])
def test_a_flood_does_not_hold_up_fifty_other_streams(daemon: Daemon, flood: str) -> None:
    data, code = (ENDINGS | {"messages without end": (frame(TEXT, b"1") * 20_000 + frame(CLOSE), 0)})[flood]
    others = [WebSocket(daemon, "/firehose/ws?frames=100000000&bytes=700&rate=100") for _ in range(50)]
    streams = [socket.read()["stream_id"] for socket in others]

    def holds_up() -> bool:
        before = late(daemon)
        with WebSocket(daemon) as socket:
            socket.send(data)
            assert socket.closed()[0] == code
        for other in others:
            other.read()
        return late(daemon) > before

    try:
        # A loop that a flood can hold is held each time; one that waited for the processor is not.
        assert not all(holds_up() for _ in range(10))
    finally:
        for socket, stream in zip(others, streams, strict=True):
            socket.peer.sock.close()
            daemon.ask("DELETE", f"/streams/{stream}")


def test_a_client_that_sends_commands_and_reads_nothing_is_bounded(daemon: Daemon) -> None:
    with WebSocket(daemon, receive_buffer=4096) as socket:
        memory = daemon.memory()
        command = frame(TEXT, b'{"type": "status", "id": "%s"}' % (b"x" * 250))
        commands = command * 1000
        socket.peer.sock.setblocking(False)
        # It takes commands until their answers fill its buffers; then the kernel's fill, and no more is taken.
        sent = 0
        while select.select([], [socket.peer.sock], [], 1.0)[1]:
            sent += socket.peer.sock.send(commands[sent % len(command) :])
            assert sent < 32 << 20
        assert daemon.ask("GET", "/livez").status == 200
        assert daemon.memory() - memory < 16 << 20
        # It reads at last: every command that was sent has its answer.
        socket.peer.sock.settimeout(PATIENCE_S)
        for _ in range(sent // len(command)):
            assert socket.read()["type"] == "status"


def test_a_slow_reader_of_a_stream_loses_nothing(daemon: Daemon, site: Origin) -> None:
    with WebSocket(daemon, receive_buffer=4096) as socket:
        paused = daemon.metric(PAUSED)
        crawl = socket.tell("crawl", urls=urls(site), options={"concurrency": 32})
        while daemon.metric(PAUSED) == paused:
            pass
        ack, before = socket.answer(crawl)
        assert before == []
        whole(list(socket.stream(ack["stream_id"])), MANY)


def test_so_long_a_message_as_is_set() -> None:
    with Daemon(STREAM__WS_MAX_MESSAGE_BYTES=2000) as daemon, WebSocket(daemon) as socket:
        command = b'{"type": "ping", "id": "a"}'
        socket.send(frame(TEXT, command.ljust(2000)))
        assert socket.read() == {"type": "pong", "id": "a"}
        socket.send(frame(TEXT, command.ljust(2001)))
        assert socket.closed()[0] == 1009


# ── pings of the daemon's ────────────────────────────────────────────────────────────────


def test_a_silent_client_is_pinged_and_gone_without_a_pong() -> None:
    with Daemon(STREAM__WS_PING_S=0.2, STREAM__WS_PONG_TIMEOUT_S=0.2) as daemon, WebSocket(daemon) as socket:
        begun = time.monotonic()
        assert socket.frame() == Frame(PING, b"")
        got = socket.frame()
        assert (got.opcode, got.code) == (CLOSE, 1011)
        assert socket.peer.closed()
        assert time.monotonic() - begun < 10


def test_the_next_ping_comes_in_its_time_however_long_a_pong_may_take() -> None:
    with Daemon(STREAM__WS_PING_S=0.1, STREAM__WS_PONG_TIMEOUT_S=60) as daemon, WebSocket(daemon) as socket:
        for _ in range(3):
            assert socket.frame() == Frame(PING, b"")
            socket.send(frame(PONG))


def test_any_byte_is_life() -> None:
    """A header that never becomes whole, a byte for each ping."""
    with Daemon(STREAM__WS_PING_S=0.2, STREAM__WS_PONG_TIMEOUT_S=1) as daemon, WebSocket(daemon) as socket:
        message = frame(TEXT, b'{"type": "ping", "id": "a"}')
        for at in range(8):
            assert socket.frame() == Frame(PING, b"")
            socket.send(message[at : at + 1])
        socket.send(message[8:])
        while (got := socket.frame()).opcode == PING:
            socket.send(frame(PONG))
        assert json.loads(got.payload) == {"type": "pong", "id": "a"}


def test_a_reader_that_answers_pings_stays() -> None:
    with (
        Daemon(STREAM__WS_PING_S=0.1, STREAM__WS_PONG_TIMEOUT_S=5, FIREHOSE__ENABLED="true") as daemon,
        WebSocket(daemon, "/firehose/ws?frames=30&bytes=700&rate=20") as socket,
    ):
        frames = [socket.read() for _ in range(32)]
        assert [told["seq"] for told in frames] == list(range(1, 33))


# ── shutdown ─────────────────────────────────────────────────────────────────────────────


def test_an_idle_connection_is_told_that_the_daemon_goes() -> None:
    with Daemon() as daemon, WebSocket(daemon) as socket:
        daemon.process.send_signal(signal.SIGTERM)
        assert socket.closed()[0] == 1001
        assert daemon.process.wait(PATIENCE_S) == 0


def test_streams_end_with_their_summaries_and_then_it_closes() -> None:
    with (
        Daemon(SERVER__DRAIN_TIMEOUT_S=1, FIREHOSE__ENABLED="true") as daemon,
        WebSocket(daemon, "/firehose/ws?frames=1000000&bytes=700&rate=50") as socket,
    ):
        stream = socket.read()["stream_id"]
        daemon.process.send_signal(signal.SIGTERM)
        *_, summary = socket.stream(stream)
        assert summary["status"] == "shutdown"
        assert socket.closed()[0] == 1001
        assert daemon.process.wait(PATIENCE_S) == 0


def test_a_short_stream_is_read_to_its_end_before_it_closes() -> None:
    with (
        Daemon(FIREHOSE__ENABLED="true") as daemon,
        WebSocket(daemon, "/firehose/ws?frames=40&bytes=700&rate=40") as socket,
    ):
        stream = socket.read()["stream_id"]
        daemon.process.send_signal(signal.SIGTERM)
        frames = list(socket.stream(stream))
        assert (len(frames), frames[-1]["status"]) == (41, "completed")
        assert socket.closed()[0] == 1001
        assert daemon.process.wait(PATIENCE_S) == 0


def test_no_stream_is_opened_while_it_drains() -> None:
    with (
        Daemon(FIREHOSE__ENABLED="true") as daemon,
        WebSocket(daemon, "/firehose/ws?frames=40&bytes=700&rate=40") as socket,
    ):
        stream = socket.read()["stream_id"]
        daemon.process.send_signal(signal.SIGTERM)
        while True:
            told = socket.ask("crawl", urls=["http://localhost/"])
            if told["type"] == "error":
                break
        assert told["error"] == {
            "type": "shutting_down",
            "message": "the daemon is shutting down",
            "retryable": True,
            "retry_after_s": 5,
        }
        assert list(socket.stream(stream))[-1]["status"] == "completed"


# ── compression, and a client of others ──────────────────────────────────────────────────


@pytest.fixture(scope="module")
def deflating() -> Iterator[Daemon]:
    with Daemon(STREAM__WS_DEFLATE="true", FIREHOSE__ENABLED="true", FETCH__ALLOW_NETWORKS="127.0.0.0/8") as running:
        yield running


OFFER = {"Sec_WebSocket_Extensions": "permessage-deflate"}


def test_compression_is_off_unless_it_is_set(daemon: Daemon) -> None:
    with WebSocket(daemon, **OFFER) as socket:
        assert "sec-websocket-extensions" not in socket.response.headers


def test_compressed_commands_and_answers(deflating: Daemon) -> None:
    with WebSocket(deflating, **OFFER) as socket:
        assert socket.response.headers["sec-websocket-extensions"].startswith("permessage-deflate; server_no_context")
        socket.send(frame(TEXT, deflated(b'{"type": "ping", "id": "a"}'), rsv=4))
        assert socket.read() == {"type": "pong", "id": "a"}
        socket.send(frame(TEXT, deflated(b" " * 1_048_577), rsv=4))
        assert socket.closed()[0] == 1009


@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize("which", ["daemon", "deflating"])
def test_websockets_understands_it(
    request: pytest.FixtureRequest, site: Origin, which: str, compression: str | None
) -> None:
    daemon: Daemon = request.getfixturevalue(which)
    address = f"ws://{daemon.host}/crawl/ws"
    with connect(address, subprotocols=["fastmesh.v1"], compression=compression, max_size=None) as socket:
        assert socket.subprotocol == "fastmesh.v1"
        agreed = [type(extension).__name__ for extension in socket.protocol.extensions]
        assert agreed == (["PerMessageDeflate"] if which == "deflating" and compression else [])
        assert json.loads(socket.recv())["type"] == "welcome"
        socket.send(json.dumps({"type": "crawl", "id": "c", "urls": urls(site, 60)}))
        ack = json.loads(socket.recv())
        frames = [json.loads(socket.recv()) for _ in range(62)]
        assert {told["stream_id"] for told in frames} == {ack["stream_id"]}
        whole(frames, 60)
        socket.send(["{", '"type": "ping",', ' "id": "fragments"}'])
        assert json.loads(socket.recv()) == {"type": "pong", "id": "fragments"}
        assert socket.ping().wait(PATIENCE_S)
        socket.send(b"binary")
        with pytest.raises(Exception, match="1003"):
            socket.recv()


def test_a_greedy_stream_is_read_by_websockets(deflating: Daemon) -> None:
    with connect(f"ws://{deflating.host}/firehose/ws?frames=5000&bytes=700", max_size=None) as socket:
        assert json.loads(socket.recv())["type"] == "welcome"
        assert [json.loads(socket.recv())["seq"] for _ in range(5002)] == list(range(1, 5003))
