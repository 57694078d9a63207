"""What /metrics says, beside what clients saw of the same streams, byte for byte."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import pytest
from daemons import Daemon, Peer
from nameserver import SILENCE, Nameserver
from origins import Origin, Request, head
from prometheus_client.parser import text_string_to_metric_families as read_text
from sockets import TEXT, WebSocket

ALLOW = {"FETCH__ALLOW_NETWORKS": "127.0.0.0/8", "FIREHOSE__ENABLED": "true"}

Samples = dict[str, float]


def scraped(daemon: Daemon) -> Samples:
    """Every sample, by its name without ``fastmesh_`` and its labels' values."""
    families = read_text(daemon.ask("GET", "/metrics").body.decode())
    return {
        "/".join([sample.name.removeprefix("fastmesh_"), *(value for _, value in sorted(sample.labels.items()))]): (
            sample.value
        )
        for family in families
        for sample in family.samples
    }


def grown(before: Samples, after: Samples, prefix: str) -> Samples:
    """What of the counters that begin with *prefix* is more now."""
    return {
        name.removeprefix(prefix): value - before.get(name, 0)
        for name, value in after.items()
        if name.startswith(prefix) and value != before.get(name, 0)
    }


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon(**ALLOW) as running:
        yield running


def raw(daemon: Daemon, method: str, path: str, body: object = None) -> bytes:
    """All that the daemon sends for one request, to the last byte."""
    with daemon.connect() as peer:
        peer.send(peer.request(method, path, body, Connection="close"))
        return peer.rest()


def kinds(text: bytes) -> Counter[str]:
    """Frames by their type, whatever stands around them."""
    lines = (line.removeprefix(b"data: ") for line in text.splitlines())
    return Counter(json.loads(line)["type"] for line in lines if line.startswith(b'{"type"'))


@pytest.mark.parametrize(("path", "protocol"), [("stream", "ndjson"), ("sse", "sse")])
def test_frames_and_bytes_are_those_that_the_client_received(
    daemon: Daemon, origin: Origin, path: str, protocol: str
) -> None:
    urls = [origin.page(f"/metrics/{at}", f"<title>{at}</title>") for at in range(30)]
    before = scraped(daemon)
    received = raw(daemon, "POST", f"/crawl/{path}", {"urls": urls}) + raw(daemon, "GET", f"/firehose/{path}?frames=99")
    after = scraped(daemon)
    assert grown(before, after, f"streaming_messages_sent_total/{protocol}/") == kinds(received)
    assert grown(before, after, "streaming_bytes_total/") == {protocol: len(received)}
    assert grown(before, after, "streaming_connections_total/") == {protocol: 2}
    assert grown(before, after, "streaming_duration_seconds_count/") == {f"{protocol}/completed": 2}
    assert grown(before, after, "streaming_connection_duration_seconds_count/") == {protocol: 2}
    assert grown(before, after, "streaming_ttfb_seconds_count/") == {protocol: 2}
    assert grown(before, after, "http_requests_total/") == {
        f"POST//crawl/{path}/200": 1,
        f"GET//firehose/{path}/200": 1,
        "GET//metrics/200": 1,
    }
    assert after[f"streaming_active_connections/{protocol}"] == after["streaming_active_streams"] == 0


def test_frames_and_bytes_of_a_websocket_are_those_that_it_carried(daemon: Daemon, origin: Origin) -> None:
    urls = [origin.page(f"/metrics/{at}", f"<title>{at}</title>" + "words " * at) for at in range(30)]
    before = scraped(daemon)
    seen, octets = Counter(), 0
    with WebSocket(daemon) as socket:
        socket.tell("crawl", urls=urls)
        while not seen["summary"]:
            frame = socket.frame()
            assert frame.opcode == TEXT
            seen[json.loads(frame.payload)["type"]] += 1
            size = len(frame.payload)
            octets += size + (2 if size < 126 else 4 if size < 65536 else 10)
    after = scraped(daemon)
    assert seen.pop("ack") == 1
    assert grown(before, after, "streaming_messages_sent_total/websocket/") == seen
    # The answer to the command that opened the stream leaves with its first frame.
    assert grown(before, after, "streaming_bytes_total/") == {"websocket": octets}
    assert grown(before, after, "streaming_ttfb_seconds_count/") == {"websocket": 1}
    assert grown(before, after, "http_requests_total/")["GET//crawl/ws/101"] == 1


def test_gaps_and_heartbeats_are_counted_once_like_all_that_is_sent() -> None:
    """A second reader comes when the first frames have gone: a gap names them, and no byte is counted twice."""
    with Daemon(**ALLOW, STREAM__JOURNAL_BYTES=0, STREAM__HEARTBEAT_S=0.1) as daemon, daemon.connect() as first:
        first.send(first.request("GET", "/firehose/stream?frames=12&rate=4", Connection="close"))
        streams = []
        while not streams or streams[0]["last_seq"] < 6:
            streams = daemon.ask("GET", "/streams").json["streams"]
        late = raw(daemon, "GET", f"/streams/{streams[0]['stream_id']}/events?after=0")
        early = first.rest()
        after = scraped(daemon)
        while after["streaming_active_streams"]:
            after = scraped(daemon)
    frames = [json.loads(line) for line in late.splitlines() if line.startswith(b'{"type"')]
    expired = sum(gap["to_seq"] - gap["from_seq"] + 1 for gap in frames if gap["type"] == "gap")
    assert grown({}, after, "streaming_messages_dropped_total/") == {"ndjson/expired": expired}
    seen = kinds(early) + kinds(late)
    assert seen["heartbeat"] > 0
    assert grown({}, after, "streaming_messages_sent_total/ndjson/") == seen
    assert grown({}, after, "streaming_bytes_total/") == {"ndjson": len(early) + len(late)}


def test_urls_and_the_cache_are_counted_by_what_became_of_them(origin: Origin) -> None:
    with Origin(cache_control="max-age=600") as kept, Daemon(**ALLOW) as daemon:
        page, gone = kept.page("/page", "<title>kept</title>"), origin.url("/not-there")
        for expected in ("miss", "hit"):
            before = scraped(daemon)
            frames = daemon.crawl(page, gone, "nonsense", "http://10.1.2.3/", origin.url("/empty"), retries=0)
            after = scraped(daemon)
            results = [frame["result"] for frame in frames if frame["type"] == "result"]
            outcomes = Counter("success" if r["error"] is None else r["error"]["type"] for r in results)
            assert grown(before, after, "pipeline_urls_total/") == outcomes
            assert results[[r["url"] for r in results].index(page)]["from_cache"] == (expected == "hit")
            asked = grown(before, after, "cache_requests_total/")
            assert asked[expected] >= 1
            assert asked.get("hit", 0) == sum(r["from_cache"] for r in results)
            assert after["pipeline_inflight"] == 0


def test_where_a_urls_time_goes_is_where_it_was_spent() -> None:
    """A name whose first query is lost, and a host that takes 200 ms a page and one page at a time."""

    served = []  # how long each request was with the origin: a sleep may end a little before its time

    async def slow(request: Request) -> AsyncIterator[bytes]:
        came = time.monotonic()
        await asyncio.sleep(0.2)
        served.append(time.monotonic() - came)
        yield head(200, {"Content-Length": "2", "Content-Type": "text/plain"}) + b"ok"

    silent_once = {"slow.test": [SILENCE, ["127.0.0.1"]]}
    with (
        Origin() as origin,
        Nameserver(silent_once, ttl_s=60) as names,
        Daemon(**ALLOW, FETCH__NAMESERVERS=names.address, FETCH__PER_HOST_CONCURRENCY=1) as daemon,
    ):
        for at in range(3):
            origin.route(f"/slow/{at}", slow)
        urls = [origin.url(f"/slow/{at}", "slow.test") for at in range(3)]
        begun = time.monotonic()
        frames = daemon.crawl(*urls, respect_robots=False)
        told = scraped(daemon)  # what follows the stream's last byte is over by then
        whole = time.monotonic() - begun
    spent = grown({}, told, "pipeline_stage_seconds_sum/")
    counts = grown({}, told, "pipeline_stage_seconds_count/")
    requests = grown({}, told, "http_request_duration_seconds_sum/")
    assert frames[-1]["successful"] == 3
    assert counts == {"queue": 3, "dns": 3, "fetch": 3, "extract": 3}
    assert 0.9 < spent["dns"] < whole - sum(served)  # asked again after a second, and then known
    assert sum(served) < spent["fetch"] < whole - spent["dns"]
    # Each since it was the next at that host: the second waits for the first and its name, the third for the second.
    assert spent["dns"] + 0.3 < spent["queue"] < whole
    assert spent["dns"] + spent["fetch"] < requests["/crawl/stream"] <= whole


def test_what_a_slow_client_is_not_sent_is_what_its_gaps_name(origin: Origin) -> None:
    urls = [origin.page(f"/metrics/fat/{at}", "<p>" + "words and words " * 2500) for at in range(300)]
    settings = {"STREAM__JOURNAL_BYTES": 64 << 20, "FETCH__PER_HOST_CONCURRENCY": 64}
    with Daemon(**ALLOW, **settings) as daemon, daemon.connect(receive_buffer=4096) as stuck:
        stuck.send(stuck.request("POST", "/crawl/stream", {"urls": urls, "stream": {"on_slow": "drop"}}))
        stream_id = stuck.head().headers["x-stream-id"]
        while daemon.ask("GET", f"/streams/{stream_id}").json["status"] != "completed":
            pass
        paused = scraped(daemon)
        assert paused["streaming_backpressure_events_total/pause/ndjson"] >= 1
        assert paused["streaming_memory_usage_bytes"] > 1_000_000
        frames = [json.loads(line) for line in b"".join(stuck.chunks()).splitlines()]
        missing = sum(frame["to_seq"] - frame["from_seq"] + 1 for frame in frames if frame["type"] == "gap")
        after = scraped(daemon)
        assert missing == after["streaming_messages_dropped_total/ndjson/slow_client"] > 0
        sent = grown({}, after, "streaming_messages_sent_total/ndjson/")
        assert sent == Counter(frame["type"] for frame in frames)


def test_the_first_byte_is_timed_as_its_client_does(daemon: Daemon) -> None:
    """From the request's first byte: one that comes in two parts takes as long as the client sees it take."""
    body = {"urls": ["nonsense"]}
    for path, protocol in (("/crawl/stream", "ndjson"), ("/crawl/sse", "sse")):
        before = scraped(daemon)
        with daemon.connect() as peer:
            request = peer.request("POST", path, body)
            begun = time.monotonic()
            peer.send(request[:-5])
            wait_until_read(daemon, peer)
            half = time.monotonic() - begun
            peer.send(request[-5:])
            peer.head()
            whole = time.monotonic() - begun
        (measured,) = grown(before, scraped(daemon), "streaming_ttfb_seconds_sum/").values()
        assert protocol in grown(before, scraped(daemon), "streaming_ttfb_seconds_count/")
        assert 0 < measured <= whole + 0.01  # it is looked at after the write
        assert measured >= half / 2


def wait_until_read(daemon: Daemon, peer: Peer) -> None:
    """A few answers on other connections: by then what *peer* sent was read."""
    for _ in range(20):
        assert daemon.ask("GET", "/livez").status == 200


def test_limits_and_the_process_are_told(daemon: Daemon) -> None:
    now = scraped(daemon)
    assert now["streaming_streams_limit"] == 1000
    assert now["streaming_memory_limit_bytes"] == 268_435_456
    assert now["server_connections"] == 1
    assert now["extract_workers/alive"] == now["extract_workers/wanted"] >= 1
    assert now["process_open_fds"] < now["process_max_fds"]
    assert abs(now["process_resident_memory_bytes"] - daemon.memory()) < 50_000_000
    assert now["process_cpu_seconds_total"] > 0
    assert {name for name in now if name.startswith("health_status/")} >= {"health_status/streaming"}
