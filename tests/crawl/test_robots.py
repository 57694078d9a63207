"""The cache of robots.txt: what is kept how long, with real origins and a clock turned by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
import uvloop
from nameserver import Nameserver
from origins import Origin, Request, Route, head
from pages import no_answers

from fastmesh.config import FetchSettings
from fastmesh.crawl.admission import PageAdmission
from fastmesh.crawl.fetch.fetcher import Fetcher
from fastmesh.crawl.net import names as names_module
from fastmesh.crawl.net.guard import AddressGuard
from fastmesh.crawl.net.url import ParsedUrl, parse_url
from fastmesh.crawl.robots import known as known_module
from fastmesh.crawl.robots.known import FORGOTTEN_S, Known
from fastmesh.crawl.robots.robots import (
    MAX_BODY_BYTES,
    NO_RULES_KEPT_S,
    REFUSED_KEPT_S,
    RULES_KEPT_S,
    UNREACHED_KEPT_S,
    Robots,
)
from fastmesh.crawl.schedule.politeness import FIRST_STARTS_PER_S
from fastmesh.crawl.schedule.slots import Slots
from fastmesh.errors import BlockedAddress, ConnectFailed, FetchTimeout, RobotsDisallowed

AGENT = "fastmesh/test"


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin("0.0.0.0") as origin:
        yield origin


class House:
    """Robots and its clock."""

    def __init__(self, fetcher: Fetcher, settings: FetchSettings) -> None:
        self.now = 1000.0
        self.slots = Slots(4, 8, clock=lambda: self.now)
        self.robots = Robots(fetcher, self.slots, settings)

    async def known(self, url: str) -> Known:
        parsed = parse_url(url)
        return self.robots.known(parsed) or await self.robots.learn(parsed, self)

    async def allows(self, url: str) -> bool:
        try:
            await (await self.known(url)).check(parse_url(url), AGENT)
        except RobotsDisallowed:
            return False
        return True


def run(work: Callable[[House], Awaitable[None]], names: Nameserver | None = None, **settings: object) -> None:
    async def main() -> None:
        fetch = FetchSettings.model_validate({"allow_networks": "127.0.0.0/8", "retries": 0, **settings})
        fetcher = Fetcher(fetch, AddressGuard(fetch), no_answers(), dns=names.client() if names else None)
        house = House(fetcher, fetch)
        try:
            await work(house)
        finally:
            await house.robots.close()
            house.slots.close()
            await fetcher.close()
        assert (house.slots.in_flight, house.slots.waiting) == (0, 0)

    uvloop.run(main())


def says(origin: Origin, text: str, **more: object) -> None:
    origin.page("/robots.txt", text, content_type="text/plain", **more)  # type: ignore[arg-type]


NO = "User-agent: *\nDisallow: /"


@pytest.mark.parametrize(
    ("status", "allowed", "kept_s"),
    [
        (200, False, RULES_KEPT_S),
        (404, True, NO_RULES_KEPT_S),
        (403, True, NO_RULES_KEPT_S),
        (429, True, NO_RULES_KEPT_S),
        (500, False, REFUSED_KEPT_S),
        (503, False, REFUSED_KEPT_S),
    ],
)
def test_an_answer_is_kept_for_its_time_and_asked_for_anew_then(
    origin: Origin, status: int, allowed: bool, kept_s: float
) -> None:
    async def work(house: House) -> None:
        says(origin, NO, status=status)
        url = origin.url("/x", "127.0.0.1")
        assert await house.allows(url) is allowed
        house.now += kept_s - 1
        assert await house.allows(url) is allowed
        assert origin.hits["/robots.txt"] == 1
        house.now += 1
        says(origin, "" if not allowed else NO)
        assert await house.allows(url) is not allowed
        assert origin.hits["/robots.txt"] == 2

    run(work)


def test_what_it_said_last_holds_while_it_cannot_say_anything(origin: Origin) -> None:
    async def work(house: House) -> None:
        says(origin, "User-agent: *\nDisallow: /x")
        x, y = origin.url("/x", "127.0.0.1"), origin.url("/y", "127.0.0.1")
        for _ in range(3):
            assert [await house.allows(x), await house.allows(y)] == [False, True]
            says(origin, "", status=500)
            house.now += RULES_KEPT_S
        assert origin.hits["/robots.txt"] == 3

    run(work)


def test_an_origin_that_cannot_be_reached_fails_its_pages_for_a_moment() -> None:
    with Origin() as origin:
        url = origin.url("/x")

    async def work(house: House) -> None:
        with pytest.raises(ConnectFailed, match=r"127\.0\.0\.1: robots\.txt cannot be read: no connection"):
            await house.allows(url)
        assert house.robots.known(parse_url(url)) is not None
        house.now += UNREACHED_KEPT_S
        assert house.robots.known(parse_url(url)) is None

    run(work)


def test_one_that_never_answers_costs_the_fetch_timeout_once(origin: Origin) -> None:
    async def silent(_: Request) -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    origin.route("/robots.txt", silent)

    async def work(house: House) -> None:
        for _ in range(2):
            with pytest.raises(FetchTimeout):
                await house.allows(origin.url("/x", "127.0.0.1"))
        assert origin.hits["/robots.txt"] == 1

    run(work, timeout_ms=100, retries=2)


def test_each_scheme_host_and_port_has_its_own(origin: Origin) -> None:
    async def work(house: House) -> None:
        with Origin("0.0.0.0") as other:
            says(other, NO)
            for url in (origin.url("/x", "127.0.0.1"), origin.url("/x", "127.0.0.2")):
                assert await house.allows(url)
            assert not await house.allows(other.url("/x", "127.0.0.1"))
        assert origin.hits["/robots.txt"] == 2

    run(work)


@pytest.mark.parametrize(("redirects", "allowed"), [(1, False), (5, False), (6, True)])
def test_five_redirects_are_followed_and_after_more_all_is_allowed(
    origin: Origin, redirects: int, allowed: bool
) -> None:
    async def work(house: House) -> None:
        path = "/robots.txt"
        for at in range(redirects):
            origin.redirect(path, origin.url(f"/hop-{at}", "127.0.0.2"))
            path = f"/hop-{at}"
        origin.page(path, NO)
        assert await house.allows(origin.url("/x", "127.0.0.1")) is allowed

    run(work, max_redirects=0)


def test_a_redirect_to_where_nobody_may_look_is_no_robots_txt(origin: Origin) -> None:
    async def work(house: House) -> None:
        origin.redirect("/robots.txt", "http://169.254.169.254/robots.txt")
        assert await house.allows(origin.url("/x", "127.0.0.1"))

    run(work)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["its own", "where it redirects"])
def test_a_name_that_leads_to_a_blocked_address_allows_nothing_and_is_asked_again_soon(
    origin: Origin, elsewhere: bool
) -> None:
    async def work(house: House) -> None:
        says(origin, NO)
        if elsewhere:
            origin.redirect("/robots.txt", origin.url("/rules", "moves.test"))
            origin.page("/rules", NO)
        url = origin.url("/x", "127.0.0.1" if elsewhere else "moves.test")
        with pytest.raises(BlockedAddress, match=r"robots\.txt cannot be read: moves\.test leads to 10\.0\.0\.1"):
            await house.allows(url)
        house.now += UNREACHED_KEPT_S
        assert not await house.allows(url)
        assert origin.hits["/rules" if elsewhere else "/robots.txt"] == 1

    with Nameserver({"moves.test": [["10.0.0.1"], ["127.0.0.1"]]}) as names, pytest.MonkeyPatch.context() as patch:
        patch.setattr(names_module, "MIN_KEPT_S", 0.0)
        run(work, names)


@pytest.mark.parametrize(("status", "slowed"), [(429, True), (503, True), (500, False), (404, False), (200, False)])
def test_a_host_that_refuses_its_robots_txt_is_slowed_down(origin: Origin, status: int, slowed: bool) -> None:
    async def work(house: House) -> None:
        says(origin, "", status=status)
        url = parse_url(origin.url("/x", "127.0.0.1"))
        await house.known(origin.url("/x", "127.0.0.1"))
        assert house.slots.ready(url.host_key) is not slowed
        house.now += 1 / FIRST_STARTS_PER_S
        assert house.slots.ready(url.host_key)

    run(work)


def test_who_asked_for_a_robots_txt_that_was_refused_waits_like_all_others(origin: Origin) -> None:
    async def work(house: House) -> None:
        says(origin, "", status=429, headers={"Retry-After": "9"})
        url = parse_url(origin.url("/x", "127.0.0.1"))
        admission = PageAdmission(house.slots, house, None, house.robots, AGENT)
        entering = asyncio.create_task(admission.admit(url))
        async with asyncio.timeout(10):
            while not house.slots.waiting:  # noqa: ASYNC110 - the origin is a thread
                await asyncio.sleep(0.001)
        assert not house.slots.ready(url.host_key)
        house.now += 9
        house.slots.meet(url.host_key, None)  # whatever happens at the host
        (await entering).unused()

    run(work)


def test_what_is_beyond_the_cap_does_not_count(origin: Origin) -> None:
    async def work(house: House) -> None:
        rules = "User-agent: *\nDisallow: /before\n"
        rules += "#" * (MAX_BODY_BYTES - len(rules) - len("\nDisallow: /at")) + "\nDisallow: /at/and/beyond\n"
        assert len(rules) > MAX_BODY_BYTES
        says(origin, rules)
        verdicts = [await house.allows(origin.url(path, "127.0.0.1")) for path in ("/before", "/at/x", "/beyond", "/")]
        assert verdicts == [False, False, True, True]

    run(work)


def test_one_that_never_ends_is_cut(origin: Origin) -> None:
    async def endless(_: Request) -> AsyncIterator[bytes]:
        yield head(200, {"Content-Type": "text/plain"}) + NO.encode() + b"\n"
        while True:
            yield b"#" * 65_536

    origin.route("/robots.txt", endless)

    async def work(house: House) -> None:
        assert not await house.allows(origin.url("/x", "127.0.0.1"))

    run(work)


def held_back(origin: Origin) -> tuple[asyncio.Event, asyncio.Event]:
    """robots.txt sets the first event when it is asked for, and answers when the second one is set."""
    asked, gate, loop = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop()

    async def answer(_: Request) -> AsyncIterator[bytes]:
        loop.call_soon_threadsafe(asked.set)
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(gate.wait(), loop))
        yield head(200, {"Content-Type": "text/plain", "Content-Length": str(len(NO))}) + NO.encode()

    route: Route = answer
    origin.route("/robots.txt", route)
    return asked, gate


def test_all_who_ask_at_the_same_time_wait_for_one_fetch_and_who_leaves_takes_it_from_nobody(origin: Origin) -> None:
    async def work(house: House) -> None:
        asked, gate = held_back(origin)
        url: ParsedUrl = parse_url(origin.url("/x", "127.0.0.1"))
        asking = [asyncio.create_task(house.robots.learn(url, house)) for _ in range(5)]
        await asked.wait()
        asking[0].cancel()
        await asyncio.wait([asking[0]])
        gate.set()
        known = await asyncio.gather(*asking[1:])
        assert len(set(map(id, known))) == 1
        assert asking[0].cancelled()
        assert origin.hits["/robots.txt"] == 1

    run(work)


def test_a_fetch_that_nobody_waits_for_any_more_is_ended(origin: Origin) -> None:
    async def work(house: House) -> None:
        asked, _ = held_back(origin)
        url = parse_url(origin.url("/x", "127.0.0.1"))
        asking = asyncio.create_task(house.robots.learn(url, house))
        await asked.wait()
        assert house.slots.in_flight == 1
        asking.cancel()
        await asyncio.wait([asking])
        says(origin, "")
        assert await house.allows(origin.url("/x", "127.0.0.1"))  # whoever comes then asks anew
        assert house.slots.in_flight == 0

    run(work)


def test_closing_ends_the_fetches_and_tells_who_waits(origin: Origin) -> None:
    async def work(house: House) -> None:
        asked, _ = held_back(origin)
        asking = asyncio.create_task(house.robots.learn(parse_url(origin.url("/x", "127.0.0.1")), house))
        await asked.wait()
        await house.robots.close()
        with pytest.raises(ConnectFailed, match="closing"):
            await asking

    run(work)


def test_an_origin_that_nobody_asks_any_more_is_forgotten(origin: Origin) -> None:
    async def work(house: House) -> None:
        says(origin, NO)
        for at in range(1, 11):
            await house.known(origin.url("/y", f"127.0.0.{at}"))
        filled = house.robots.origins.bytes
        house.now += RULES_KEPT_S + FORGOTTEN_S
        await house.known(origin.url("/y", "127.0.0.99"))
        assert house.robots.origins.bytes == filled // 10

    run(work)


def test_memory_has_a_bound_and_the_longest_unused_go_first(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_module, "MAX_KEPT_BYTES", 20_000)

    async def work(house: House) -> None:
        says(origin, "User-agent: *\n" + "Disallow: /x\n" * 10)
        urls = [origin.url("/y", f"127.0.0.{at}") for at in range(1, 11)]
        for url in urls:
            await house.known(url)
            await house.known(urls[0])
            assert house.robots.origins.bytes <= 20_000
        kept = [house.robots.known(parse_url(url)) is not None for url in urls]
        assert kept[0]
        assert kept == [True, *sorted(kept[1:])]
        assert 2 <= sum(kept) < 10

    run(work)
