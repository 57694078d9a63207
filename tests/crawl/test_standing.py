"""How far workers stand back: SCHED_IDLE where their pages still get done, niceness where they would starve."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import uvloop

from fastmesh.crawl.extract import standing
from fastmesh.crawl.extract.pool import ExtractPool
from fastmesh.crawl.extract.spec import ExtractSpec
from fastmesh.crawl.extract.standing import NICE_FOR_S, CoreTime, Standing, core_time, starves

MS = 1_000_000
BARE = ExtractSpec(9999, include=frozenset())


@pytest.fixture
def sleeper() -> Iterator[int]:
    """A process that waits to be ended."""
    with subprocess.Popen(["sleep", "100"]) as process:
        yield process.pid
        process.send_signal(signal.SIGKILL)


@pytest.mark.parametrize(
    ("had", "waited", "starved"),
    [
        (0, 0, False),  # it slept, or the kernel does not count
        (10 * MS, 0, False),
        (100 * MS, 200 * MS, False),
        (40 * MS, 200 * MS, True),
        (0, 200 * MS, True),
        (1 * MS, 50 * MS, False),  # too short to say
    ],
)
def test_who_wants_a_core_and_hardly_has_one_starves(had: int, waited: int, starved: bool) -> None:
    before = CoreTime(7 * MS, 9 * MS)
    assert starves(before, CoreTime(before.had + had, before.waited + waited)) == starved


def test_a_worker_is_put_back_unless_its_start_waited_for_others(sleeper: int, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = Standing()
    monkeypatch.setattr(standing, "core_time", lambda _: CoreTime(100 * MS, 900 * MS))
    assert not policy.put_back(sleeper, 0.0)
    monkeypatch.setattr(standing, "core_time", lambda _: CoreTime(100 * MS, 100 * MS))
    assert not policy.put_back(sleeper, NICE_FOR_S - 1)  # not again so soon
    assert os.sched_getscheduler(sleeper) == os.SCHED_OTHER
    assert policy.put_back(sleeper, NICE_FOR_S)
    assert os.sched_getscheduler(sleeper) == os.SCHED_IDLE


@pytest.mark.parametrize("error", [PermissionError(1, "not permitted"), AttributeError("SCHED_IDLE")])
def test_where_it_is_refused_niceness_must_do(sleeper: int, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(*_: Any) -> None:
        raise error

    policy = Standing()
    monkeypatch.setattr(standing, "core_time", lambda _: CoreTime(100 * MS, 0))
    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    assert not policy.put_back(sleeper, 0.0)
    assert not policy.may_stand_back(1e9)
    policy.starved(0.0)
    assert not policy.may_stand_back(1e9)


def test_what_the_kernel_does_not_count_is_nothing() -> None:
    assert core_time(2**22 + 1) == CoreTime(0, 0)
    assert core_time(os.getpid()).had > 0


def test_the_page_of_a_worker_that_starves_is_given_to_one_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first page takes as long as the deadline, by a worker that the kernel says never had a core."""
    counted = [CoreTime(100 * MS, 0)]  # of the start; then of each look

    def fake(_: int) -> CoreTime:
        counted.append(CoreTime(counted[-1].had, counted[-1].waited + 150 * MS))
        return counted[-2]

    async def main() -> None:
        monkeypatch.setattr(standing, "core_time", fake)
        monkeypatch.setattr("fastmesh.crawl.extract.worker_process.core_time", fake)
        pool = ExtractPool(1)
        await pool.start()
        try:
            (first,) = pool.workers.pids
            assert os.sched_getscheduler(first) == os.SCHED_IDLE
            os.kill(first, signal.SIGSTOP)
            said = await pool.extract(b"<title>t</title>", BARE, url="http://h/", content_type="text/html", owner=None)
            assert json.loads(said.document)["title"] == "t"
            (second,) = pool.workers.pids
            assert second != first
            assert os.sched_getscheduler(second) == os.SCHED_OTHER
            assert os.getpriority(os.PRIO_PROCESS, second) == 5
            assert (pool.workers.retired, pool.workers.deaths, pool.failed) == (1, 0, 0)
        finally:
            await pool.close()

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_worker_is_replaced_when_it_may_stand_back_again() -> None:
    async def main() -> None:
        policy = Standing()
        policy._nice_until_s = float("inf")
        pool = ExtractPool(1, standing=policy)
        await pool.start()

        async def extract() -> None:
            await pool.extract(b"x", BARE, url="", content_type="text/plain", owner=None)

        try:
            (first,) = pool.workers.pids
            await extract()
            assert pool.workers.pids == [first]
            policy._nice_until_s = float("-inf")
            await extract()
            await extract()
            assert first not in pool.workers.pids
            assert (pool.workers.retired, pool.workers.deaths, pool.failed) == (1, 0, 0)
        finally:
            await pool.close()

    uvloop.run(main())
