"""robots.txt as a client sees it: a page that may not be fetched is a result, and says so."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from typing import Any

import pytest
from daemons import Daemon
from origins import HTML, PAGE, Origin, Request, head

ALLOW = {"FETCH__ALLOW_NETWORKS": "127.0.0.0/8"}
RULES = """
User-agent: *
Disallow: /private

User-agent: rude
Disallow: /

User-agent: fastmesh
User-agent: tester
Disallow: /private
Allow: /private/but-open
"""


class Site:
    """One origin with a robots.txt for each of this machine's names, and when its pages were asked for."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.robots: dict[str, str] = {}
        self.delay_s = 0.0
        self.at: list[float] = []
        origin.route("/robots.txt", self._robots)
        for path in ("/page", "/private", "/private/but-open"):
            origin.route(path, self._page)

    async def _robots(self, request: Request) -> AsyncIterator[bytes]:
        await asyncio.sleep(self.delay_s)
        host = request.head.lower().partition("\r\nhost: ")[2].partition(":")[0]
        text = self.robots.get(host, RULES).encode()
        yield head(200, {"Content-Type": "text/plain", "Content-Length": str(len(text))}) + text

    async def _page(self, _: Request) -> AsyncIterator[bytes]:
        self.at.append(time.monotonic())
        yield head(200, {**HTML, "Content-Length": str(len(PAGE))}) + PAGE


@pytest.fixture
def site() -> Iterator[Site]:
    with Origin("0.0.0.0") as origin:
        yield Site(origin)


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon(**ALLOW) as daemon:
        yield daemon


def crawled(daemon: Daemon, *urls: str, **options: Any) -> list[str | None]:
    """The error types of the URLs, in their order."""
    found = [frame for frame in daemon.crawl(*urls, **options) if frame["type"] == "result"]
    errors = [frame["result"]["error"] for frame in sorted(found, key=lambda frame: frame["index"])]
    return [error and error["type"] for error in errors]


def test_a_disallowed_page_is_a_result_that_says_so_and_is_not_fetched(daemon: Daemon, site: Site) -> None:
    urls = [site.origin.url(path, "127.0.0.1") for path in ("/page", "/private", "/private/but-open")]
    frames = daemon.crawl(*urls)
    by_index = {frame["index"]: frame["result"] for frame in frames if frame["type"] == "result"}
    assert [by_index[at]["error"] and by_index[at]["error"]["type"] for at in range(3)] == [None, "robots", None]
    refused = by_index[1]
    assert (refused["status"], refused["attempts"], refused["fetched_at"], refused["document"]) == (0, 0, None, None)
    assert refused["error"] == {
        "type": "robots",
        "message": "127.0.0.1: robots.txt disallows this path for fastmesh",
        "retryable": False,
    }
    assert (site.origin.hits["/robots.txt"], site.origin.hits["/private"]) == (1, 0)
    assert "user-agent: fastmesh/" in site.origin.heads["/robots.txt"][0].lower()
    assert frames[-1]["failed"] == 1


def test_a_request_may_choose_and_the_setting_is_its_default(site: Site) -> None:
    url = site.origin.url("/private", "127.0.0.1")
    with Daemon(**ALLOW, FETCH__RESPECT_ROBOTS="false") as daemon:
        assert crawled(daemon, url) == [None]
        assert site.origin.hits["/robots.txt"] == 0
        assert crawled(daemon, url, respect_robots=True) == ["robots"]
        assert crawled(daemon, url, respect_robots=False) == [None]


def test_the_name_that_counts_is_the_one_that_is_sent(daemon: Daemon, site: Site) -> None:
    url = site.origin.url("/page", "127.0.0.1")
    assert crawled(daemon, url, user_agent="Rude/1.0 (me)") == ["robots"]
    assert crawled(daemon, url, headers={"user-agent": "rude"}) == ["robots"]
    assert crawled(daemon, url, user_agent="tester") == [None]
    assert site.origin.hits["/robots.txt"] == 1


def test_a_redirect_is_asked_for_only_where_it_leads_allowed(daemon: Daemon, site: Site) -> None:
    site.origin.redirect("/away", site.origin.url("/private", "127.0.0.2"))
    site.origin.redirect("/inside", "/private")
    urls = [site.origin.url(path, "127.0.0.1") for path in ("/away", "/inside")]
    assert crawled(daemon, *urls) == ["robots", "robots"]
    assert (site.origin.hits["/private"], site.origin.hits["/robots.txt"]) == (0, 2)


def test_the_wait_for_robots_txt_is_not_the_urls_time(daemon: Daemon, site: Site) -> None:
    site.delay_s = 0.5
    frames = daemon.crawl(site.origin.url("/page", "127.0.0.1"), timeout_ms=300)
    assert frames[1]["result"]["error"] is None
    assert frames[1]["result"]["processing_time_ms"] < 400


def test_a_crawl_delay_is_kept_and_delays_no_other_host(daemon: Daemon, site: Site) -> None:
    site.robots["127.0.0.2"] = "User-agent: *\nCrawl-delay: 0.3\nDisallow: /private"
    slow = [site.origin.url(f"/page?{at}", "127.0.0.2") for at in range(3)] + [
        site.origin.url("/private", "127.0.0.2")
    ] * 20
    assert crawled(daemon, *slow) == [None] * 3 + ["robots"] * 20
    assert min(after - before for before, after in pairwise(site.at)) >= 0.29
    assert site.at[-1] - site.at[0] < 3  # what is disallowed delays nobody
    del site.at[:]
    assert crawled(daemon, *[site.origin.url("/page", "127.0.0.3")] * 10) == [None] * 10


@pytest.mark.parametrize("cache_mode", ["read_through", "bypass"])
def test_a_crawl_delay_is_kept_between_a_redirect_and_where_it_leads(
    daemon: Daemon, site: Site, cache_mode: str
) -> None:
    site.robots["127.0.0.2"] = "User-agent: *\nCrawl-delay: 0.3"
    site.origin.redirect("/moved", "/page")
    begun = time.monotonic()
    assert crawled(daemon, site.origin.url("/moved", "127.0.0.2"), cache_mode=cache_mode) == [None]
    assert site.at[0] - begun >= 0.3


def test_a_host_that_cannot_be_reached_says_so_itself(daemon: Daemon) -> None:
    with Origin() as origin:
        url = origin.url("/x")
    frames = daemon.crawl(*[url] * 20)
    results = [frame["result"] for frame in frames if frame["type"] == "result"]
    assert {(result["error"]["type"], result["error"]["retryable"]) for result in results} == {("connect", True)}
    assert {result["attempts"] for result in results} == {3}


def test_a_server_that_fails_is_left_alone(daemon: Daemon, site: Site) -> None:
    site.origin.page("/robots.txt", "", status=502)
    frames = daemon.crawl(*[site.origin.url("/page", "127.0.0.1")] * 5)
    errors = [frame["result"]["error"] for frame in frames if frame["type"] == "result"]
    assert {(error["type"], error["message"]) for error in errors} == {
        ("robots", "127.0.0.1: robots.txt answers with status 502, which is taken as a no")
    }
    assert (site.origin.hits["/robots.txt"], site.at) == (3, [])


def test_streams_that_need_it_at_once_share_one_fetch(daemon: Daemon, site: Site) -> None:
    site.delay_s = 0.3
    peers = [daemon.connect() for _ in range(5)]
    for peer in peers:
        peer.send(peer.request("POST", "/crawl/stream", {"urls": [site.origin.url("/page", "127.0.0.1")]}))
    for peer in peers:
        frames = peer.read().frames
        assert frames[1]["result"]["error"] is None
    assert site.origin.hits["/robots.txt"] == 1


def test_the_command_line_may_leave_it_aside(site: Site) -> None:
    url = site.origin.url("/private", "127.0.0.1")
    for flags, status, kind in ((["--retries", "0"], 3, "robots"), (["--no-robots"], 0, None)):
        command = [sys.executable, "-m", "fastmesh.cli", "crawl", url, "--allow-network", "127.0.0.0/8", *flags]
        done = subprocess.run(command, capture_output=True, env=os.environ, check=False, timeout=60)
        result = json.loads(done.stdout.splitlines()[1])["result"]
        assert (done.returncode, result["error"] and result["error"]["type"]) == (status, kind)
