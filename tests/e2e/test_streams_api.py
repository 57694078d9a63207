"""Streams as resources, from outside: opened, read from any place by any number of readers, left, ended."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any

import pytest
from daemons import PATIENCE_S, Daemon, Response
from origins import Origin
from readers import ACCEPT, PROTOCOLS, Event, attached, events, websocket

PAGES = 12
ALLOWED, OTHER = "http://127.0.0.1:5173", "http://127.0.0.1:5174"
UNKNOWN = "00000-" + "0" * 32
_numbers = count()


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon(
        FETCH__ALLOW_NETWORKS="127.0.0.0/8",
        FETCH__PER_HOST_CONCURRENCY=64,
        FETCH__RESPECT_ROBOTS="false",  # some origins here never answer
        FIREHOSE__ENABLED="true",
        STREAM__HEARTBEAT_S=0.2,
        STREAM__SSE_RETRY_MS=5,
        CORS__ALLOW_ORIGINS=ALLOWED,
    ) as running:
        yield running


def site(origin: Origin, pages: int = PAGES, words: int = 50) -> list[str]:
    """Pages that no other test fetches."""
    name = f"streams-{next(_numbers)}"
    return [origin.page(f"/{name}/{at}", f"<title>Page {at}</title><p>{'word ' * words}") for at in range(pages)]


def opened(daemon: Daemon, urls: list[str], **stream: Any) -> str:
    """The id of a stream over *urls* that nobody reads yet."""
    answer = daemon.ask("POST", "/streams", {"urls": urls, "stream": stream})
    assert answer.status == 201, answer
    stream_id: str = answer.json["stream_id"]
    return stream_id


def shown(daemon: Daemon, stream_id: str) -> dict[str, Any]:
    answer = daemon.ask("GET", f"/streams/{stream_id}")
    assert answer.status == 200, answer
    whole: dict[str, Any] = answer.json
    return whole


def known(daemon: Daemon) -> list[str]:
    """The streams that there are."""
    return sorted(stream["stream_id"] for stream in daemon.ask("GET", "/streams").json["streams"])


def until(condition: Callable[[], Any]) -> Any:
    """Wait for a condition of the daemon, which only asking tells."""
    deadline = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come to that"
    return value


def fetched(origin: Origin, urls: list[str]) -> list[int]:
    """How often each was fetched."""
    return [origin.hits[url.removeprefix(origin.url(""))] for url in urls]


def refused(answer: Response) -> tuple[int, str, str | None]:
    error = answer.json["error"]
    assert error["status"] == answer.status
    return answer.status, error["type"], error.get("field")


@contextmanager
def hanging(connections: int) -> Iterator[tuple[list[str], Callable[[], list[socket.socket]]]]:
    """URLs of an origin that takes requests and answers none; and a call that waits for all of them to be there."""
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as stack:
        server.settimeout(PATIENCE_S)

        def arrived() -> list[socket.socket]:
            taken = []
            for _ in range(connections):
                sock = stack.enter_context(server.accept()[0])
                sock.settimeout(PATIENCE_S)
                head = b""
                while b"\r\n\r\n" not in head:
                    head += sock.recv(65_536)
                taken.append(sock)
            return taken

        yield [f"http://127.0.0.1:{server.getsockname()[1]}/{at}" for at in range(connections)], arrived


def check_whole(frames: list[dict[str, Any]], urls: list[str], after: int = 0) -> None:
    """All frames after *after*, each once, in order."""
    frames = [frame for frame in frames if frame["type"] != "heartbeat"]
    assert [frame["seq"] for frame in frames] == list(range(after + 1, len(urls) + 3))
    assert frames[-1]["type"] == "summary"
    if after == 0:
        assert sorted(frame["result"]["url"] for frame in frames[1:-1]) == sorted(urls)


# ── POST /streams ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
def test_a_stream_is_opened_and_read_at_its_location(daemon: Daemon, origin: Origin, prefix: str) -> None:
    urls = site(origin)
    answer = daemon.ask("POST", f"{prefix}/streams", {"urls": urls})
    stream_id = answer.json["stream_id"]
    assert (answer.status, answer.json) == (
        201,
        {"stream_id": stream_id, "stream_type": "crawl", "total_urls": PAGES, "detached": False},
    )
    assert answer.headers["location"] == f"{prefix}/streams/{stream_id}"
    assert daemon.ask("GET", answer.headers["location"]).json["stream_id"] == stream_id
    check_whole(daemon.ask("GET", f"{answer.headers['location']}/events").frames, urls)


def test_nothing_is_fetched_until_somebody_reads(daemon: Daemon, origin: Origin) -> None:
    urls, others = site(origin), site(origin)
    stream_id = opened(daemon, urls)
    assert len(daemon.crawl(*others)) == PAGES + 2
    assert fetched(origin, urls) == [0] * PAGES
    assert (shown(daemon, stream_id)["state"], shown(daemon, stream_id)["last_seq"]) == ("active", 1)
    with attached(daemon, "ndjson", stream_id) as reader:
        check_whole(reader.frames(), urls)
    assert fetched(origin, urls) == [1] * PAGES


def test_a_detached_stream_runs_without_readers(daemon: Daemon, origin: Origin) -> None:
    urls = site(origin)
    stream_id = opened(daemon, urls, detach=True)
    until(lambda: shown(daemon, stream_id)["state"] == "closed")
    assert fetched(origin, urls) == [1] * PAGES
    told = shown(daemon, stream_id)
    assert (told["status"], told["detached"], told["pacer"], told["last_seq"]) == (
        "completed",
        True,
        "nobody",
        PAGES + 2,
    )
    for protocol in PROTOCOLS:
        with attached(daemon, protocol, stream_id) as reader:
            check_whole(reader.frames(), urls)
    assert fetched(origin, urls) == [1] * PAGES


def test_a_repeated_key_names_the_stream_that_the_first_request_opened(daemon: Daemon, origin: Origin) -> None:
    urls = site(origin)
    first = daemon.ask("POST", "/streams", {"urls": urls}, Idempotency_Key="again")
    written_otherwise = json.dumps({"stream": {"detach": False}, "urls": urls, "options": {}}, indent=2).encode()
    for body in ({"urls": urls}, written_otherwise):
        again = daemon.ask("POST", "/streams", body, Idempotency_Key="again")
        assert (again.status, again.body, again.headers["location"]) == (200, first.body, first.headers["location"])
    assert daemon.ask("POST", "/streams?key=again", {"urls": urls}).body == first.body
    other = daemon.ask("POST", "/streams", {"urls": urls[:-1]}, Idempotency_Key="again")
    assert refused(other) == (409, "conflict", "Idempotency-Key")
    assert [s["stream_id"] for s in daemon.ask("GET", "/streams").json["streams"]].count(first.json["stream_id"]) == 1
    check_whole(daemon.ask("GET", f"{first.headers['location']}/events").frames, urls)
    late = daemon.ask("POST", "/streams", {"urls": urls}, Idempotency_Key="again")
    assert (late.status, late.body) == (200, first.body)
    assert fetched(origin, urls) == [1] * PAGES


@pytest.mark.parametrize("key", ["", "a" * 129, "a b", "ä", "a/b", "a,b"])
def test_a_key_is_of_few_plain_characters(daemon: Daemon, key: str) -> None:
    body = json.dumps({"urls": ["http://127.0.0.1:1/"]}).encode()
    with daemon.connect() as peer:
        head = peer.request("POST", "/streams", body, Idempotency_Key="@")
        peer.send(head.replace(b"@", key.encode("latin-1")))
        assert refused(peer.read()) == (400, "validation_error", "Idempotency-Key")


def test_a_key_opens_anew_once_its_stream_can_be_read_no_more(origin: Origin) -> None:
    urls = site(origin, 2)
    with Daemon(FETCH__ALLOW_NETWORKS="127.0.0.0/8", STREAM__RESUME_WINDOW_S=0) as daemon:
        first = daemon.ask("POST", "/crawl/stream", {"urls": urls}, Idempotency_Key="k")
        path = f"/streams/{first.headers['x-stream-id']}"
        until(lambda: daemon.ask("GET", path).status == 404)
        second = daemon.ask("POST", "/crawl/stream", {"urls": urls}, Idempotency_Key="k")
        assert second.headers["x-stream-id"] != first.headers["x-stream-id"]
    assert fetched(origin, urls) == [2, 2]


@pytest.mark.parametrize("path", ["/crawl/stream", "/crawl/sse"])
def test_a_repeated_key_joins_the_running_crawl_from_its_start(daemon: Daemon, origin: Origin, path: str) -> None:
    urls = site(origin)
    key = f"join{path.replace('/', '.')}"
    first = daemon.ask("POST", path, {"urls": urls}, Idempotency_Key=key)
    again = daemon.ask("POST", path, {"urls": urls}, Idempotency_Key=key)
    assert (again.status, again.body) == (200, first.body)
    assert again.headers["x-stream-id"] == first.headers["x-stream-id"]
    assert refused(daemon.ask("POST", path, {"urls": urls[1:]}, Idempotency_Key=key))[:2] == (409, "conflict")
    assert fetched(origin, urls) == [1] * PAGES


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        ({"urls": []}, (400, "validation_error", "urls")),
        ({"urls": ["x"] * 1001}, (400, "validation_error", "urls")),
        ({"urls": ["x"], "stream": {"detatch": True}}, (400, "validation_error", "stream.detatch")),
        ({"urls": ["x"], "stream": {"detach": "yes"}}, (400, "validation_error", "stream.detach")),
        ({}, (400, "validation_error", "urls")),
        ([], (400, "validation_error", None)),
        (b"{", (400, "validation_error", None)),
    ],
)
def test_a_body_that_is_wrong_opens_nothing(daemon: Daemon, body: object, refusal: tuple[int, str, str | None]) -> None:
    before = known(daemon)
    assert refused(daemon.ask("POST", "/streams", body)) == refusal
    assert refused(daemon.ask("POST", "/streams", {"urls": ["x"]}, Content_Type="text/plain"))[0] == 415
    assert known(daemon) == before


# ── GET /streams and GET /streams/{id} ───────────────────────────────────────────────────


def test_a_stream_says_all_of_itself(daemon: Daemon) -> None:
    with hanging(2) as (urls, arrived):
        answer = daemon.ask("POST", "/streams", {"urls": urls}, X_Request_ID="mine")
        stream_id = answer.json["stream_id"]
        told = shown(daemon, stream_id)
        assert told.pop("opened_at").endswith("Z")
        kept = told.pop("kept_bytes")
        assert 0 < kept < 10_000
        unread = {
            "stream_id": stream_id,
            "stream_type": "crawl",
            "request_id": "mine",
            "state": "active",
            "status": None,
            "detached": False,
            "total_urls": 2,
            "successful": 0,
            "failed": 0,
            "first_seq": 1,
            "last_seq": 1,
            "pacer": "unclaimed",
            "subscribers": [],
        }
        assert told == unread
        with attached(daemon, "sse", stream_id) as reader:
            text = next(iter(reader))
            arrived()
            told = shown(daemon, stream_id)
            (subscriber,) = told["subscribers"]
            assert told["pacer"] == "held"
            assert subscriber.pop("sent_bytes") > len(text)
            assert subscriber == {
                "protocol": "sse",
                "pacer": True,
                "paused": False,
                "capacity_frames": 128,
                "capacity_bytes": 65_536,
                "sent_seq": 1,
                "unread_frames": 0,
                "unread_bytes": 0,
                "sent_frames": 1,
                "missed_frames": 0,
            }
        listed = daemon.ask("GET", "/streams").json["streams"]
        assert [s["request_id"] for s in listed if s["stream_id"] == stream_id] == ["mine"]
        assert daemon.ask("DELETE", f"/streams/{stream_id}").status == 200


@pytest.mark.parametrize("name", [UNKNOWN, "x", "%00", "a" * 5000])
@pytest.mark.parametrize(("method", "rest"), [("GET", ""), ("DELETE", ""), ("GET", "/events"), ("HEAD", "")])
def test_what_is_no_stream_is_not_found(daemon: Daemon, name: str, method: str, rest: str) -> None:
    answer = daemon.ask(method, f"/streams/{name}{rest}")
    assert answer.status == 404
    if method != "HEAD":
        assert answer.json["error"]["type"] == "not_found"


# ── where a reader begins ────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def closed(daemon: Daemon, origin: Origin) -> tuple[str, list[str]]:
    """A stream that was read to its end, and its URLs."""
    urls = site(origin)
    stream_id = opened(daemon, urls)
    check_whole(daemon.ask("GET", f"/streams/{stream_id}/events").frames, urls)
    return stream_id, urls


LAST = PAGES + 2

MALFORMED = [
    "",
    "x",
    "-1",
    "+1",
    " 1",
    "1.0",
    "1e1",
    "0x1",
    "1_0",
    "1,2",
    "9" * 19,
    "9" * 5000,
    "\u0661",
    "\uff11",
    "%00",
    "1%00",
]


@pytest.mark.parametrize("after", [*MALFORMED, str(LAST + 1), "9" * 18])
def test_an_after_that_is_no_frame_is_refused(daemon: Daemon, closed: tuple[str, list[str]], after: str) -> None:
    escaped = "".join(c if c.isascii() and c != " " else "".join(f"%{b:02X}" for b in c.encode()) for c in after)
    answer = daemon.ask("GET", f"/streams/{closed[0]}/events?after={escaped.replace('+', '%2B')}")
    assert refused(answer) == (400, "validation_error", "after")


@pytest.mark.parametrize(
    ("query", "field"),
    [("?after=1&after=1", "after"), ("?after", "after"), ("?from=1", "from"), ("?after=1&x=1", "x")],
)
def test_any_other_query_is_refused(daemon: Daemon, closed: tuple[str, list[str]], query: str, field: str) -> None:
    answer = daemon.ask("GET", f"/streams/{closed[0]}/events{query}")
    assert refused(answer) == (400, "validation_error", field)


@pytest.mark.parametrize("path", ["/crawl/stream", "/crawl/sse", "/crawl", "/streams"])
def test_a_post_may_have_a_key_in_its_query_and_nothing_else(daemon: Daemon, path: str) -> None:
    for query, field in (("?concurrency=3", "concurrency"), ("?key=a&key=b", "key"), ("?key=a%20b", "key")):
        answer = daemon.ask("POST", path + query, {"urls": ["http://127.0.0.1:1/"]})
        assert refused(answer) == (400, "validation_error", field)


@pytest.mark.parametrize("path", ["/streams/{id}/events", "/crawl/sse", "/crawl/sse?url=http://127.0.0.1:1/"])
@pytest.mark.parametrize(
    "given",
    [
        *[f"@:{number}".encode() for number in MALFORMED if "%" not in number],
        b"@",
        b"1",
        b"@:1:2",
        b"@;1",
        b"@:1, @:2",
        b"@:15",
        b"@:" + b"9" * 18,
        b"ABCDE-" + b"0" * 32 + b":1",
        b"\xff\xfe:1",
    ],
)
def test_a_last_event_id_that_is_none_of_ours_is_refused(
    daemon: Daemon, closed: tuple[str, list[str]], path: str, given: bytes
) -> None:
    with daemon.connect() as peer:
        request = peer.request("GET", path.replace("{id}", closed[0]), Last_Event_ID="?id?")
        peer.send(request.replace(b"?id?", given.replace(b"@", closed[0].encode())))
        assert refused(peer.read()) == (400, "validation_error", "Last-Event-ID")


def test_a_nul_in_a_last_event_id_is_no_http(daemon: Daemon, closed: tuple[str, list[str]]) -> None:
    with daemon.connect() as peer:
        peer.send(peer.request("GET", "/crawl/sse", Last_Event_ID=f"{closed[0]}:1\0"))
        assert refused(peer.read())[:2] == (400, "bad_request")


def test_an_empty_last_event_id_is_none(daemon: Daemon) -> None:
    """To an EventSource it is the same as none, and so it is to us: the request is looked at."""
    answer = daemon.ask("GET", "/crawl/sse", Last_Event_ID="")
    assert refused(answer) == (400, "validation_error", "url")


def test_two_last_event_ids_are_none(daemon: Daemon, closed: tuple[str, list[str]]) -> None:
    with daemon.connect() as peer:
        one = f"Last-Event-ID: {closed[0]}:1\r\n".encode()
        request = peer.request("GET", f"/streams/{closed[0]}/events")
        peer.send(request.removesuffix(b"\r\n") + one + one + b"\r\n")
        assert refused(peer.read())[:2] == (400, "validation_error")


def test_the_id_of_another_stream_reads_neither(daemon: Daemon, origin: Origin, closed: tuple[str, list[str]]) -> None:
    other = opened(daemon, site(origin, 1))
    answer = daemon.ask("GET", f"/streams/{closed[0]}/events", Last_Event_ID=f"{other}:1")
    assert refused(answer) == (400, "validation_error", "Last-Event-ID")
    answer = daemon.ask("GET", f"/streams/{UNKNOWN}/events", Last_Event_ID=f"{closed[0]}:1")
    assert refused(answer)[:2] == (404, "not_found")


@pytest.mark.parametrize("path", ["/crawl/sse", "/crawl/sse?url=http://127.0.0.1:1/&key=k"])
def test_the_id_of_a_stream_that_is_gone_is_not_found(daemon: Daemon, path: str) -> None:
    before = known(daemon)
    assert refused(daemon.ask("GET", path, Last_Event_ID=f"{UNKNOWN}:1"))[:2] == (404, "not_found")
    assert known(daemon) == before


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_reader_begins_after_any_frame(daemon: Daemon, closed: tuple[str, list[str]], protocol: str) -> None:
    stream_id, urls = closed
    for after in range(LAST):
        with attached(daemon, protocol, stream_id, after) as reader:
            check_whole(reader.frames(), urls, after)


def test_last_event_id_wins_over_after(daemon: Daemon, closed: tuple[str, list[str]]) -> None:
    stream_id, urls = closed
    answer = daemon.ask("GET", f"/streams/{stream_id}/events?after=2", Last_Event_ID=f"{stream_id}:9")
    check_whole(answer.frames, urls, 9)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_at_a_closed_streams_last_frame_there_is_nothing(
    daemon: Daemon, closed: tuple[str, list[str]], method: str
) -> None:
    stream_id, _ = closed
    at_end = f"{stream_id}:{LAST}"
    for answer in (
        daemon.ask(method, f"/streams/{stream_id}/events?after={LAST}"),
        daemon.ask(method, f"/streams/{stream_id}/events", Last_Event_ID=at_end),
        daemon.ask(method, "/crawl/sse?url=http://127.0.0.1:1/", Last_Event_ID=at_end, Accept=ACCEPT["sse"]),
    ):
        assert (answer.status, answer.body) == (204, b"")
        assert "content-length" not in answer.headers
        assert "transfer-encoding" not in answer.headers


def test_at_a_closed_streams_last_frame_a_subscription_is_complete(
    daemon: Daemon, closed: tuple[str, list[str]]
) -> None:
    with websocket(daemon) as ws:
        assert json.loads(ws.recv())["type"] == "welcome"
        ws.send(json.dumps({"type": "subscribe", "id": "1", "stream_id": closed[0], "after": LAST}))
        assert json.loads(ws.recv()) == {"type": "ack", "id": "1", "stream_id": closed[0], "complete": True}
        for after in (-1, LAST + 1, 2**70, "1", True, 1.5):
            ws.send(json.dumps({"type": "subscribe", "id": "2", "stream_id": closed[0], "after": after}))
            answer = json.loads(ws.recv())
            assert (answer["type"], answer["id"], answer["error"]["type"]) == ("error", "2", "validation_error"), after
        ws.send(json.dumps({"type": "subscribe", "id": "3", "stream_id": UNKNOWN}))
        assert json.loads(ws.recv())["error"]["type"] == "not_found"


@pytest.mark.parametrize(
    ("accept", "protocol"),
    [
        (None, "ndjson"),
        ("*/*", "ndjson"),
        ("application/x-ndjson", "ndjson"),
        ("application/json", "ndjson"),
        ("text/event-stream", "sse"),
        ("Text/Event-Stream", "sse"),
        ("text/event-stream, */*;q=0.1", "sse"),
        ("*/*, text/event-stream", "sse"),
        ("text/html, text/event-stream ; q=0.2", "sse"),
        ("text/event-stream;q=0", "ndjson"),
        ("text/event-stream;q=0.5, application/x-ndjson", "ndjson"),
        ("text/event-stream;q=0.6, application/x-ndjson;q=0.5", "sse"),
        ("text/event-stream;q=nonsense", "ndjson"),
        (",;,=", "ndjson"),
    ],
)
def test_accept_chooses_the_protocol(
    daemon: Daemon, closed: tuple[str, list[str]], accept: str | None, protocol: str
) -> None:
    headers = {} if accept is None else {"Accept": accept}
    answer = daemon.ask("GET", f"/streams/{closed[0]}/events", **headers)
    assert answer.headers["content-type"] == ACCEPT[protocol]
    assert answer.headers["x-stream-id"] == closed[0]


# ── what starts nothing ──────────────────────────────────────────────────────────────────


def test_get_with_a_key_or_a_last_event_id_starts_no_crawl_anew(daemon: Daemon, origin: Origin) -> None:
    urls = site(origin)
    path = "/crawl/sse?key=page-1&" + "&".join(f"url={url}" for url in urls)
    first = daemon.ask("GET", path)
    stream_id = first.headers["x-stream-id"]
    again = daemon.ask("GET", path)
    sent = first.body.replace(b": heartbeat\n\n", b"")  # told to one reader, where a page takes long
    assert (again.headers["x-stream-id"], again.body) == (stream_id, sent)
    by_header = daemon.ask("GET", path.replace("page-1", "other"), Idempotency_Key="page-1")
    assert by_header.headers["x-stream-id"] == stream_id
    rest = daemon.ask("GET", path, Last_Event_ID=f"{stream_id}:{PAGES}")
    assert rest.headers["x-stream-id"] == stream_id
    assert sent.endswith(rest.body.removeprefix(b"retry: 5\n"))
    assert rest.body.count(b"\ndata: ") == 2
    assert daemon.ask("GET", path, Last_Event_ID=f"{stream_id}:{LAST}").status == 204
    assert fetched(origin, urls) == [1] * PAGES


def test_head_starts_nothing(daemon: Daemon, origin: Origin) -> None:
    urls = site(origin, 2)
    stream_id = opened(daemon, urls)
    before = known(daemon)
    kinds = {
        f"/crawl/sse?url={urls[0]}": "text/event-stream",
        f"/crawl/sse?key=head&url={urls[0]}": "text/event-stream",
        "/firehose/stream": "application/x-ndjson",
        "/firehose/sse": "text/event-stream",
        f"/streams/{stream_id}/events": "application/x-ndjson",
        "/streams": "application/json",
        f"/streams/{stream_id}": "application/json",
    }
    for path, kind in kinds.items():
        answer = daemon.ask("HEAD", path)
        assert (answer.status, answer.headers["content-type"], answer.body) == (200, kind, b""), path
    assert daemon.ask("HEAD", "/crawl/sse").status == 400
    assert known(daemon) == before
    assert fetched(origin, urls) == [0, 0]
    for path, allowed in (("/crawl/stream", {"POST"}), ("/streams", {"GET", "HEAD", "POST"})):
        answer = daemon.ask("PUT", path)
        assert (answer.status, set(answer.headers["allow"].split(", "))) == (405, allowed)


# ── DELETE /streams/{id} ─────────────────────────────────────────────────────────────────


def test_cancelling_ends_running_fetches_at_once(daemon: Daemon) -> None:
    best_s = PATIENCE_S  # of some tries: the machine may be busy
    for _ in range(5):
        with hanging(4) as (urls, arrived):
            stream_id = opened(daemon, urls, detach=True)
            taken = arrived()
            begun = time.monotonic()
            answer = daemon.ask("DELETE", f"/streams/{stream_id}")
            assert (answer.status, answer.json) == (200, {"stream_id": stream_id, "status": "cancelled"})
            for sock in taken:
                try:
                    assert sock.recv(1) == b""
                except ConnectionResetError:
                    pass
            best_s = min(best_s, time.monotonic() - begun)
    assert best_s < 0.1


def test_cancelling_tells_every_reader(daemon: Daemon, origin: Origin) -> None:
    done = site(origin, 3)
    with hanging(2) as (urls, arrived), ExitStack() as stack:
        stream_id = opened(daemon, [*done, *urls])
        readers = [stack.enter_context(attached(daemon, protocol, stream_id)) for protocol in PROTOCOLS * 2]
        arrived()
        until(lambda: shown(daemon, stream_id)["successful"] == 3)
        assert daemon.ask("DELETE", f"/streams/{stream_id}").status == 200
        for reader in readers:
            frames = [frame for frame in reader.frames() if frame["type"] != "heartbeat"]
            assert [frame["seq"] for frame in frames] == [1, 2, 3, 4, 5]
            wanted = {
                "type": "summary",
                "status": "cancelled",
                "total_urls": 5,
                "successful": 3,
                "failed": 0,
                "cancelled": 2,
                "unfinished": [[3, 4]],
            }
            assert {key: frames[-1][key] for key in wanted} == wanted
        assert refused(daemon.ask("DELETE", f"/streams/{stream_id}"))[:2] == (409, "conflict")
        assert (shown(daemon, stream_id)["state"], shown(daemon, stream_id)["status"]) == ("closed", "cancelled")


def test_a_stream_that_nobody_read_is_cancelled_and_tells_so_later(daemon: Daemon) -> None:
    stream_id = opened(daemon, ["http://127.0.0.1:1/"])
    assert daemon.ask("DELETE", f"/streams/{stream_id}").status == 200
    for protocol in PROTOCOLS:
        with attached(daemon, protocol, stream_id) as reader:
            frames = reader.frames()
        assert [(frame["seq"], frame["type"]) for frame in frames] == [(1, "metadata"), (2, "summary")]
        assert frames[-1]["unfinished"] == [[0, 0]]


# ── many readers ─────────────────────────────────────────────────────────────────────────


def test_every_reader_gets_the_same_bytes_of_every_frame(daemon: Daemon, origin: Origin) -> None:
    urls = site(origin, 40, words=300)
    stream_id = opened(daemon, urls)
    with ExitStack() as stack:
        readers = [stack.enter_context(attached(daemon, protocol, stream_id)) for protocol in PROTOCOLS * 5]
        # One after the other: the kernel holds what the later ones have not read yet.
        texts = [list(reader) for reader in readers]
    assert len(texts[0]) == 42
    assert all(text == texts[0] for text in texts)
    assert json.loads(texts[0][-1])["status"] == "completed"
    assert fetched(origin, urls) == [1] * 40


@pytest.mark.parametrize("path", ["/crawl/stream", "/crawl/sse", "/firehose/stream", "/firehose/sse"])
def test_the_answer_names_its_stream(daemon: Daemon, path: str) -> None:
    if path.startswith("/crawl"):
        answer = daemon.ask("POST", path, {"urls": ["ftp://x/"]})
    else:
        answer = daemon.ask("GET", f"{path}?frames=1")
    named = answer.headers["x-stream-id"]
    assert answer.body.count(f'"stream_id":"{named}"'.encode()) == 3


def test_sse_over_http_1_0_ends_with_its_connection(daemon: Daemon, origin: Origin) -> None:
    urls = site(origin, 3)
    stream_id = ""
    for after in (0, 3):
        with daemon.connect() as peer:
            path = f"/streams/{stream_id}/events" if after else f"/crawl/sse?url={'&url='.join(urls)}"
            resume = f"Last-Event-ID: {stream_id}:{after}\r\n" if after else ""
            peer.send(f"GET {path} HTTP/1.0\r\nAccept: text/event-stream\r\n{resume}\r\n".encode())
            head = peer.head()
            assert "transfer-encoding" not in head.headers
            assert head.headers["connection"] == "close"
            stream_id = head.headers["x-stream-id"]
            body = peer.rest().decode()
        assert body.startswith("retry: 5\nevent: ")
        assert [line for line in body.splitlines() if line.startswith("id: ")] == [
            f"id: {stream_id}:{seq}" for seq in range(after + 1, 6)
        ]
        assert body.endswith("\n\n")


# ── signs of life, and their lack ────────────────────────────────────────────────────────


def test_a_quiet_stream_says_that_it_lives(daemon: Daemon) -> None:
    with hanging(1) as (urls, _):
        stream_id = opened(daemon, urls)
        with attached(daemon, "ndjson", stream_id) as lines, attached(daemon, "sse", stream_id) as reader:
            texts = iter(lines)
            beats = [json.loads(next(texts)) for _ in range(3)][1:]
            assert [sorted(beat) for beat in beats] == [["stream_id", "timestamp", "type"]] * 2
            assert all((beat["type"], beat["stream_id"]) == ("heartbeat", stream_id) for beat in beats)
            said = events(reader.peer)  # type: ignore[attr-defined]
            first = next(said)
            assert isinstance(first, Event)
            assert (first.event, first.id, first.retry) == ("metadata", f"{stream_id}:1", "5")
            assert [next(said), next(said)] == ["heartbeat", "heartbeat"]
        assert daemon.ask("DELETE", f"/streams/{stream_id}").status == 200


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_reader_that_takes_no_byte_is_let_go_and_may_return(origin: Origin, protocol: str) -> None:
    urls = site(origin, 120, words=8000)
    with Daemon(
        FETCH__ALLOW_NETWORKS="127.0.0.0/8",
        SERVER__WRITE_STALL_TIMEOUT_S=0.4,
        STREAM__HEARTBEAT_S=0.1,
        STREAM__JOURNAL_BYTES=1 << 24,  # more than a client library and the kernel take ahead of who reads one frame
    ) as daemon:
        stream_id = opened(daemon, urls)
        with attached(daemon, protocol, stream_id, receive_buffer=4096) as stuck:
            first = json.loads(next(iter(stuck)))
            until(lambda: shown(daemon, stream_id)["pacer"] == "left")
            assert shown(daemon, stream_id)["subscribers"] == []
            assert daemon.logs("connection.write_stall") != []
        with attached(daemon, protocol, stream_id, first["seq"]) as reader:
            check_whole(reader.frames(), urls, first["seq"])


def test_a_quiet_stream_notices_that_its_reader_takes_nothing() -> None:
    with (
        Daemon(
            FETCH__ALLOW_NETWORKS="127.0.0.0/8",
            FETCH__TIMEOUT_MS=600_000,  # the page does not end the stream before
            SERVER__WRITE_STALL_TIMEOUT_S=0.4,
            STREAM__HEARTBEAT_S=0.01,
        ) as daemon,
        hanging(1) as (urls, _),
    ):
        stream_id = opened(daemon, urls)
        with attached(daemon, "ndjson", stream_id, receive_buffer=2048):
            until(lambda: shown(daemon, stream_id)["pacer"] == "left")
        [stall] = daemon.logs("connection.write_stall")
        assert stall["bytes"] < 65_536  # by the heartbeats: its transport was never full


# ── nobody reads ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_detached_stream_waits_when_it_is_full_and_loses_nothing(origin: Origin, protocol: str) -> None:
    urls = site(origin, 60, words=1000)
    with Daemon(FETCH__ALLOW_NETWORKS="127.0.0.0/8", STREAM__DETACHED_BYTES=65_536) as daemon:
        stream_id = opened(daemon, urls, detach=True)
        until(lambda: shown(daemon, stream_id)["state"] == "waiting")
        assert 0 < sum(fetched(origin, urls)) < 60
        until(lambda: daemon.logs("stream.waiting"))
        with attached(daemon, protocol, stream_id) as reader:
            check_whole(reader.frames(), urls)
        assert fetched(origin, urls) == [1] * 60
        assert shown(daemon, stream_id)["state"] == "closed"


@pytest.mark.parametrize("claimed", [True, False])
def test_a_stream_to_which_nobody_comes_is_cancelled(claimed: bool) -> None:
    with (
        Daemon(FETCH__ALLOW_NETWORKS="127.0.0.0/8", STREAM__RESUME_WINDOW_S=0.3) as daemon,
        hanging(1) as (urls, arrived),
    ):
        stream_id = opened(daemon, urls)
        if claimed:
            with attached(daemon, "ndjson", stream_id) as reader:
                next(iter(reader))
                (sock,) = arrived()
            assert sock.recv(1) == b""
        (line,) = until(lambda: daemon.logs("stream.closed"))
        assert (line["stream_id"], line["status"]) == (stream_id, "cancelled")
        until(lambda: daemon.ask("GET", f"/streams/{stream_id}").status == 404)


# ── the pacer's place ────────────────────────────────────────────────────────────────────


def places(daemon: Daemon, stream_id: str) -> list[tuple[str, bool]]:
    return [(s["protocol"], s["pacer"]) for s in shown(daemon, stream_id)["subscribers"]]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_who_left_the_place_returns_to_it_and_a_watcher_never_holds_the_stream(
    daemon: Daemon, origin: Origin, protocol: str
) -> None:
    urls = site(origin, 150, words=8000)
    stream_id = opened(daemon, urls)
    with ExitStack() as stack:
        first = stack.enter_context(attached(daemon, "ndjson", stream_id, receive_buffer=4096))
        next(iter(first))  # and reads no more: the stream waits for it
        until(lambda: shown(daemon, stream_id)["subscribers"][0]["paused"])
        watcher = stack.enter_context(attached(daemon, "sse", stream_id, receive_buffer=4096))
        next(iter(watcher))
        assert places(daemon, stream_id) == [("ndjson", True), ("sse", False)]
        first.close()
        until(lambda: shown(daemon, stream_id)["pacer"] == "left")
        assert places(daemon, stream_id) == [("sse", False)]
        back = stack.enter_context(attached(daemon, protocol, stream_id, 1))
        texts = iter(back)
        second = json.loads(next(texts))
        assert second["seq"] == 2
        assert [held for _, held in places(daemon, stream_id)] == [False, True]
        # It reads to the end although the watcher takes nothing.
        check_whole([second, *map(json.loads, texts)], urls, 1)
        assert fetched(origin, urls) == [1] * 150


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_who_returned_before_the_old_connection_was_known_to_be_dead_inherits_the_place(
    daemon: Daemon, origin: Origin, protocol: str
) -> None:
    urls = site(origin, 3)
    with hanging(1) as (more, arrived):
        stream_id = opened(daemon, [*urls, *more])
        with ExitStack() as stack:
            old = stack.enter_context(attached(daemon, "ndjson", stream_id))
            watcher = stack.enter_context(attached(daemon, "ndjson", stream_id))
            next(iter(watcher))
            arrived()
            until(lambda: shown(daemon, stream_id)["successful"] == 3)
            new = stack.enter_context(attached(daemon, protocol, stream_id, 0))
            next(iter(new))
            assert [held for _, held in places(daemon, stream_id)] == [True, False, False]
            old.close()
            until(lambda: len(places(daemon, stream_id)) == 2)
            assert [held for _, held in places(daemon, stream_id)] == [False, True]
            assert shown(daemon, stream_id)["pacer"] == "held"
            assert daemon.ask("DELETE", f"/streams/{stream_id}").status == 200


def test_the_longest_attached_takes_a_place_to_which_nobody_returned(origin: Origin) -> None:
    urls = site(origin, 150, words=8000)
    with Daemon(
        FETCH__ALLOW_NETWORKS="127.0.0.0/8",
        STREAM__RESUME_WINDOW_S=0.3,
        STREAM__JOURNAL_BYTES=1 << 24,  # all of it, for the third
    ) as daemon:
        stream_id = opened(daemon, urls)
        with (
            attached(daemon, "ndjson", stream_id, receive_buffer=4096) as first,
            attached(daemon, "ndjson", stream_id) as second,
            attached(daemon, "sse", stream_id) as third,
        ):
            first.close()
            check_whole(second.frames(), urls)
            check_whole(third.frames(), urls)


# ── what is kept no more ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("journal_bytes", [0, 8192])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_kept_no_more_is_named_by_a_gap(origin: Origin, protocol: str, journal_bytes: int) -> None:
    urls = site(origin, 40, words=100)
    with (
        Daemon(FETCH__ALLOW_NETWORKS="127.0.0.0/8", STREAM__JOURNAL_BYTES=journal_bytes) as daemon,
        hanging(1) as (more, arrived),
    ):
        stream_id = opened(daemon, [*urls, *more])
        with attached(daemon, "ndjson", stream_id) as reader:
            texts = iter(reader)
            for _ in range(41):
                next(texts)
            arrived()
            until(lambda: shown(daemon, stream_id)["subscribers"][0]["sent_seq"] == 41)
            first = shown(daemon, stream_id)["first_seq"]
            assert first > 2
            for after in (None, 0, 1, 2):
                with attached(daemon, protocol, stream_id, after) as late:
                    said = iter(late)
                    if not after:
                        assert json.loads(next(said))["seq"] == 1
                    missed = (after or 1) + 1
                    assert json.loads(next(said)) == {
                        "type": "gap",
                        "stream_id": stream_id,
                        "from_seq": missed,
                        "to_seq": first - 1,
                        "reason": "expired",
                    }
                    assert [json.loads(next(said))["seq"] for _ in range(first, 42)] == list(range(first, 42))
            assert daemon.ask("DELETE", f"/streams/{stream_id}").status == 200
            assert json.loads(next(texts))["status"] == "cancelled"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_closed_stream_that_keeps_nothing_still_ends_for_who_comes_late(origin: Origin, protocol: str) -> None:
    urls = site(origin, 5)
    with Daemon(FETCH__ALLOW_NETWORKS="127.0.0.0/8", STREAM__JOURNAL_BYTES=0) as daemon:
        stream_id = opened(daemon, urls)
        with attached(daemon, "ndjson", stream_id) as reader:
            check_whole(reader.frames(), urls)
        for after in (0, 3, 6):
            with attached(daemon, protocol, stream_id, after) as late:
                frames = late.frames()
            assert frames[-1]["type"] == "summary", frames
            (gap,) = (frame for frame in frames if frame["type"] == "gap") if after < 6 else ({},)
            if gap:
                assert (gap["from_seq"], gap["to_seq"]) == (max(after + 1, 2), 6)


# ── CORS ─────────────────────────────────────────────────────────────────────────────────

ROUTES = [
    ("/crawl/stream", {"POST"}),
    ("/crawl/sse", {"POST", "GET", "HEAD"}),
    ("/crawl/ws", {"GET", "HEAD"}),
    ("/deepsearch/stream", {"POST"}),
    ("/streams", {"POST", "GET", "HEAD"}),
    (f"/streams/{UNKNOWN}", {"GET", "HEAD", "DELETE"}),
    (f"/streams/{UNKNOWN}/events", {"GET", "HEAD"}),
    ("/firehose/stream", {"GET", "HEAD"}),
    ("/firehose/sse", {"GET", "HEAD"}),
    ("/firehose/ws", {"GET", "HEAD"}),
    ("/metrics", {"GET", "HEAD"}),
    ("/healthz", {"GET", "HEAD"}),
    ("/livez", {"GET", "HEAD"}),
    ("/readyz", {"GET", "HEAD"}),
]
HEALTH = {"/healthz", "/livez", "/readyz"}
STRANGERS = [
    OTHER,
    "null",
    "https://127.0.0.1:5173",
    "http://127.0.0.1",
    "http://127.0.0.1:5173.evil.example",
    "http://evil.example/http://127.0.0.1:5173",
    "",
    "*",
]
ASKED = {
    "Access_Control_Request_Method": "POST",
    "Access_Control_Request_Headers": "content-type,idempotency-key,last-event-id,x-request-id",
}


@pytest.mark.parametrize(("path", "methods"), ROUTES)
@pytest.mark.parametrize("prefix", ["", "/api/v1"])
def test_a_page_of_an_allowed_origin_may_ask(daemon: Daemon, path: str, methods: set[str], prefix: str) -> None:
    preflight = daemon.ask("OPTIONS", prefix + path, Origin=ALLOWED, **ASKED)
    assert (preflight.status, preflight.body) == (204, b"")
    assert preflight.headers["access-control-allow-origin"] == ALLOWED
    assert set(preflight.headers["access-control-allow-methods"].split(", ")) == methods
    named = preflight.headers["access-control-allow-headers"].lower().replace(" ", "").split(",")
    assert set(ASKED["Access_Control_Request_Headers"].split(",")) <= set(named)
    assert "access-control-allow-credentials" not in preflight.headers
    assert "Origin" in preflight.headers["vary"]
    with daemon.connect() as peer:  # a refusal can be read as well
        peer.send(peer.request("PUT", prefix + path, Origin=ALLOWED))
        answer = peer.read()
    assert answer.status == 405
    assert answer.headers["access-control-allow-origin"] == ALLOWED


@pytest.mark.parametrize(("path", "methods"), ROUTES)
@pytest.mark.parametrize("stranger", STRANGERS)
def test_a_page_of_any_other_origin_may_not(daemon: Daemon, path: str, methods: set[str], stranger: str) -> None:
    before = known(daemon)
    preflight = daemon.ask("OPTIONS", path, Origin=stranger, **ASKED)
    assert refused(preflight)[:2] == (403, "forbidden")
    assert "access-control-allow-origin" not in preflight.headers
    for method in methods:
        body = {"urls": ["http://127.0.0.1:1/"]} if method == "POST" else None
        answer = daemon.ask(method, path, body, Origin=stranger)
        assert answer.status == (200 if path in HEALTH else 403)
        assert "access-control-allow-origin" not in answer.headers
    assert known(daemon) == before


@pytest.mark.parametrize(("path", "methods"), ROUTES)
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_that_does_not_name_its_origin_must_be_the_daemons_own(
    daemon: Daemon, path: str, methods: set[str], site: str
) -> None:
    for method in methods:
        body = {"urls": ["http://127.0.0.1:1/"]} if method == "POST" else None
        answer = daemon.ask(method, path, body, Sec_Fetch_Site=site)
        assert answer.status == (200 if path in HEALTH else 403)
    assert daemon.ask("GET", "/streams", Sec_Fetch_Site="same-origin").status == 200
    assert daemon.ask("GET", "/streams", Sec_Fetch_Site="none").status == 200


def test_a_stream_can_be_read_by_a_page_of_an_allowed_origin(daemon: Daemon) -> None:
    for path in ("/firehose/stream?frames=1", "/firehose/sse?frames=1"):
        answer = daemon.ask("GET", path, Origin=ALLOWED)
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, ALLOWED)
        assert "X-Stream-ID" in answer.headers["access-control-expose-headers"]
        own = daemon.ask("GET", path, Origin=f"http://{daemon.host}")
        assert (own.status, "access-control-allow-origin" in own.headers) == (200, False)


def test_options_that_is_no_preflight_is_no_method(daemon: Daemon) -> None:
    assert daemon.ask("OPTIONS", "/streams").status == 405
    assert daemon.ask("OPTIONS", "/streams", Origin=ALLOWED).status == 405
    assert daemon.ask("OPTIONS", "/nothing", Origin=ALLOWED, **ASKED).status == 404
