"""The client over a bad network: every frame once, every page fetched once, whatever breaks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest
from chaos import Chaos
from daemons import Daemon
from origins import Origin

from fastmesh.client import Client, Frame, Retry
from fastmesh.client.stream import PROTOCOLS, ProtocolName

PAGES = 20
AT_ONCE = 10  # streams
# Breaks come one after the other, and some before the first frame.
PATIENT = Retry(attempts=30, base_s=0.005, cap_s=0.05)


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon(
        FETCH__ALLOW_NETWORKS="127.0.0.0/8",
        FETCH__PER_HOST_CONCURRENCY=64,
        STREAM__SSE_RETRY_MS=5,
        STREAM__HEARTBEAT_S=0.2,
        STREAM__WS_PING_S=0.2,
    ) as running:
        yield running


def site(origin: Origin, seed: str) -> list[str]:
    """Pages of many sizes, of one stream alone."""
    chance = random.Random(seed)
    return [
        origin.page(f"/{seed}/{at}", f"<title>Page {at}</title><p>{'word ' * chance.randrange(10, 800)}")
        for at in range(PAGES)
    ]


async def crawled(address: str, urls: list[str], protocol: ProtocolName) -> list[Frame]:
    # Where nothing goes through and nobody is told, only the silence says so.
    async with Client(address, retry=PATIENT, idle_timeout_s=1.0) as client:
        return [frame async for frame in client.crawl(urls, protocol=protocol, options={"concurrency": 4})]


async def resumed(daemon: Daemon, origin: Origin, protocol: ProtocolName, seeds: list[str]) -> int:
    """Crawl once for each seed, some at once, and check each; return how many connections broke."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(seed: str) -> int:
        urls = site(origin, seed)
        async with room:
            with Chaos(daemon.port, seed=seed) as chaos:
                frames = await crawled(chaos.address, urls, protocol)
        check(frames, origin, urls, seed)
        return chaos.broken

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(one(seed)) for seed in seeds]
    return sum(task.result() for task in running)


def check(frames: list[Frame], origin: Origin, urls: list[str], seed: str) -> None:
    raw = [frame.raw for frame in frames]
    assert [frame["seq"] for frame in raw] == list(range(1, PAGES + 3)), seed
    assert [frame["type"] for frame in raw] == ["metadata", *["result"] * PAGES, "summary"], seed
    results = sorted(raw[1:-1], key=lambda frame: frame["index"])
    assert [frame["result"]["url"] for frame in results] == urls, seed
    assert [frame["result"]["document"]["title"] for frame in results] == [f"Page {at}" for at in range(PAGES)], seed
    counts = {key: raw[-1][key] for key in ("status", "successful", "failed", "cancelled", "unfinished")}
    assert counts == {"status": "completed", "successful": PAGES, "failed": 0, "cancelled": 0, "unfinished": []}, seed
    assert {path: hits for path, hits in origin.hits.items() if path.startswith(f"/{seed}/")} == {
        f"/{seed}/{at}": 1 for at in range(PAGES)
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_broken_connection_loses_no_frame_and_fetches_no_page_twice(
    daemon: Daemon, origin: Origin, protocol: ProtocolName
) -> None:
    seeds = [f"{protocol}-{number}" for number in range(20)]
    assert asyncio.run(resumed(daemon, origin, protocol, seeds)) >= len(seeds)


@pytest.mark.long
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_two_hundred_streams_lose_no_frame(daemon: Daemon, origin: Origin, protocol: ProtocolName) -> None:
    seeds = [f"long-{protocol}-{number}" for number in range(200)]
    assert asyncio.run(resumed(daemon, origin, protocol, seeds)) >= len(seeds)
