"""Manners and patience, with real origins: who is asked when, what is tried again, and who waits for whom."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from daemons import Daemon
from origins import HTML, PAGE, Origin, Request, Route, head

from fastmesh.crawl.schedule.politeness import FIRST_STARTS_PER_S

ALLOW = {"FETCH__ALLOW_NETWORKS": "127.0.0.0/8"}
QUICK, SLOW = "127.0.0.2", "127.0.0.3"  # two hosts for whoever asks, one origin in truth


@pytest.fixture(scope="module")
def everywhere() -> Iterator[Origin]:
    with Origin("0.0.0.0") as origin:
        yield origin


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon(**ALLOW) as daemon:
        yield daemon


class Asked:
    """A route that keeps when it was asked and how many asked at once, and answers what *answer* says to the nth."""

    def __init__(self, answer: Callable[[int], bytes], takes_s: float = 0.0) -> None:
        self.at: list[float] = []
        self.most = 0
        self._now = 0
        self._answer = answer
        self._takes_s = takes_s

    async def __call__(self, _: Request) -> AsyncIterator[bytes]:
        self.at.append(time.monotonic())
        number = len(self.at)
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(self._takes_s)
        self._now -= 1
        yield self._answer(number)


def page() -> bytes:
    return head(200, {**HTML, "Content-Length": str(len(PAGE))}) + PAGE


def status(code: int, **headers: str) -> bytes:
    return head(code, {name.replace("_", "-"): value for name, value in headers.items()} | {"Content-Length": "0"})


def failing(times: int, answer: bytes) -> Callable[[int], bytes]:
    """*answer* so many times, and then a page."""
    return lambda number: answer if number <= times else page()


def results(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = [frame for frame in frames if frame["type"] == "result"]
    return [frame["result"] for frame in sorted(found, key=lambda frame: frame["index"])]


# ── retries ──────────────────────────────────────────────────────────────────────────────


def test_what_may_help_is_tried_again_and_attempts_says_how_often(daemon: Daemon, origin: Origin) -> None:
    url = origin.route("/flaky", Asked(failing(2, status(500))))
    (result,) = results(daemon.crawl(url))
    assert (result["error"], result["attempts"], result["status"]) == (None, 3, 200)


@pytest.mark.parametrize(("options", "attempts"), [({}, 3), ({"retries": 1}, 2), ({"retries": 0}, 1)])
def test_a_request_may_ask_for_fewer_retries(
    daemon: Daemon, origin: Origin, options: dict[str, int], attempts: int
) -> None:
    asked = Asked(failing(99, status(502)))
    (result,) = results(daemon.crawl(origin.route("/broken", asked), **options))
    assert (result["error"]["type"], result["status"]) == ("http_status", 502)
    assert (result["attempts"], len(asked.at)) == (attempts, attempts)


def test_how_often_at_most_is_a_setting(origin: Origin) -> None:
    asked = Asked(failing(99, status(502)))
    url = origin.route("/broken-once", asked)
    with Daemon(**ALLOW, FETCH__RETRIES=0) as daemon:
        (result,) = results(daemon.crawl(url))
        assert (result["attempts"], len(asked.at)) == (1, 1)
        refused = daemon.ask("POST", "/crawl/stream", {"urls": [url], "options": {"retries": 1}})
        assert (refused.status, refused.json["error"]["field"]) == (400, "options.retries")


@pytest.mark.parametrize("path", ["/missing", "/truncated-gzip", "/loop", "/metadata"])
def test_what_would_fail_again_is_asked_once(daemon: Daemon, origin: Origin, path: str) -> None:
    (result,) = results(daemon.crawl(origin.url(path)))
    assert result["error"]["retryable"] is False
    assert result["attempts"] == 1


def test_a_stream_has_so_many_retries_at_a_host_and_no_more(daemon: Daemon, origin: Origin) -> None:
    asked = Asked(failing(999, status(500)))
    url = origin.route("/all-broken", asked)
    found = results(daemon.crawl(*[f"{url}?{at}" for at in range(30)]))
    assert {result["error"]["type"] for result in found} == {"http_status"}
    assert sum(result["attempts"] for result in found) == len(asked.at) == 30 + 10


def test_attempts_and_waits_share_one_deadline(daemon: Daemon, origin: Origin) -> None:
    asked = Asked(failing(99, status(500)), takes_s=0.2)
    (result,) = results(daemon.crawl(origin.route("/slowly-broken", asked), timeout_ms=300))
    # 0.2 s of 0.3 are gone, and the shortest wait takes 0.15 s.
    assert (result["attempts"], result["error"]["type"], len(asked.at)) == (1, "http_status", 1)


def test_a_retry_that_waits_leaves_its_slot_and_its_turn_to_others(everywhere: Origin) -> None:
    asked, other = Asked(failing(1, status(500, Retry_After="1"))), Asked(failing(0, b""))
    urls = [everywhere.route("/waits", asked), everywhere.route("/goes-on", other)]
    urls = [url.replace("0.0.0.0", SLOW) for url in urls]
    with Daemon(**ALLOW, FETCH__CONCURRENCY=1, FETCH__PER_HOST_CONCURRENCY=1) as daemon:
        found = results(daemon.crawl(*urls))
    assert [(result["error"], result["attempts"]) for result in found] == [(None, 2), (None, 1)]
    assert asked.at[0] < other.at[0] < asked.at[1]


# ── hosts that ask for less ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_kept(daemon: Daemon, origin: Origin, code: int, as_date: bool) -> None:
    # A date has whole seconds: two from now on are at least one.
    said = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True) if as_date else "1"
    asked = Asked(failing(1, status(code, Retry_After=said)))
    (result,) = results(daemon.crawl(origin.route(f"/later-{code}-{as_date}", asked)))
    assert (result["error"], result["attempts"]) == (None, 2)
    if not as_date:
        assert asked.at[1] - asked.at[0] >= 1


def test_a_retry_after_that_is_longer_than_the_urls_time_is_told_and_not_waited_for(origin: Origin) -> None:
    with Daemon(**ALLOW) as daemon:
        asked = Asked(failing(9, status(429, Retry_After="100")))
        (result,) = results(daemon.crawl(origin.route("/much-later", asked)))
        assert (result["attempts"], len(asked.at)) == (1, 1)
        assert (result["error"]["retryable"], result["error"]["retry_after_s"]) == (True, 100)


def test_one_stream_that_hears_too_many_slows_the_host_down_for_all(everywhere: Origin) -> None:
    with Daemon(**ALLOW) as daemon:
        asked = Asked(failing(1, status(429, Retry_After="1")))
        everywhere.route("/crowded", asked)
        results(daemon.crawl(everywhere.url("/crowded", SLOW), retries=0))
        (elsewhere,) = results(daemon.crawl(everywhere.url("/until-close", QUICK)))
        before = time.monotonic()
        (result,) = results(daemon.crawl(everywhere.url("/crowded", SLOW)))
        assert before - asked.at[0] < 1  # else this says nothing
        assert (elsewhere["error"], result["error"]) == (None, None)
        assert asked.at[1] - asked.at[0] >= 1
        assert result["processing_time_ms"] < 900  # the wait for the host is not the URL's


@pytest.mark.parametrize("cache_mode", ["read_through", "bypass"])
def test_a_host_that_said_too_many_is_not_asked_by_who_waited_for_its_turn(everywhere: Origin, cache_mode: str) -> None:
    asked = Asked(failing(1, status(429)))
    url = everywhere.url("/", QUICK) + f"too-many-at-first-{cache_mode}"
    everywhere.route(f"/too-many-at-first-{cache_mode}", asked)
    with Daemon(**ALLOW, FETCH__PER_HOST_CONCURRENCY=1) as daemon:
        options = {"retries": 0, "respect_robots": False, "cache_mode": cache_mode}
        found = results(daemon.crawl(f"{url}?first", f"{url}?second", **options))
    assert sorted(result["status"] for result in found) == [200, 429]
    assert asked.at[1] - asked.at[0] >= 1 / FIRST_STARTS_PER_S


def test_starts_at_a_host_keep_to_the_rate(everywhere: Origin) -> None:
    asked = {host: Asked(failing(0, b"")) for host in (QUICK, SLOW)}
    urls = {host: everywhere.url(f"/paced-{host}", host) for host in asked}
    for host, answer in asked.items():
        everywhere.route(f"/paced-{host}", answer)
    with Daemon(**ALLOW, FETCH__PER_HOST_RPS=10) as daemon:
        found = results(daemon.crawl(*[f"{url}?{at}" for url in urls.values() for at in range(5)]))
    assert [result["error"] for result in found] == [None] * 10
    for answer in asked.values():  # four intervals, less what the first was late; the two hosts go side by side
        assert answer.at[-1] - answer.at[0] > 0.3
    assert max(answer.at[0] for answer in asked.values()) < min(answer.at[-1] for answer in asked.values())


def test_a_redirect_to_another_host_waits_for_that_hosts_turn(everywhere: Origin) -> None:
    asked = Asked(failing(0, b""), takes_s=0.05)
    everywhere.route("/popular", asked)
    everywhere.redirect("/to-popular", everywhere.url("/popular", SLOW))
    with Daemon(**ALLOW, FETCH__PER_HOST_CONCURRENCY=2) as daemon:
        urls = [everywhere.url("/to-popular", f"127.0.0.{at}") for at in range(10, 20)]
        found = results(daemon.crawl(*urls))
    assert [result["error"] for result in found] == [None] * 10
    assert asked.most <= 2


# ── neighbours ───────────────────────────────────────────────────────────────────────────


def test_a_large_batch_does_not_starve_a_small_one_at_the_same_host(everywhere: Origin) -> None:
    order: list[str] = []

    async def page_of(request: Request) -> AsyncIterator[bytes]:
        order.append(request.query["of"])
        await asyncio.sleep(0.02)
        yield page()

    everywhere.route("/shared", page_of)
    urls = {of: [everywhere.url(f"/shared?of={of}&{at}", QUICK) for at in range(200)] for of in ("large", "small")}
    with Daemon(**ALLOW, FETCH__PER_HOST_CONCURRENCY=2, STREAM__RESUME_WINDOW_S=0) as daemon, daemon.connect() as large:
        large.send(large.request("POST", "/crawl/stream", {"urls": urls["large"]}))
        assert large.head().status == 200
        while len(order) < 10:
            large.more()
        assert [result["error"] for result in results(daemon.crawl(*urls["small"][:3]))] == [None] * 3
    small = [at for at, of in enumerate(order) if of == "small"]
    assert small[2] - small[0] <= 6  # they took turns


def drip(started: list[float]) -> Route:
    async def answer(_: Request) -> AsyncIterator[bytes]:
        started.append(time.monotonic())
        yield head(200, HTML)
        while True:
            yield b"x"
            await asyncio.sleep(1)

    return answer


def all_quick(daemon: Daemon, urls: list[str], quick: int) -> float:
    """Seconds until every quick URL has its result; then the stream is left."""
    with daemon.connect() as peer:
        begun = time.monotonic()
        peer.send(peer.request("POST", "/crawl/stream", {"urls": urls, "stream": {"on_slow": "block"}}))
        assert peer.head().status == 200
        left = quick
        for frame in peer.frames():
            if frame["type"] == "result":
                assert frame["result"]["error"] is None, frame
                left -= 1
            if not left:
                return time.monotonic() - begun
    raise AssertionError("the stream ended before")


@pytest.mark.parametrize(
    # Neighbours that are held up wait for drips, which is twenty times as long; a busy machine may take twice as long.
    ("count", "most"),
    [(48, 4.0), pytest.param(200, 1.1, marks=pytest.mark.long)],
    ids=["short", "long"],
)
def test_a_host_that_drips_does_not_hold_up_its_neighbours(everywhere: Origin, count: int, most: float) -> None:
    started: list[float] = []
    everywhere.route("/dripping", drip(started))
    everywhere.route("/quick", Asked(failing(0, b""), takes_s=0.05))
    quick = [everywhere.url(f"/quick?{at}", QUICK) for at in range(count)]
    slow = [everywhere.url(f"/dripping?{at}", SLOW) for at in range(count)]
    with Daemon(**ALLOW, STREAM__RESUME_WINDOW_S=0, CACHE__TTL_S=0) as daemon:
        all_quick(daemon, quick, count)  # workers and imports are warm
        alone_s = all_quick(daemon, quick, count)
        together_s = all_quick(daemon, slow + quick, count)
        with daemon.connect() as other:
            other.send(other.request("POST", "/crawl/stream", {"urls": slow}))
            assert other.head().status == 200
            two_streams_s = all_quick(daemon, quick, count)
    assert len(started) >= 16  # the slow ones were under way both times
    print(f"\nalone {alone_s:.3f} s, in one stream {together_s / alone_s:.3f}, in two {two_streams_s / alone_s:.3f}")
    assert max(together_s, two_streams_s) / alone_s < most
