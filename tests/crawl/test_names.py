"""Names, against a real DNS server: asked once, kept as long as they may be, and no dead one in anybody's way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from pathlib import Path

import pytest
import uvloop
from nameserver import BROKEN, SILENCE, Nameserver

from fastmesh.crawl.fetch.retries import FIRST_WAIT_S
from fastmesh.crawl.net import names as module
from fastmesh.crawl.net.addresses import Address
from fastmesh.crawl.net.names import (
    ABSENT_KEPT_S,
    AGAIN_KEPT_S,
    FAILED_KEPT_S,
    MAX_KEPT_S,
    MAX_LOOKUPS_PER_DOMAIN,
    MIN_KEPT_S,
    Names,
)
from fastmesh.errors import DnsFailed

FIRST, SECOND = (ip_address("192.0.2.1"),), (ip_address("192.0.2.2"),)
MOVING = [["192.0.2.1"], ["192.0.2.2"]]


class Clock:
    """Turned by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - the server is a thread
            await asyncio.sleep(0.001)


def run(server: Nameserver, work: Callable[[Names, Clock], Awaitable[None]], tries: int = 2) -> None:
    async def main() -> None:
        clock = Clock()
        names = Names(server.client(tries), clock)
        try:
            await work(names, clock)
        finally:
            await names.close()

    with server:
        uvloop.run(main())


@pytest.mark.parametrize(
    ("ttl_s", "kept_s"), [(0, MIN_KEPT_S), (1, MIN_KEPT_S), (60, 60), (86_400, MAX_KEPT_S)], ids=str
)
def test_an_answer_is_kept_as_long_as_it_says_within_bounds(ttl_s: int, kept_s: float) -> None:
    server = Nameserver({"moves.test": MOVING}, ttl_s)

    async def main(names: Names, clock: Clock) -> None:
        assert await names.addresses("moves.test") == FIRST
        clock.now_s += kept_s - 0.001
        assert await names.addresses("moves.test") == FIRST
        assert server.asked["moves.test"] == 1
        clock.now_s += 0.001
        assert await names.addresses("moves.test") == SECOND
        assert server.asked["moves.test"] == 2

    run(server, main)


def test_that_there_is_no_such_name_is_kept_for_a_while() -> None:
    server = Nameserver({"empty.test": [[]]})

    async def main(names: Names, clock: Clock) -> None:
        for name in ("missing.test", "empty.test"):
            for _ in range(3):
                with pytest.raises(DnsFailed, match=name):
                    await names.addresses(name)
                await until(lambda name=name: server.asked[name] == 1)  # the answer for AAAA may have come first
                clock.now_s += ABSENT_KEPT_S / 3 - 0.001
        clock.now_s += 0.01
        for name in ("missing.test", "empty.test"):
            with pytest.raises(DnsFailed):
                await names.addresses(name)
            await until(lambda name=name: server.asked[name] == 2)

    run(server, main)


def test_that_nobody_could_say_is_kept_for_a_moment() -> None:
    server = Nameserver({"ill.test": [SILENCE, SILENCE, ["192.0.2.1"]]})

    async def main(names: Names, clock: Clock) -> None:
        for _ in range(2):
            with pytest.raises(DnsFailed, match=r"ill\.test"):
                await names.addresses("ill.test")
            assert server.asked["ill.test"] == 2  # the two tries of one lookup
        clock.now_s += FAILED_KEPT_S
        assert await names.addresses("ill.test") == FIRST

    run(server, main)


@pytest.mark.parametrize("name", ["missing.test", "ill.test"])
def test_who_tries_again_is_not_told_the_same_failure_again(name: str) -> None:
    server = Nameserver({"ill.test": [SILENCE]})
    assert AGAIN_KEPT_S < FIRST_WAIT_S * 0.5  # the shortest wait between two tries

    async def main(names: Names, clock: Clock) -> None:
        async def fails(*, again: bool) -> int:
            with pytest.raises(DnsFailed):
                await names.addresses(name, again=again)
            return names.outcomes["absent"] + names.outcomes["failed"]

        assert await fails(again=False) == 1
        clock.now_s += AGAIN_KEPT_S
        assert await fails(again=True) == 2
        assert await fails(again=True) == 2  # another that failed at the same time
        clock.now_s += AGAIN_KEPT_S
        assert await fails(again=False) == 2

    run(server, main)


def test_who_tries_again_takes_the_addresses_that_are_known() -> None:
    server = Nameserver({"page.test": MOVING}, ttl_s=60)

    async def main(names: Names, clock: Clock) -> None:
        assert await names.addresses("page.test") == FIRST
        clock.now_s += 1
        assert await names.addresses("page.test", again=True) == FIRST

    run(server, main)


def test_a_malformed_reply_fails_its_own_lookup_and_no_other() -> None:
    waiting = [f"page.n{n}.test" for n in range(30)]
    answers = {"broken.test": [BROKEN], **{name: [SILENCE] for name in waiting}}
    server = Nameserver(answers)

    async def main(names: Names, _: Clock) -> None:
        lookups = [asyncio.create_task(names.addresses(name)) for name in waiting]
        await until(lambda: len(server.asked) == len(waiting))
        with pytest.raises(DnsFailed, match=r"broken\.test"):
            await names.addresses("broken.test")
        assert server.asked["broken.test"] == 4
        answers.update(dict.fromkeys(waiting, MOVING[:1]))
        assert await asyncio.gather(*lookups) == [FIRST] * len(waiting)

    run(server, main, tries=4)


@pytest.mark.parametrize("name", ["no-such-shop.example", "no-such-shop.example.", "intranet", "alias"])
def test_names_are_absolute(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    aliases = tmp_path / "aliases"
    aliases.write_text("alias www.corp.test\n")
    monkeypatch.setenv("LOCALDOMAIN", "corp.test")
    monkeypatch.setenv("HOSTALIASES", str(aliases))
    server = Nameserver({"*.corp.test": [["192.0.2.1"]], "*.example.corp.test": [["192.0.2.1"]]})

    async def main(names: Names, _: Clock) -> None:
        with pytest.raises(DnsFailed):
            await names.addresses(name)
        await until(lambda: server.asked == {name.removesuffix("."): 1})

    run(server, main)


def test_all_who_need_a_name_at_once_wait_for_one_lookup() -> None:
    server = Nameserver({"page.test": MOVING})

    async def main(names: Names, _: Clock) -> None:
        leaves = asyncio.create_task(names.addresses("page.test"))
        others = [asyncio.create_task(names.addresses("page.test")) for _ in range(20)]
        await asyncio.sleep(0)
        leaves.cancel()
        assert await asyncio.gather(*others) == [FIRST] * 20
        assert (leaves.cancelled(), server.asked["page.test"]) == (True, 1)

    run(server, main)


def test_a_dead_domain_leaves_the_others_their_places() -> None:
    dead = {f"n{n}.dead.test": [SILENCE] for n in range(4 * MAX_LOOKUPS_PER_DOMAIN)}
    server = Nameserver({**dead, "alive.test": MOVING})

    async def main(names: Names, _: Clock) -> None:
        waiting = [asyncio.create_task(names.addresses(name)) for name in dead]
        await until(lambda: len(server.asked) == MAX_LOOKUPS_PER_DOMAIN)
        assert await names.addresses("alive.test") == FIRST
        assert len(server.asked) == MAX_LOOKUPS_PER_DOMAIN + 1
        assert not any(task.done() for task in waiting)
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(result) for result in results} == {DnsFailed}

    run(server, main)


def test_a_lookup_ends_in_its_time_though_its_turn_never_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LOOKUPS_PER_DOMAIN", 1)
    server = Nameserver({"a.dead.test": [SILENCE], "b.dead.test": [["192.0.2.1"]]})

    async def main(names: Names, _: Clock) -> None:
        holder = asyncio.create_task(names.addresses("a.dead.test"))
        await until(lambda: server.asked["a.dead.test"] == 1)
        monkeypatch.setattr(module, "LOOKUP_LIMIT_S", 0.1)
        with pytest.raises(DnsFailed, match=r"^b\.dead\.test was not resolved within 0\.1 s$"):
            await names.addresses("b.dead.test")
        assert server.asked["b.dead.test"] == 0
        await names.close()
        with pytest.raises(DnsFailed, match="fastmesh is closing"):
            await holder
        assert not names._domains

    run(server, main)


def test_no_more_names_are_kept_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_NAMES", 3)
    server = Nameserver({"used.test": MOVING, "other.test": MOVING})

    async def main(names: Names, _: Clock) -> None:
        await names.addresses("used.test")
        for number in range(10):
            with pytest.raises(DnsFailed):
                await names.addresses(f"missing{number}.test")
            assert await names.addresses("used.test") == FIRST
            assert len(names) <= 3
        assert server.asked["used.test"] == 1

    run(server, main)


def test_what_is_over_is_forgotten_though_nobody_asks_for_it() -> None:
    server = Nameserver({f"a.n{number}.test": MOVING for number in range(30)}, ttl_s=60)

    async def main(names: Names, clock: Clock) -> None:
        for number in range(30):
            await names.addresses(f"a.n{number}.test")
        clock.now_s += 30
        with pytest.raises(DnsFailed):
            await names.addresses("missing.test")
        assert len(names) == 31
        clock.now_s += 30
        with pytest.raises(DnsFailed):
            await names.addresses("other.missing.test")
        assert len(names) == 1

    run(server, main)


def test_of_a_name_with_many_addresses_a_few_are_kept() -> None:
    many = [f"192.0.2.{n}" for n in range(1, 25)]
    server = Nameserver({"many.test": [many]})

    async def main(names: Names, _: Clock) -> None:
        found: tuple[Address, ...] = await names.addresses("many.test")
        assert len(found) == module.MAX_ADDRESSES
        assert set(found) < set(map(ip_address, many))

    run(server, main)


def test_who_waits_is_told_when_it_closes() -> None:
    server = Nameserver({"silent.test": [SILENCE]})

    async def main(names: Names, _: Clock) -> None:
        waits = asyncio.create_task(names.addresses("silent.test"))
        await asyncio.sleep(0)
        await names.close()
        with pytest.raises(DnsFailed, match="closing"):
            await waits

    run(server, main)
