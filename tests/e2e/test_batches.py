"""What a batch may ask for: order, repeats, ids, options of single URLs, an end after errors, one document."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from itertools import count
from typing import Any

import pytest
from daemons import Daemon
from origins import Origin, Request, head

_numbers = count()


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon(
        FETCH__ALLOW_NETWORKS="127.0.0.0/8",
        FETCH__PER_HOST_CONCURRENCY=64,
        FETCH__RESPECT_ROBOTS="false",
        STREAM__HEARTBEAT_S=0.1,
    ) as running:
        yield running


def path() -> str:
    """One that no other test fetches."""
    return f"/batches-{next(_numbers)}"


def gated(origin: Origin, title: str) -> tuple[str, threading.Event]:
    """A page that answers when the test says so."""
    gate = threading.Event()

    async def answer(_: Request) -> AsyncIterator[bytes]:
        await asyncio.to_thread(gate.wait, 20)
        body = f"<title>{title}</title><p>here".encode()
        yield head(200, {"Content-Type": "text/html", "Content-Length": str(len(body))}) + body

    return origin.route(path(), answer), gate


def results(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [frame for frame in frames if frame["type"] == "result"]


# ── URLs ─────────────────────────────────────────────────────────────────────────────────


def test_a_url_may_have_an_id_and_options_of_its_own(daemon: Daemon, origin: Origin) -> None:
    page = origin.page(path(), "<title>One</title><p>text of it<a href='/x'>x</a>")
    frames = daemon.crawl(
        page,
        {"url": page, "id": "ñ 1"},
        {"url": page, "id": "with html", "options": {"include": ["html"], "max_body_bytes": 1000}},
        {"url": page, "id": "too large", "options": {"max_body_bytes": 10}},
        order="input",
        include=["text"],
    )
    found = [frame["result"] for frame in results(frames)]
    assert [result.get("id") for result in found] == [None, "ñ 1", "with html", "too large"]
    assert [result.get("duplicate_of") for result in found] == [None, 0, None, None]
    assert found[0]["document"] == found[1]["document"]
    assert found[0]["document"]["text"].startswith("text of it")
    assert found[2]["document"]["html"].startswith("<title>One")
    assert found[2]["document"]["text"] is None
    assert found[3]["error"]["type"] == "too_large"


def test_a_repeated_url_is_asked_for_once_whatever_the_cache_mode(daemon: Daemon, origin: Origin) -> None:
    name = path()
    page = origin.page(name, "<title>Once</title>")
    other_case = page.replace("http://", "HTTP://")
    frames = daemon.crawl(page, page, other_case, "nonsense", "nonsense", cache_mode="bypass")
    found = {frame["index"]: frame["result"] for frame in results(frames)}
    assert sorted(found) == [0, 1, 2, 3, 4]
    assert [found[at].get("duplicate_of") for at in range(5)] == [None, 0, 0, None, 3]
    assert [found[at]["url"] for at in range(5)] == [page, page, other_case, "nonsense", "nonsense"]
    assert {found[at]["document"]["title"] for at in range(3)} == {"Once"}
    assert {found[at]["error"]["type"] for at in (3, 4)} == {"invalid_url"}
    assert origin.hits[name] == 1
    assert (frames[-1]["successful"], frames[-1]["failed"]) == (3, 2)


def test_without_dedupe_each_is_asked_for(daemon: Daemon, origin: Origin) -> None:
    name = path()
    page = origin.page(name, "<title>Thrice</title>")
    frames = daemon.crawl(page, page, page, cache_mode="bypass", dedupe=False)
    assert all("duplicate_of" not in frame["result"] for frame in results(frames))
    assert origin.hits[name] == 3


# ── order and early end ──────────────────────────────────────────────────────────────────


def test_input_order_holds_back_what_is_finished_before_its_turn(daemon: Daemon, origin: Origin) -> None:
    slow, gate = gated(origin, "Slow")
    quick = [origin.page(path(), f"<title>Quick {at}</title>") for at in range(5)]
    with daemon.connect() as peer:
        peer.send(peer.request("POST", "/crawl/stream", {"urls": [slow, *quick], "options": {"order": "input"}}))
        assert peer.head().status == 200
        frames = peer.frames()
        assert next(frames)["type"] == "metadata"
        assert next(frames)["type"] == "heartbeat"  # all quick ones are held, and the stream is alive
        gate.set()
        rest = [frame for frame in frames if frame["type"] != "heartbeat"]
    assert [frame["index"] for frame in results(rest)] == [0, 1, 2, 3, 4, 5]
    assert rest[-1]["status"] == "completed"


def test_a_stream_ends_after_as_many_errors_as_it_allows(daemon: Daemon, origin: Origin) -> None:
    slow, gate = gated(origin, "Slow")
    frames = daemon.crawl("nonsense", slow, "more nonsense", slow + "?2", stop_after_errors=2)
    gate.set()
    assert [frame["type"] for frame in frames] == ["metadata", "result", "result", "error", "summary"]
    assert frames[3]["error"]["type"] == "too_many_errors"
    assert (frames[4]["status"], frames[4]["unfinished"]) == ("failed", [[1, 1], [3, 3]])
    assert daemon.ask("GET", "/healthz").json["status"] == "healthy"


# ── one document ─────────────────────────────────────────────────────────────────────────


def test_a_batch_is_one_document_in_the_input_s_order(daemon: Daemon, origin: Origin) -> None:
    pages = [origin.page(path(), f"<title>Page {at}</title>") for at in range(8)]
    urls = [*pages, "nonsense", {"url": pages[0], "id": "again"}]
    answer = daemon.ask("POST", "/crawl", {"urls": urls})
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store, no-transform"
    document = answer.json
    assert list(document) == ["results", "summary"]
    assert [result["index"] for result in document["results"]] == list(range(10))
    assert [result["url"] for result in document["results"]] == [*pages, "nonsense", pages[0]]
    assert document["results"][3]["document"]["title"] == "Page 3"
    assert document["results"][8]["error"]["type"] == "invalid_url"
    assert (document["results"][9]["id"], document["results"][9]["duplicate_of"]) == ("again", 0)
    assert (document["summary"]["status"], document["summary"]["successful"]) == ("completed", 9)
    assert document["summary"]["stream_id"] == answer.headers["x-stream-id"]


def test_the_document_is_sent_as_it_grows_and_white_space_says_that_it_lives(daemon: Daemon, origin: Origin) -> None:
    quick = origin.page(path(), "<title>Quick</title>")
    slow, gate = gated(origin, "Slow")
    with daemon.connect() as peer:
        peer.send(peer.request("POST", "/crawl", {"urls": [quick, slow]}))
        assert peer.head().status == 200
        chunks = peer.chunks()
        text = next(chunks)
        assert text == b'{"results":['
        while b"Quick" not in text:
            text += next(chunks)
        while not text.endswith(b"\n"):
            text += next(chunks)
        gate.set()
        text += b"".join(chunks)
    assert [result["document"]["title"] for result in json.loads(text)["results"]] == ["Quick", "Slow"]


def test_a_document_over_http_1_0_ends_with_the_connection(daemon: Daemon, origin: Origin) -> None:
    page = origin.page(path(), "<title>Old</title>")
    body = json.dumps({"urls": [page]}).encode()
    with daemon.connect() as peer:
        peer.send(b"POST /crawl HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body))
        peer.send(body)
        assert peer.head().status == 200
        assert json.loads(peer.rest())["results"][0]["document"]["title"] == "Old"


def test_a_failed_batch_says_why_before_its_summary(daemon: Daemon) -> None:
    options = {"stop_after_errors": 1, "concurrency": 1}
    document = daemon.ask("POST", "/crawl", {"urls": ["nonsense", "http://127.0.0.1:1/"], "options": options}).json
    assert list(document) == ["results", "error", "summary"]
    assert document["error"]["type"] == "too_many_errors"
    assert document["summary"]["unfinished"] == [[1, 1]]


def test_a_repeated_key_is_409_with_the_stream_whose_frames_can_be_had(daemon: Daemon, origin: Origin) -> None:
    page = origin.page(path(), "<title>Keyed</title>")
    first = daemon.ask("POST", "/crawl", {"urls": [page]}, idempotency_key="whole-1")
    stream_id = first.headers["x-stream-id"]
    again = daemon.ask("POST", "/crawl", {"urls": [page]}, idempotency_key="whole-1")
    assert again.status == 409
    error = again.json["error"]
    assert (error["type"], error["field"], error["stream_id"]) == ("conflict", "Idempotency-Key", stream_id)
    frames = daemon.ask("GET", f"/streams/{stream_id}/events").frames
    assert [frame["type"] for frame in frames] == ["metadata", "result", "summary"]
    other = daemon.ask("POST", "/crawl", {"urls": [page, page]}, idempotency_key="whole-1")
    assert (other.status, "stream_id" in other.json["error"]) == (409, False)


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ({"stream": {"on_slow": "drop"}}, "stream.on_slow"),
        ({"stream": {"on_slow": "disconnect"}}, "stream.on_slow"),
        ({"stream": {"detach": True}}, "stream.detach"),
        ({"options": {"order": "completion"}}, "options.order"),
        ({"urls": []}, "urls"),
        ({"urls": ["x"] * 1001}, "urls"),
    ],
)
def test_what_does_not_fit_one_document_is_refused(daemon: Daemon, part: dict[str, Any], field: str) -> None:
    answer = daemon.ask("POST", "/crawl", {"urls": ["x"], **part})
    assert (answer.status, answer.json["error"]["field"]) == (400, field)


def test_a_reader_that_left_a_document_can_have_the_rest_as_frames(daemon: Daemon, origin: Origin) -> None:
    quick = origin.page(path(), "<title>Quick</title>")
    slow, gate = gated(origin, "Slow")
    with daemon.connect() as peer:
        peer.send(peer.request("POST", "/crawl", {"urls": [quick, slow]}))
        stream_id = peer.head().headers["x-stream-id"]
    gate.set()
    frames = daemon.ask("GET", f"/streams/{stream_id}/events?after=0").frames
    assert [frame["index"] for frame in results(frames)] == [0, 1]
    assert frames[-1]["status"] == "completed"
