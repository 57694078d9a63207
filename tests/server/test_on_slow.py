"""on_slow against a real daemon: a client that stops reading, over each protocol."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress

import pytest
from daemons import Closed, Daemon
from origins import Origin
from sockets import WebSocket

PAGES = 400
DROPPED = 'fastmesh_streaming_messages_dropped_total{protocol="%s",reason="slow_client"}'


@pytest.fixture(scope="module")
def urls():
    with Origin() as origin:
        yield [origin.page(f"/{at}", f"<title>Page {at}</title><p>" + "words and words " * 2500) for at in range(PAGES)]


@pytest.fixture(scope="module")
def daemon():
    with Daemon(
        FETCH__ALLOW_NETWORKS="127.0.0.0/8",
        FETCH__PER_HOST_CONCURRENCY=64,
        STREAM__JOURNAL_BYTES=64 << 20,
        SERVER__DRAIN_TIMEOUT_S=1,
    ) as running:
        yield running


def body(urls: list[str], on_slow: str) -> dict:
    return {"urls": urls, "options": {"concurrency": 32}, "stream": {"on_slow": on_slow}}


def check_gaps(frames: list[dict]) -> int:
    """Every durable frame is there or named; return how many were left out."""
    expected, missing = 1, 0
    for frame in frames:
        if frame["type"] == "gap":
            assert (frame["from_seq"], frame["reason"]) == (expected, "slow_client")
            missing += frame["to_seq"] + 1 - expected
            expected = frame["to_seq"] + 1
        elif "seq" in frame:
            assert frame["seq"] == expected
            expected += 1
    assert expected == PAGES + 3
    return missing


@pytest.mark.parametrize("path", ["/crawl/stream", "/crawl/sse"])
def test_drop_finishes_without_its_reader_and_names_what_is_missing(daemon: Daemon, urls: list[str], path: str) -> None:
    dropped = DROPPED % ("sse" if path.endswith("sse") else "ndjson")
    before = daemon.metric(dropped)
    with daemon.connect(receive_buffer=4096) as stuck:
        stuck.send(stuck.request("POST", path, body(urls, "drop")))
        stream_id = stuck.head().headers["x-stream-id"]
        while daemon.ask("GET", f"/streams/{stream_id}").json["status"] != "completed":
            pass
        text = b"".join(stuck.chunks())
    lines = [line.removeprefix(b"data: ") for line in text.splitlines()]
    frames = [json.loads(line) for line in lines if line.startswith(b"{")]
    missing = check_gaps(frames)
    assert missing > 0
    assert daemon.metric(dropped) - before == missing
    assert frames[-1]["successful"] == PAGES
    # What was left out can be had while it is kept.
    assert len(daemon.ask("GET", f"/streams/{stream_id}/events?after=0").frames) == PAGES + 2


def test_disconnect_cuts_the_connection_and_the_stream_is_resumed(daemon: Daemon, urls: list[str]) -> None:
    with daemon.connect(receive_buffer=4096) as stuck:
        stuck.send(stuck.request("POST", "/crawl/stream", body(urls, "disconnect")))
        stream_id = stuck.head().headers["x-stream-id"]
        while daemon.ask("GET", f"/streams/{stream_id}").json["subscribers"]:
            pass
    shown = daemon.ask("GET", f"/streams/{stream_id}").json
    assert (shown["status"], shown["pacer"]) == (None, "left")
    assert [frame["seq"] for frame in resumed(daemon, stream_id)] == list(range(1, PAGES + 3))


def resumed(daemon: Daemon, stream_id: str) -> Iterator[dict]:
    """The whole stream, however often its reader is too slow itself on a busy machine."""
    after, ended = 0, False
    while not ended:
        with daemon.connect() as peer, suppress(Closed, ConnectionError):
            peer.send(peer.request("GET", f"/streams/{stream_id}/events?after={after}"))
            assert peer.head().status == 200
            for frame in peer.frames():
                after, ended = frame["seq"], frame["type"] == "summary"
                yield frame


def test_disconnect_ends_a_websocket_with_1013_when_it_was_the_last(daemon: Daemon, urls: list[str]) -> None:
    with WebSocket(daemon, receive_buffer=4096) as socket:
        crawl = socket.tell("crawl", **body(urls, "disconnect"))
        ack, _ = socket.answer(crawl)
        while daemon.ask("GET", f"/streams/{ack['stream_id']}").json["subscribers"]:
            pass
        code, reason = socket.closed()
        assert (code, reason) == (1013, "the client reads too slowly")
    with WebSocket(daemon) as again:  # and again to who comes back, who may not have heard it
        for told in ({"cut_off": "slow_client"}, {}):
            acked, _ = again.answer(again.tell("subscribe", stream_id=ack["stream_id"], after=0))
            acked.pop("id")
            assert acked == {"type": "ack", "stream_id": ack["stream_id"]} | told
            again.answer(again.tell("unsubscribe", stream_id=ack["stream_id"]))


def test_who_is_cut_off_without_a_word_is_told_why_when_it_comes_back(urls: list[str]) -> None:
    with (
        Daemon(FETCH__ALLOW_NETWORKS="127.0.0.0/8", SERVER__WRITE_STALL_TIMEOUT_S=0.4) as daemon,
        WebSocket(daemon, receive_buffer=4096) as stuck,
    ):
        ack, _ = stuck.answer(stuck.tell("crawl", **body(urls, "block")))
        while not daemon.logs("connection.write_stall"):
            pass
        with WebSocket(daemon) as again:
            acked, _ = again.answer(again.tell("subscribe", stream_id=ack["stream_id"], after=0))
            assert acked["cut_off"] == "slow_client"


@pytest.mark.parametrize(
    ("stream", "field"),
    [({"on_slow": "wait"}, "stream.on_slow"), ({"on_slow": "disconnect", "detach": True}, "stream")],
)
def test_what_on_slow_may_be(daemon: Daemon, stream: dict, field: str) -> None:
    answer = daemon.ask("POST", "/crawl/stream", {"urls": ["x"], "stream": stream})
    assert (answer.status, answer.json["error"]["field"]) == (400, field)
