"""The cache as a client and an origin see it: what is asked for again, what is not, and who is told what."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from daemons import PATIENCE_S, Daemon, Peer
from origins import HTML, Origin, Request, head

ALLOW = {"FETCH__ALLOW_NETWORKS": "127.0.0.0/8", "FETCH__RESPECT_ROBOTS": "false", "FETCH__RETRIES": "0"}

SHARED = 'fastmesh_cache_requests_total{outcome="shared"}'


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon(**ALLOW) as daemon:
        yield daemon


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin(cache_control=None) as origin:
        yield origin


def result(daemon: Daemon, url: str, **options: Any) -> dict[str, Any]:
    """The result of a crawl of *url*."""
    (found,) = [frame["result"] for frame in daemon.crawl(url, **options) if frame["type"] == "result"]
    return dict(found)


def page(text: str) -> str:
    return f"<title>{text}</title><p>{text}"


def served(origin: Origin, path: str, *answers: bytes) -> str:
    """Serve *answers* in turn, the last one again and again."""
    left = list(answers)

    async def answer(_: Request) -> AsyncIterator[bytes]:
        yield left.pop(0) if len(left) > 1 else left[0]

    origin.route(path, answer)
    return origin.url(path)


def whole(text: str, **fields: str) -> bytes:
    body = page(text).encode()
    return head(200, {**HTML, "Content-Length": str(len(body)), **dashed(fields)}) + body


def dashed(fields: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in fields.items()}


def test_a_page_that_says_nothing_is_kept_and_the_result_says_where_it_came_from(
    daemon: Daemon, origin: Origin
) -> None:
    url = served(origin, "/plain", whole("one"), whole("two"))
    first, second = result(daemon, url), result(daemon, url)
    assert origin.hits["/plain"] == 1
    assert (first["from_cache"], first["gate_decision"] == "cached", first["attempts"]) == (False, False, 1)
    assert (second["from_cache"], second["gate_decision"], second["attempts"]) == (True, "cached", 0)
    assert second["fetched_at"] == first["fetched_at"]
    assert re.fullmatch("[0-9a-f]{32}", first["cache_key"])
    changed = {"from_cache", "gate_decision", "attempts", "processing_time_ms"}
    assert {k: v for k, v in first.items() if k not in changed} == {k: v for k, v in second.items() if k not in changed}


def test_the_summary_counts_what_came_from_the_cache(daemon: Daemon, origin: Origin) -> None:
    kept = served(origin, "/kept", whole("kept"))
    fresh = served(origin, "/fresh", whole("fresh"))
    result(daemon, kept)
    summary = daemon.crawl(kept, fresh)[-1]
    assert (summary["from_cache"], summary["cache_hit_rate"]) == (1, 0.5)


@pytest.mark.parametrize(
    "fields",
    [
        {"Cache_Control": "no-store"},
        {"Cache_Control": "max-age=0"},
        {"Cache_Control": "no-cache"},
        {"Expires": "0"},
        {"Vary": "*"},
        {"Cache_Control": "max-age=60", "Age": "60"},
    ],
    ids=str,
)
def test_what_may_not_be_kept_or_is_stale_is_asked_for_again(
    daemon: Daemon, origin: Origin, fields: dict[str, str]
) -> None:
    url = served(origin, "/not", whole("one", **fields), whole("two", **fields))
    assert [result(daemon, url)["document"]["title"] for _ in range(2)] == ["one", "two"]


@pytest.mark.parametrize(
    ("tag", "condition"),
    [
        ({"ETag": '"v1"'}, 'if-none-match: "v1"'),
        ({"Last_Modified": "Mon, 02 Mar 2026 10:00:00 GMT"}, "if-modified-since: mon, 02 mar 2026 10:00:00 gmt"),
    ],
    ids=["etag", "last-modified"],
)
def test_a_stale_page_is_asked_whether_it_holds(
    daemon: Daemon, origin: Origin, tag: dict[str, str], condition: str
) -> None:
    stale = {"Cache_Control": "max-age=0", **tag}
    held = head(304, dashed({"Cache_Control": "max-age=60", **tag}))
    url = served(origin, "/etag", whole("one", **stale), held)
    first, second, third = (result(daemon, url) for _ in range(3))
    assert origin.hits["/etag"] == 2
    assert condition in origin.heads["/etag"][1].lower()
    assert "if-" not in origin.heads["/etag"][0].lower().replace("if-match", "")
    assert [r["from_cache"] for r in (first, second, third)] == [False, True, True]
    assert [r["attempts"] for r in (first, second, third)] == [1, 1, 0]
    assert [r["status"] for r in (first, second, third)] == [200, 200, 200]
    assert second["document"] == first["document"] == third["document"]
    assert first["fetched_at"] <= second["fetched_at"] == third["fetched_at"]


@pytest.mark.parametrize("mode", ["read_through", "refresh"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("If-None-Match", '"mine"'),
        ("if-match", '"mine"'),
        ("If-Modified-Since", "Mon, 02 Mar 2026 10:00:00 GMT"),
        ("If-Unmodified-Since", "Mon, 02 Mar 2026 10:00:00 GMT"),
        ("Range", "bytes=0-9"),
        ("If-Range", '"mine"'),
    ],
)
def test_what_a_client_asks_conditionally_does_not_meet_the_cache(
    daemon: Daemon, origin: Origin, mode: str, name: str, value: str
) -> None:
    url = served(origin, "/own", whole("fresh", Cache_Control="max-age=60", ETag='"v1"'))
    for _ in range(2):
        assert not result(daemon, url, headers={name: value}, cache_mode=mode)["from_cache"]
    sent = [line for line in origin.heads["/own"][1].lower().split("\r\n") if line.startswith(("if-", "range"))]
    assert sent == [f"{name}: {value}".lower()]
    assert result(daemon, url, headers={name: value}, cache_mode="cache_only")["error"]["type"] == "cache_miss"
    assert not result(daemon, url)["from_cache"]  # nor was anything kept for others


def test_a_stale_page_that_changed_is_replaced(daemon: Daemon, origin: Origin) -> None:
    stale = {"Cache_Control": "max-age=0", "ETag": '"a"'}
    url = served(origin, "/changed", whole("one", **stale), whole("two", Cache_Control="max-age=60"))
    assert [result(daemon, url)["document"]["title"] for _ in range(3)] == ["one", "two", "two"]
    assert origin.hits["/changed"] == 2


def test_an_error_that_passes_does_not_take_the_place_of_what_is_kept(daemon: Daemon, origin: Origin) -> None:
    stale = {"Cache_Control": "max-age=0", "ETag": '"a"'}
    url = served(
        origin, "/flaky", whole("one", **stale), head(503, {"Content-Length": "0"}), head(304, dashed({"ETag": '"a"'}))
    )
    assert [result(daemon, url)["status"] for _ in range(3)] == [200, 503, 200]
    assert 'if-none-match: "a"' in origin.heads["/flaky"][2].lower()


def test_errors_that_stay_are_kept_briefly_and_say_their_status(daemon: Daemon, origin: Origin) -> None:
    gone = origin.page("/gone", "no", status=410)
    broken = origin.page("/broken", "no", status=500)
    assert [result(daemon, gone)["error"]["message"] for _ in range(2)] == ["the origin answered with status 410"] * 2
    assert [result(daemon, broken)["status"] for _ in range(2)] == [500, 500]
    assert (origin.hits["/gone"], origin.hits["/broken"]) == (1, 2)


def test_cache_modes(daemon: Daemon, origin: Origin) -> None:
    url = served(origin, "/modes", *(whole(str(n)) for n in range(1, 9)))

    def title(mode: str) -> str:
        found = result(daemon, url, cache_mode=mode)
        return found["document"]["title"] if found["error"] is None else found["error"]["type"]

    asked = "cache_only bypass cache_only read_through bypass read_through refresh read_through cache_only".split()
    assert [title(mode) for mode in asked] == ["cache_miss", "1", "cache_miss", "2", "3", "2", "4", "4", "4"]
    assert result(daemon, url, cache_mode="bypass")["cache_key"] is None


def test_who_wants_it_newer_asks_the_origin(daemon: Daemon, origin: Origin) -> None:
    url = served(origin, "/age", whole("one", Age="100", Cache_Control="max-age=600"), whole("two"))
    assert result(daemon, url)["document"]["title"] == "one"
    assert result(daemon, url, max_age_s=600)["document"]["title"] == "one"
    assert result(daemon, url, max_age_s=100)["document"]["title"] == "two"


def test_other_credentials_are_another_page(daemon: Daemon, origin: Origin) -> None:
    url = served(origin, "/mine", *(whole(name) for name in "abc"))
    asked = [{"Authorization": "Bearer A"}, {"Authorization": "Bearer B"}, {}, {"authorization": "Bearer A"}]
    found = [result(daemon, url, headers=headers) for headers in asked]
    assert [r["document"]["title"] for r in found] == ["a", "b", "c", "a"]
    assert result(daemon, url, user_agent="another/1")["from_cache"] is False


def test_each_extraction_of_a_kept_page_is_made_of_the_same_body(daemon: Daemon, origin: Origin) -> None:
    url = origin.page("/parts", page("x") + "<a href=/y>y</a>")
    with_links = result(daemon, url, include=["links"])["document"]
    with_text = result(daemon, url, include=["text"])["document"]
    assert origin.hits["/parts"] == 1
    assert (with_links["text"], with_text["links"]) == (None, None)
    assert with_links["links"]
    assert with_text["text"]


def test_a_page_is_extracted_once_whatever_its_ids_are(daemon: Daemon, origin: Origin) -> None:
    url = origin.page("/ids", page("ids"))
    assert result(daemon, url)["document"]["title"] == "ids"
    kept = daemon.metric("fastmesh_cache_bytes")
    for id_ in ("x", "x" * 256, "é" * 100):
        for named in (url, f"{url}#{'f' * len(id_)}"):
            (found,) = [frame for frame in daemon.crawl({"url": named, "id": id_}) if frame["type"] == "result"]
            assert (found["result"]["id"], found["result"]["document"]["title"]) == (id_, "ids")
    assert daemon.metric("fastmesh_cache_bytes") == kept  # each further document would weigh as much as the first


def test_a_redirect_is_kept_when_it_may_be_and_its_end_is_kept_by_itself(daemon: Daemon, origin: Origin) -> None:
    end = served(origin, "/end", whole("end"))
    for path, status in (("/for-good", 301), ("/for-now", 302)):
        url = origin.page(path, status=status, headers={"Location": "/end"})
        found = [result(daemon, url) for _ in range(2)]
        assert [r["final_url"] for r in found] == [end, end]
        assert found[1]["from_cache"] is True
    assert origin.hits == {"/for-good": 1, "/for-now": 2, "/end": 1}


def test_a_smaller_limit_holds_for_what_is_kept(daemon: Daemon, origin: Origin) -> None:
    url = origin.page("/large", page("x" * 1000))
    assert result(daemon, url)["error"] is None
    smaller = result(daemon, url, max_body_bytes=500)
    assert (smaller["error"]["type"], smaller["status"], smaller["final_url"]) == ("too_large", 200, url)
    assert origin.hits["/large"] == 1


def test_a_smaller_limit_holds_for_what_the_origin_confirms(daemon: Daemon, origin: Origin) -> None:
    stale = {"Cache_Control": "max-age=0", "ETag": '"a"'}
    url = served(origin, "/held", whole("x" * 1000, **stale), head(304, dashed({"ETag": '"a"'})))
    assert result(daemon, url)["error"] is None
    assert result(daemon, url, max_body_bytes=500)["error"]["type"] == "too_large"
    assert origin.hits["/held"] == 2


class Gate:
    """A page that answers when it is told to."""

    def __init__(self, origin: Origin, path: str, answer: bytes) -> None:
        self.open = threading.Event()
        self.url = origin.url(path)

        async def hold(_: Request) -> AsyncIterator[bytes]:
            while not self.open.is_set():  # noqa: ASYNC110 - it is set by another thread
                await asyncio.sleep(0.001)
            yield answer

        origin.route(path, hold)


def cancel(daemon: Daemon, reader: Peer) -> None:
    """End the stream that *reader* has asked for."""
    stream_id = reader.head().headers["x-stream-id"]
    assert daemon.ask("DELETE", f"/streams/{stream_id}").status < 300


def until(true: Callable[[], bool]) -> None:
    """Wait for what must become true in another process."""
    give_up_at = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < give_up_at
        time.sleep(0.005)


def test_streams_that_ask_for_the_same_page_at_once_share_one_fetch(daemon: Daemon, origin: Origin) -> None:
    gate = Gate(origin, "/shared", whole("shared", Cache_Control="max-age=60"))
    before = daemon.metric(SHARED)
    readers = [threading.Thread(target=lambda: found.append(result(daemon, gate.url))) for _ in range(50)]
    found: list[dict[str, Any]] = []
    for reader in readers:
        reader.start()
    until(lambda: daemon.metric("fastmesh_pipeline_inflight") == 50)
    gate.open.set()
    for reader in readers:
        reader.join(PATIENCE_S)
    assert [r["document"]["title"] for r in found] == ["shared"] * 50
    assert origin.hits["/shared"] == 1
    assert daemon.metric(SHARED) - before == 49


def test_who_shares_a_fetch_whose_body_fails_is_told_what_was_answered(daemon: Daemon, origin: Origin) -> None:
    gate = Gate(origin, "/cut", head(200, {**HTML, "Content-Length": "100"}) + b"less")
    found: list[dict[str, Any]] = []
    readers = [threading.Thread(target=lambda: found.append(result(daemon, gate.url))) for _ in range(3)]
    for reader in readers:
        reader.start()
    until(lambda: daemon.metric("fastmesh_pipeline_inflight") == 3)
    gate.open.set()
    for reader in readers:
        reader.join(PATIENCE_S)
    told = [(r["error"]["type"], r["status"], r["final_url"], r["content_type"]) for r in found]
    assert told == [("connect", 200, gate.url, "text/html")] * 3
    assert origin.hits["/cut"] == 1


def test_what_is_for_one_alone_is_fetched_by_each(daemon: Daemon, origin: Origin) -> None:
    gate = Gate(origin, "/alone", whole("alone", Cache_Control="no-store"))
    readers = [threading.Thread(target=lambda: found.append(result(daemon, gate.url))) for _ in range(5)]
    found: list[dict[str, Any]] = []
    for reader in readers:
        reader.start()
    until(lambda: daemon.metric("fastmesh_pipeline_inflight") == 5)
    gate.open.set()
    for reader in readers:
        reader.join(PATIENCE_S)
    assert [r["document"]["title"] for r in found] == ["alone"] * 5
    assert origin.hits["/alone"] == 5


def test_who_began_a_fetch_may_leave_and_the_others_get_their_page(daemon: Daemon, origin: Origin) -> None:
    gate = Gate(origin, "/left", whole("left", Cache_Control="max-age=60"))
    beginner = daemon.connect()
    beginner.send(beginner.request("POST", "/crawl/stream", {"urls": [gate.url]}))
    until(lambda: origin.hits["/left"] == 1)
    found: list[dict[str, Any]] = []
    other = threading.Thread(target=lambda: found.append(result(daemon, gate.url)))
    other.start()
    until(lambda: daemon.metric("fastmesh_pipeline_inflight") == 2)
    cancel(daemon, beginner)
    until(lambda: daemon.metric("fastmesh_pipeline_inflight") == 1)
    gate.open.set()
    other.join(PATIENCE_S)
    assert [r["document"]["title"] for r in found] == ["left"]
    assert origin.hits["/left"] == 1


def test_when_all_have_left_the_fetch_ends(daemon: Daemon, origin: Origin) -> None:
    gate = Gate(origin, "/nobody", whole("nobody"))
    only = daemon.connect()
    only.send(only.request("POST", "/crawl/stream", {"urls": [gate.url]}))
    until(lambda: origin.hits["/nobody"] == 1)
    cancel(daemon, only)
    until(lambda: daemon.metric("fastmesh_pipeline_inflight") == 0)
    gate.open.set()
    assert result(daemon, gate.url)["document"]["title"] == "nobody"
    assert origin.hits["/nobody"] == 2


def test_the_cache_keeps_within_its_bytes(origin: Origin) -> None:
    urls = [origin.page(f"/p{n}", page(f"{n} " + "word " * 20_000)) for n in range(20)]
    with Daemon(CACHE__MAX_BYTES="1000000", **ALLOW) as daemon:
        for url in urls:
            assert result(daemon, url)["error"] is None
        figures = daemon.ask("GET", "/healthz").json["dependencies"]["cache"]
        assert figures["max_bytes"] == 1_000_000
        assert 500_000 < figures["bytes"] <= 1_000_000
        assert result(daemon, urls[-1])["from_cache"] is True
        assert result(daemon, urls[0])["from_cache"] is False


def test_pages_that_push_each_other_out_of_the_cache_arrive_whole(origin: Origin) -> None:
    urls = [origin.page(f"/many{n}", page("word " * 6_000)) for n in range(60)]
    with Daemon(CACHE__MAX_BYTES="100000", FETCH__PER_HOST_CONCURRENCY="32", **ALLOW) as daemon:
        found = [frame["result"] for frame in daemon.crawl(*urls, concurrency=32) if frame["type"] == "result"]
        assert {(r["error"], r["document"] and r["document"]["word_count"]) for r in found} == {(None, 6_000)}


def test_what_leaves_the_cache_while_the_origin_confirms_it_arrives_whole(origin: Origin) -> None:
    stale = {"Cache_Control": "max-age=0", "ETag": '"a"'}
    asked, gate = threading.Event(), threading.Event()
    answers = iter([whole("kept", **stale), head(304, dashed({"ETag": '"a"'}))])

    async def answer(_: Request) -> AsyncIterator[bytes]:
        if asked.is_set():
            await asyncio.to_thread(gate.wait, PATIENCE_S)
        asked.set()
        yield next(answers)

    origin.route("/confirmed", answer)
    url, large = origin.url("/confirmed"), origin.page("/large", page("x" * 4_000))
    with Daemon(CACHE__MAX_BYTES="12000", **ALLOW) as daemon:
        assert result(daemon, url)["document"]["title"] == "kept"
        found: list[dict[str, Any]] = []
        reader = threading.Thread(target=lambda: found.append(result(daemon, url)))
        reader.start()
        until(lambda: origin.hits["/confirmed"] == 2)
        assert result(daemon, large)["error"] is None
        gate.set()
        reader.join(PATIENCE_S)
        assert [(r["document"]["title"], r["from_cache"]) for r in found] == [("kept", True)]


@pytest.mark.parametrize("settings", [{"CACHE__MAX_BYTES": "0"}, {"CACHE__TTL_S": "0"}], ids=str)
def test_nothing_is_kept_without_room_or_time(origin: Origin, settings: dict[str, str]) -> None:
    url = origin.page("/off", page("off"))
    with Daemon(**ALLOW, **settings) as daemon:
        assert [result(daemon, url)["from_cache"] for _ in range(2)] == [False, False]
    assert origin.hits["/off"] == 2
