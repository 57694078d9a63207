"""A stream's URLs and the turns of their hosts, on a loop whose clock is turned."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from doubles import TurnedLoop, settle, turned
from hypothesis import given
from hypothesis import strategies as st

from fastmesh.crawl.options import CrawlOptions, InputUrl
from fastmesh.crawl.schedule.backlog import Backlog, Job
from fastmesh.crawl.schedule.slots import MOST_OF_FREE, HostSlot, Slots, TotalSlot
from fastmesh.events import PageResult

OPTIONS = CrawlOptions(1000.0, 1 << 20, "tests", 1 << 20)


def make_slots(total: int = 256, per_host: int = 8, starts_per_s: float = 0.0, starts_a_turn: int = 1_000_000) -> Slots:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, TurnedLoop)
    return Slots(total, per_host, starts_per_s, loop.time, starts_a_turn=starts_a_turn)


def host_of(origin: str) -> str | None:
    """``http://a``, ``http://A`` and ``https://a`` are one host; what has no host has none."""
    return origin.rpartition("/")[2].lower() or None


async def nothing(job: Job) -> PageResult:
    return PageResult(job.input.url)


def backlog_of(inputs: list[InputUrl], slots: Slots, wake: Callable[[], None] = bool, **chosen: Any) -> Backlog:
    """All of *inputs* and no further ones."""
    backlog = Backlog(wake, slots=slots, **{"locate": host_of, "run": nothing, **chosen})
    backlog.add(inputs)
    backlog.end_of_input()
    return backlog


class Stream:
    """Starts what its backlog lets it start, up to *places*, and ends it when the test says so."""

    def __init__(self, slots: Slots, urls: list[str], places: int) -> None:
        self._slots = slots
        self._places = places
        self.urls = urls
        self.running: list[Job] = []
        self.started: list[int] = []
        targets = [InputUrl(url, OPTIONS) for url in urls]
        self.begun = False
        self.backlog = backlog_of(targets, slots, lambda: self.fill() if self.begun else None)

    def fill(self) -> None:
        self.begun = True
        while len(self.running) < self._places and self.backlog.ready():
            job = self.backlog.take()
            if job.slot is not None:
                self._slots.meet(job.slot.key, None)
            self.running.append(job)
            self.started.append(job.index)

    def finish(self, index: int) -> None:
        job = next(job for job in self.running if job.index == index)
        self.running.remove(job)
        if job.slot is not None:
            job.slot.give_back(asked=True)
        job.close()
        self.fill()

    def hosts(self) -> Counter[str | None]:
        return Counter(host_of(job.input.url.rpartition("/")[0]) for job in self.running)


def test_urls_start_in_the_order_of_the_input() -> None:
    async def run() -> None:
        stream = Stream(make_slots(), [f"http://h{at}/x" for at in range(20)], places=3)
        stream.fill()
        for index in range(20):
            stream.finish(index)
        assert stream.started == list(range(20))

    turned(run())


def test_a_host_that_is_slow_does_not_take_the_places_of_one_that_is_quick() -> None:
    async def run() -> None:
        urls = [f"http://slow/{at}" for at in range(200)] + [f"http://quick/{at}" for at in range(200)]
        for places in (4, 8, 16, 256):
            stream = Stream(make_slots(), urls, places)
            stream.fill()
            share = min(8, places // 2)
            while stream.hosts()["quick"]:
                assert stream.hosts() == {"slow": share, "quick": share} or stream.started.count(399)
                stream.finish(next(job.index for job in stream.running if job.index >= 200))
            assert sorted(index for index in stream.started if index >= 200) == list(range(200, 400))
            stream.backlog.close()

    turned(run())


@pytest.mark.parametrize("places", [2, 4, 16])
def test_dead_names_of_one_domain_hold_up_nobody_else(places: int) -> None:
    async def run() -> None:
        dead = [f"http://n{at}.dead.example/x" for at in range(200)]
        others = [f"http://www.shop{at}.example/x" for at in range(100)]
        stream = Stream(make_slots(), dead + others, places)
        stream.fill()
        for _ in others:  # none of the dead ones ever ends
            alive = [job.index for job in stream.running if job.index >= len(dead)]
            assert len(alive) == places - 1 or stream.started.count(len(dead + others) - 1)
            stream.finish(alive[0])
        assert sorted(index for index in stream.started if index >= len(dead)) == list(range(200, 300))
        assert len(stream.running) == places  # and then they have all of it
        stream.backlog.close()

    turned(run())


def test_one_host_beside_dead_names_of_one_domain_has_half_of_the_places() -> None:
    async def run() -> None:
        urls = [f"http://n{at}.dead.example/x" for at in range(200)] + [f"http://quick/{at}" for at in range(200)]
        stream = Stream(make_slots(), urls, places=8)
        stream.fill()
        for index in range(200, 400):
            assert stream.hosts()["quick"] == min(4, 400 - index)
            stream.finish(index)
        stream.backlog.close()

    turned(run())


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.integers(1, 5), st.booleans())
def test_names_of_several_domains_may_be_one_host(domains: list[str], places: int, in_order: bool) -> None:
    async def run() -> None:
        slots = make_slots(per_host=places)
        targets = [InputUrl(f"http://x{at}.{domain}.example/", OPTIONS) for at, domain in enumerate(domains)]
        backlog = backlog_of(targets, slots, locate=lambda _: "one:80", in_order=in_order)
        slots.meet("one:80", None)
        running, started = [], []
        while backlog.left or running:
            while len(running) < places and backlog.ready():
                running.append(backlog.take())
                started.append(running[-1].index)
            running.pop(0).close()
        assert sorted(started) == list(range(len(domains)))
        assert started == sorted(started) or not in_order

    turned(run())


def taken(backlog: Backlog, slots: Slots) -> Iterator[Job]:
    """The jobs that may be started now; each is the one that was announced."""
    while backlog.ready():
        first, job = backlog.first, backlog.take()
        assert job.index == first
        if job.slot is not None:
            slots.meet(job.slot.key, None)
        yield job


def test_a_repeated_url_is_started_once_and_its_job_knows_where_it_stands_again() -> None:
    async def run() -> None:
        other = replace(OPTIONS, retries=1)
        urls = [
            "http://a/1",
            "HTTP://A/1",
            "http://a/1#x",
            "http://a",
            "http://a/",
            "http://a/1",
            "x",
            "x",
            "http://a/A",
        ]
        targets = [InputUrl(url, OPTIONS, f"id{at}") for at, url in enumerate(urls)] + [InputUrl(urls[0], other)]
        slots = make_slots(per_host=99)
        backlog = backlog_of(targets, slots, dedupe=True)
        assert backlog.left == 6
        repeats = {job.index: list(job.repeats) for job in taken(backlog, slots)}
        assert repeats == {
            0: [(1, "HTTP://A/1", "id1"), (5, "http://a/1", "id5")],
            2: [],
            3: [(4, "http://a/", "id4")],
            6: [(7, "x", "id7")],
            8: [],
            9: [],
        }

    turned(run())


def test_in_the_inputs_order_a_slow_host_goes_first_where_it_stands_first() -> None:
    async def run() -> None:
        targets = [InputUrl(f"http://{host}/{at}", OPTIONS) for at, host in enumerate("aabbaab")]
        slots = make_slots(per_host=99)
        backlog = backlog_of(targets, slots, in_order=True)
        assert [job.index for job in taken(backlog, slots)] == list(range(7))

    turned(run())


def test_spellings_of_one_host_share_its_turns_and_what_has_no_host_needs_none() -> None:
    async def run() -> None:
        slots = make_slots(per_host=2)
        urls = ["http://a/1", "nonsense", "HTTP://A/2", "https://a/3", "http:///", "http://A/4"]
        stream = Stream(slots, urls, places=10)
        stream.fill()
        assert sorted(stream.started) == [0, 1, 2, 4]
        stream.finish(2)
        stream.finish(0)
        assert stream.started[4:] == [3, 5]
        assert {job.budget.urls for job in stream.running if job.slot} == {4}

    turned(run())


def test_a_queue_waits_in_its_hosts_line_and_says_how_long() -> None:
    async def run() -> None:
        slots = make_slots(per_host=1)
        first = Stream(slots, ["http://a/1"], 1)
        second = Stream(slots, ["http://a/2", "http://a/3"], 2)
        first.fill()
        second.fill()
        assert (second.started, slots.waiting) == ([], 1)
        await asyncio.sleep(7)
        first.finish(0)
        assert second.started == [0]
        assert (second.running[0].queued_s, slots.waiting) == (7, 1)
        second.finish(0)
        second.finish(1)
        assert (slots.waiting, slots.hosts) == (0, 0)

    turned(run())


def test_streams_that_have_no_room_leave_their_turn_to_the_next() -> None:
    async def run() -> None:
        slots = make_slots(per_host=1)
        streams = [Stream(slots, [f"http://a/{at}" for at in range(3)], 1) for _ in range(3)]
        for stream in streams:
            stream.fill()
        streams[1]._places = 0
        streams[0].finish(0)
        assert [stream.started for stream in streams] == [[0], [], [0]]
        streams[2].finish(0)
        assert [stream.started for stream in streams] == [[0, 1], [], [0]]
        streams[1]._places = 1
        streams[1].fill()  # it waits again, behind who waited all the time
        streams[0].finish(1)
        streams[2].finish(1)
        assert [stream.started for stream in streams] == [[0, 1], [0], [0, 1]]

    turned(run())


def test_a_few_urls_begin_in_a_turn_of_the_loop_and_streams_take_turns_at_that() -> None:
    async def run() -> None:
        slots = make_slots(starts_a_turn=3)
        sizes = (8, 4, 1)
        streams = [Stream(slots, [f"http://h{at}.{number}/" for at in range(number)], number) for number in sizes]
        begun = [(0, 0, 0)]
        for stream in streams:
            stream.fill()
        while sum(begun[-1]) < sum(sizes):
            begun.append((len(streams[0].started), len(streams[1].started), len(streams[2].started)))
            await asyncio.sleep(0)
        assert begun[1:] == [(3, 0, 0), (6, 0, 0), (6, 3, 0), (8, 3, 1), (8, 4, 1)]

    turned(run())


def test_a_stream_that_ends_in_the_line_and_one_that_fails_hold_up_no_other() -> None:
    async def run() -> None:
        slots = make_slots(starts_a_turn=1)
        streams = [Stream(slots, ["http://a/"], 1) for _ in range(4)]
        streams[2].fill = failing  # type: ignore[method-assign]
        streams[2].backlog = backlog_of(
            [InputUrl("http://a/", OPTIONS)], slots, lambda: failing() if streams[3].begun else None
        )
        for stream in streams:
            Stream.fill(stream)
        streams[1].backlog.close()
        for _ in streams:
            await asyncio.sleep(0)
        assert [len(stream.started) for stream in streams] == [1, 0, 0, 1]

    turned(run())


def failing() -> None:
    raise RuntimeError("a bug")


def test_a_rate_is_kept_by_the_clock() -> None:
    async def run() -> None:
        slots = make_slots(starts_per_s=0.5)
        stream = Stream(slots, [f"http://a/{at}" for at in range(4)], 4)
        stream.fill()
        loop = asyncio.get_running_loop()
        for at in (0, 2, 4, 6):
            await asyncio.sleep(at + 0.001 - loop.time())
            assert len(stream.started) == at / 2 + 1
            await asyncio.sleep(1.998)
            assert len(stream.started) == at / 2 + 1
        slots.close()

    turned(run())


def test_a_closed_backlog_starts_nothing_and_waits_for_nothing() -> None:
    async def run() -> None:
        slots = make_slots(per_host=1)
        first, second = (Stream(slots, [f"http://a/{at}" for at in range(3)], 3) for _ in range(2))
        first.fill()
        second.fill()
        second.backlog.close()
        first.backlog.close()
        assert not second.backlog.ready()
        first.finish(0)
        assert (first.started, second.started, slots.waiting, slots.hosts) == ([0], [], 0, 0)

    turned(run())


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), min_size=1, max_size=60),
    st.integers(1, 6),
    st.integers(1, 3),
    st.randoms(use_true_random=False),
)
def test_every_url_is_started_once_and_no_host_has_more_than_its_turns(
    given_urls: list[tuple[str, int]], places: int, per_host: int, random: Any
) -> None:
    async def run() -> None:
        slots = make_slots(per_host=per_host)
        streams = [
            Stream(slots, [f"http://{host}/x" for host, whose in given_urls if whose == at], places) for at in range(4)
        ]
        for stream in streams:
            stream.fill()
        while busy := [stream for stream in streams if stream.running]:
            assert max(sum((stream.hosts() for stream in streams), Counter()).values()) <= per_host
            # Nobody waits for a host that has a turn to give while they have a place.
            for stream in streams:
                if stream.backlog.left and len(stream.running) < places:
                    left = {
                        host_of(url.rpartition("/")[0])
                        for at, url in enumerate(stream.urls)
                        if at not in stream.started
                    }
                    assert all(sum(s.hosts()[host] for s in streams) == per_host for host in left)
            stream = random.choice(busy)
            stream.finish(random.choice(stream.running).index)
        for stream in streams:
            assert sorted(stream.started) == list(range(len(stream.urls)))
        assert (slots.waiting, slots.hosts) == (0, 0)

    turned(run())


# ── an input that grows ──────────────────────────────────────────────────────────────────


def open_backlog(slots: Slots, wake: Callable[[], None] = bool, **chosen: Any) -> Backlog:
    """One whose input has not ended."""
    return Backlog(wake, slots=slots, locate=host_of, run=nothing, **chosen)


def urls_of(*texts: str) -> list[InputUrl]:
    return [InputUrl(text, OPTIONS, f"id{at}") for at, text in enumerate(texts)]


def test_an_empty_backlog_has_ended_only_when_its_input_has() -> None:
    async def run() -> None:
        slots, woken = make_slots(), []
        backlog = open_backlog(slots, lambda: woken.append((backlog.left, backlog.ended)))
        assert (backlog.left, backlog.ended, backlog.ready()) == (0, False, False)
        backlog.add(urls_of("http://a/1"))
        [job] = taken(backlog, slots)
        job.close()
        assert (backlog.left, backlog.ended, backlog.ready()) == (0, False, False)
        backlog.add(urls_of("http://a/2", "http://b/1"))
        assert [job.index for job in taken(backlog, slots)] == [1, 2]
        backlog.end_of_input()
        assert woken == [(1, False), (2, False), (0, True)]
        with pytest.raises(AssertionError):
            backlog.add(urls_of("http://a/3"))

    turned(run())


def test_what_is_added_to_a_closed_backlog_is_not_started() -> None:
    async def run() -> None:
        backlog = open_backlog(make_slots(), failing)
        backlog.close()
        backlog.add(urls_of("http://a/1"))
        assert (backlog.left, backlog.ready()) == (0, False)

    turned(run())


@given(
    st.lists(st.sampled_from(["http://a.x/", "http://b.x/", "http://A.x/", "https://c.y/", "nothing", "http://d.z/"])),
    st.lists(st.integers(0, 30)),
    st.booleans(),
)
def test_urls_start_in_one_order_however_the_input_comes(hosts: list[str], cuts: list[int], in_order: bool) -> None:
    async def run() -> None:
        slots = make_slots(total=99, per_host=99)
        inputs = [InputUrl(f"{host}{at}", OPTIONS) for at, host in enumerate(hosts)]
        for host in "abcd":
            slots.meet(f"{host}.{'xxyz'['abcd'.index(host)]}", None)
        whole = backlog_of(inputs, slots, in_order=in_order)
        grown = open_backlog(slots, in_order=in_order)
        at = 0
        for cut in sorted({min(cut, len(inputs)) for cut in cuts} | {len(inputs)}):
            grown.add(inputs[at:cut])
            at = cut
        grown.end_of_input()
        orders = [[(job.index, job.budget.urls) for job in taken(backlog, slots)] for backlog in (whole, grown)]
        assert orders[0] == orders[1]
        assert (grown.memory, grown.left) == (whole.memory, 0)

    turned(run())


def test_what_is_added_waits_behind_a_host_that_has_more_under_way() -> None:
    async def run() -> None:
        slots = make_slots(per_host=99)
        for host in "ab":
            slots.meet(host, None)
        backlog = open_backlog(slots)
        backlog.add(urls_of("http://a/1", "http://a/2"))
        running = list(taken(backlog, slots))
        backlog.add(urls_of("http://a/3", "http://b/1"))
        assert [job.index for job in taken(backlog, slots)] == [3, 2]
        assert [job.index for job in running] == [0, 1]

    turned(run())


def test_a_url_that_is_added_again_is_a_repeat_until_its_first_one_has_ended() -> None:
    async def run() -> None:
        slots = make_slots(per_host=99)
        slots.meet("a", None)
        backlog = open_backlog(slots, dedupe=True)
        backlog.add(urls_of("http://a/1", "http://a/2"))
        backlog.add(urls_of("http://A/1"))  # it waits
        first, second = taken(backlog, slots)
        backlog.add(urls_of("HTTP://a/1"))  # it runs
        assert [[index for index, *_ in job.repeats] for job in (first, second)] == [[2, 3], []]
        first.close()
        backlog.add(urls_of("http://a/1", "http://a/2", "http://a/1"))  # its result has gone out; the second's has not
        assert [index for index, *_ in second.repeats] == [5]
        backlog.end_of_input()
        [again] = taken(backlog, slots)
        assert (again.index, [index for index, *_ in again.repeats]) == (4, [6])
        for job in (second, again):
            job.close()
        assert backlog._repeats is not None
        assert not backlog._repeats._by_first

    turned(run())


# ── slots of the total, and turns that are awaited ───────────────────────────────────────

actions = st.lists(st.tuples(st.sampled_from(["take", "finish", "cancel"]), st.integers(0, 9)), max_size=60)


@given(actions, st.integers(1, 12), st.integers(1, 3))
def test_whatever_happens_no_slot_is_lost(script: list[tuple[str, int]], total: int, per_host: int) -> None:
    async def run() -> None:
        slots = make_slots(total, per_host)
        held: Counter[str] = Counter()

        async def hold(host: str, owner: int, done: asyncio.Event) -> None:
            host_slot: HostSlot | None = None
            slot: TotalSlot | None = None
            try:
                host_slot = await slots.host(host, owner)
                slots.meet(host, None)
                slot = await slots.total(owner)
                held[host] += 1
                assert held[host] <= per_host
                assert held.total() <= total
                try:
                    await done.wait()
                finally:
                    held[host] -= 1
            finally:
                for _ in range(2):  # twice is once
                    if slot is not None:
                        slot.give_back()
                    if host_slot is not None:
                        host_slot.give_back(asked=True)

        tasks: list[tuple[asyncio.Task[None], asyncio.Event]] = []
        for action, number in script:
            if action == "take":
                done = asyncio.Event()
                tasks.append((asyncio.create_task(hold(f"host {number % 3}", number, done)), done))
            elif tasks:
                task, done = tasks[number % len(tasks)]
                if action == "cancel":
                    task.cancel()
                else:
                    done.set()
            # Sometimes right after a grant, sometimes before anybody saw it.
            for _ in range(number % 4):
                await asyncio.sleep(0)
            assert slots.in_flight <= total
        await settle()
        assert slots.in_flight == held.total()
        for _, done in tasks:
            done.set()
        await asyncio.gather(*(task for task, _ in tasks), return_exceptions=True)
        assert (slots.in_flight, slots.waiting, slots.hosts) == (0, 0, 0)

    turned(run())


def test_slots_of_the_total_are_given_to_streams_in_turn() -> None:
    async def run() -> None:
        slots, order = make_slots(total=1), []

        async def hold(owner: str) -> None:
            slot = await slots.total(owner)
            order.append(owner)
            slot.give_back()

        first = await slots.total("first")
        tasks = [asyncio.create_task(hold(owner)) for owner in ["large"] * 6 + ["small"] * 2]
        await settle()
        first.give_back()
        await asyncio.gather(*tasks)
        assert order == ["large", "small", "large", "small", "large", "large", "large", "large"]

    turned(run())


def test_who_has_few_slots_finds_one_free_however_many_others_want() -> None:
    async def run() -> None:
        slots = make_slots(total=256)
        greedy = [asyncio.create_task(slots.total(f"greedy {at}")) for at in range(3) for _ in range(256)]
        await settle()
        assert sum(task.done() for task in greedy[:256]) == 205  # four fifths
        small = await slots.total("small")
        assert slots.in_flight <= 256
        small.give_back()
        for task in greedy:
            (await task).give_back()
        assert (slots.in_flight, slots.waiting) == (0, 0)

    turned(run())


def test_a_small_total_is_all_for_one_who_is_alone() -> None:
    async def run() -> None:
        for total in range(1, MOST_OF_FREE + 1):
            slots = make_slots(total)
            held = [await slots.total("one") for _ in range(total)]
            assert slots.in_flight == total
            for slot in held:
                slot.give_back()

    turned(run())
