"""Politeness: turns at hosts, told facts and the time; a clock turned by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmesh.crawl.fairness.line import Line
from fastmesh.crawl.schedule.politeness import (
    ENOUGH_STARTS_PER_S,
    FEWEST_STARTS_PER_S,
    FIRST_STARTS_PER_S,
    MAX_CRAWL_DELAY_S,
    MAX_PAUSE_S,
    MAX_RESTING,
    MORE_STARTS_PER_S,
    RESTING_KEPT_S,
    Politeness,
)

HOST = "example.org:443"


def known(per_host: int = 2, starts_per_s: float = 0.0, crawl_delay_s: float | None = None) -> Politeness:
    """One host whose robots.txt is known, and that has something under way for ever, so that nothing is forgotten."""
    polite = Politeness(per_host + 1, starts_per_s)
    polite.start(HOST, -1000.0)
    polite.meet(HOST, crawl_delay_s, -1000.0)
    return polite


def starts(polite: Politeness, now: float) -> bool:
    """Start a fetch that ends at once, if one may start."""
    if not polite.may_start(HOST, now):
        return False
    polite.start(HOST, now)
    polite.end(HOST, now)
    return True


def next_start(polite: Politeness, now: float, step_s: float = 0.01) -> float:
    """The first time from *now* on at which a fetch may start, to the step."""
    for at in range(100_000):
        if polite.may_start(HOST, now + at * step_s):
            return now + at * step_s
    raise AssertionError("never")


# ── turns ────────────────────────────────────────────────────────────────────────────────


@given(st.dictionaries(st.sampled_from("abcde"), st.integers(1, 50), min_size=1))
def test_owners_are_served_in_turn_and_each_in_its_own_order(waiting: dict[str, int]) -> None:
    line: Line[tuple[str, int]] = Line()
    for owner, count in waiting.items():
        for number in range(count):
            line.join(owner, (owner, number))
    assert line.waiting == sum(waiting.values())
    served: list[tuple[str, int]] = []
    while (waiter := line.next()) is not None:
        served.append(waiter)
        counts = Counter(owner for owner, _ in served)
        # Nobody is two turns ahead of somebody who still waits.
        behind = [counts[owner] for owner, count in waiting.items() if counts[owner] < count]
        assert not behind or max(counts.values()) <= min(behind) + 1
    for owner, count in waiting.items():
        assert [number for name, number in served if name == owner] == list(range(count))
    assert line.waiting == 0


def test_who_leaves_a_line_is_not_called_and_holds_nobody_up() -> None:
    line: Line[str] = Line()
    for owner, waiter in (("a", "a1"), ("a", "a2"), ("b", "b1")):
        line.join(owner, waiter)
    assert (line.leave("a", "a1"), line.leave("a", "a1"), line.leave("c", "c1")) == (True, False, False)
    assert [line.next(), line.next(), line.next()] == ["a2", "b1", None]


def test_a_host_that_nobody_knows_gets_one_url_until_its_robots_txt_is_there() -> None:
    polite = Politeness(per_host=8, starts_per_s=0)
    polite.start(HOST, 0)
    assert not polite.may_start(HOST, 0)
    polite.meet(HOST, None, 0)
    begun = 1
    while polite.may_start(HOST, 0):
        polite.start(HOST, 0)
        begun += 1
    assert begun == 8


def test_nobody_passes_those_who_wait() -> None:
    polite, called = known(per_host=1), []
    polite.start(HOST, 0)
    waiter: Callable[[], None] = lambda: called.append(1)  # noqa: E731
    polite.wait(HOST, "a stream", waiter, 0)
    polite.end(HOST, 1)
    assert not polite.may_start(HOST, 1)  # there is a turn, and it is somebody's
    assert polite.next(HOST, 1) is waiter
    assert polite.may_start(HOST, 1, waiter)
    assert polite.next(HOST, 1) is None  # it was not taken
    assert polite.may_start(HOST, 1)


def test_a_batch_of_a_thousand_does_not_starve_one_of_three() -> None:
    polite, order = known(per_host=2), []

    def waiter(owner: str) -> Callable[[], None]:
        return lambda: order.append(owner)

    for _ in range(2):
        polite.start(HOST, 0)
    for owner, count in (("large", 1000), ("small", 3)):
        for _ in range(count):
            polite.wait(HOST, owner, waiter(owner), 0)
    for _ in range(8):
        polite.end(HOST, 0)
        called = polite.next(HOST, 0)
        assert called is not None
        called()
        polite.start(HOST, 0)
    assert order == ["large", "small", "large", "small", "large", "small", "large", "large"]


# ── time ─────────────────────────────────────────────────────────────────────────────────


@given(st.floats(0.1, 50), st.lists(st.floats(0, 3), max_size=60))
def test_starts_are_never_closer_than_the_rate_allows(rps: float, steps: list[float]) -> None:
    polite, now, begun = known(starts_per_s=rps), 0.0, []
    for step_s in steps:
        now += step_s
        if starts(polite, now):
            begun.append(now)
    assert all(after - before >= 1 / rps - 1e-9 for before, after in pairwise(begun))


def test_a_crawl_delay_holds_from_the_moment_it_is_known_and_has_a_bound() -> None:
    for delay_s, holds_s in ((2.0, 2.0), (10_000.0, MAX_CRAWL_DELAY_S)):
        polite = Politeness(8, 0)
        polite.start(HOST, 0)
        polite.meet(HOST, delay_s, 0)  # the first asks now
        polite.end(HOST, 0.1)
        assert next_start(polite, 0.1) == pytest.approx(holds_s, abs=0.011)
        polite.start(HOST, holds_s)
        polite.meet(HOST, delay_s, holds_s)  # the same again changes nothing
        assert next_start(polite, holds_s) == pytest.approx(2 * holds_s, abs=0.011)


def test_a_turn_that_asked_the_host_for_nothing_delays_nobody() -> None:
    polite = known(per_host=8, crawl_delay_s=5)
    until = polite.start(HOST, 0)
    assert not polite.may_start(HOST, 1)
    polite.end(HOST, 1, until)
    assert polite.may_start(HOST, 1)
    first = polite.start(HOST, 1)
    second = polite.start(HOST, 6)
    polite.end(HOST, 7, first)  # by now somebody else began, and that counts
    assert (first, second, next_start(polite, 7)) == (6, 11, pytest.approx(11, abs=0.011))


def test_only_time_is_waited_for_by_an_alarm_and_one_is_enough() -> None:
    polite = known(per_host=8, crawl_delay_s=5)
    assert starts(polite, 0)
    for number in range(3):
        polite.wait(HOST, number, lambda: None, 0)
    assert polite.alarm_at == 5
    assert (list(polite.due(4.9)), list(polite.due(5)), polite.alarm_at) == ([], [HOST], None)
    assert polite.next(HOST, 5) is not None
    polite.start(HOST, 5)
    assert polite.next(HOST, 5) is None
    assert polite.alarm_at == 10


# ── slowing down ─────────────────────────────────────────────────────────────────────────


def test_too_many_halves_the_rate_once_for_all_that_were_under_way() -> None:
    polite = known(per_host=8)
    for _ in range(8):
        polite.refused(HOST, asked_at=-1, retry_after_s=None, now=0)
    assert next_start(polite, 0) == pytest.approx(1 / FIRST_STARTS_PER_S, abs=0.011)
    polite.refused(HOST, asked_at=1, retry_after_s=None, now=1)
    assert next_start(polite, 1) == pytest.approx(1 + 2 / FIRST_STARTS_PER_S, abs=0.011)


def test_however_often_it_refuses_it_is_tried_now_and_then() -> None:
    polite = known()
    for at in range(100):
        polite.refused(HOST, asked_at=at, retry_after_s=None, now=at)
    assert next_start(polite, 100) <= 100 + 1 / FEWEST_STARTS_PER_S


@pytest.mark.parametrize(("retry_after_s", "pause_s"), [(3.0, 3.0), (0.0, 0.5), (86_400.0, MAX_PAUSE_S)])
def test_retry_after_is_kept_up_to_a_bound(retry_after_s: float, pause_s: float) -> None:
    polite = known()
    polite.refused(HOST, asked_at=0, retry_after_s=retry_after_s, now=0)
    assert next_start(polite, 0) == pytest.approx(pause_s, abs=0.011)


def test_good_answers_bring_the_rate_back_step_by_step() -> None:
    polite, now, answers = known(), 0.0, 0
    polite.refused(HOST, asked_at=0, retry_after_s=None, now=0)
    waits = []
    while True:
        began = next_start(polite, now, 0.001)
        waits.append(began - now)
        if waits[-1] == 0:
            break
        now = began
        assert starts(polite, now)
        polite.served(HOST)
        answers += 1
    assert answers == pytest.approx((ENOUGH_STARTS_PER_S - FIRST_STARTS_PER_S) / MORE_STARTS_PER_S, abs=2)
    assert all(after <= before + 0.0011 for before, after in pairwise(waits))
    assert 8 < now < 15


# ── memory ───────────────────────────────────────────────────────────────────────────────


def test_a_host_that_nothing_is_to_be_remembered_of_is_forgotten() -> None:
    polite = Politeness(8, 0)
    for number in range(1000):
        polite.start(str(number), 0)
        polite.meet(str(number), None, 0)
        polite.served(str(number))
        polite.end(str(number), 0)
    assert (polite.hosts, len(polite._resting)) == (0, 0)


def test_the_memory_for_hosts_that_were_slowed_down_has_a_bound() -> None:
    polite = Politeness(8, 0)
    for number in range(MAX_RESTING + 500):
        key = str(number)
        polite.start(key, 0)
        polite.refused(key, 0, 5.0, 0)
        polite.end(key, 0)
    assert (polite.hosts, len(polite._resting)) == (0, MAX_RESTING)
    assert not polite.may_start(str(MAX_RESTING + 499), 1)
    assert polite.may_start(str(MAX_RESTING + 499), 5)


def test_a_host_that_has_nothing_under_way_is_told_of_all_the_same() -> None:
    polite = Politeness(8, 0)
    polite.refused(HOST, 0, 5.0, 0)
    assert (polite.hosts, len(polite._resting)) == (0, 1)
    assert not polite.may_start(HOST, 4)
    assert polite.may_start(HOST, 5)


def test_a_host_that_was_slowed_down_is_forgotten_in_the_end() -> None:
    polite = Politeness(8, 0)
    for number in range(100):
        polite.refused(str(number), 0, 5.0, 0)
    polite.refused("later", RESTING_KEPT_S / 2, 5.0, RESTING_KEPT_S / 2)
    polite.start(HOST, RESTING_KEPT_S)  # whatever happens anywhere
    polite.end(HOST, RESTING_KEPT_S)
    assert (polite.hosts, len(polite._resting)) == (0, 1)


events = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "end", "end", "leave", "refuse", "serve", "meet", "pass"]),
        st.integers(0, 2),
        st.integers(0, 3),
        st.floats(0, 5),
    ),
    max_size=150,
)


@given(events, st.integers(1, 4), st.sampled_from([0.0, 0.5, 10.0]))
def test_whatever_happens_the_limit_holds_and_everybody_gets_a_turn(
    script: list[tuple[str, int, int, float]], per_host: int, rps: float
) -> None:
    polite, now = Politeness(per_host, rps), 0.0
    running: Counter[str] = Counter()
    waiting: list[tuple[str, int, Callable[[], None]]] = []
    known: set[str] = set()

    def start(key: str) -> None:
        polite.start(key, now)
        running[key] += 1
        assert running[key] <= per_host

    def serve(key: str) -> None:
        while (waiter := polite.next(key, now)) is not None:
            assert polite.may_start(key, now, waiter)
            at = next(at for at, (_, _, other) in enumerate(waiting) if other is waiter)
            assert waiting.pop(at)[0] == key
            start(key)

    def finish(key: str) -> None:
        if running[key]:
            running[key] -= 1
            polite.end(key, now)
            serve(key)

    def ring() -> None:
        for key in list(polite.due(now)):
            serve(key)

    for action, host, owner, seconds in script:
        key = f"host {host}"
        if action == "ask":
            if polite.may_start(key, now):
                start(key)
            else:
                waiting.append((key, owner, lambda: None))
                polite.wait(key, owner, waiting[-1][2], now)
        elif action == "end":
            finish(key)
        elif action == "leave" and waiting:
            gone, whose, waiter = waiting.pop(owner % len(waiting))
            polite.withdraw(gone, whose, waiter, now)
        elif action == "refuse" and running[key]:
            polite.refused(key, now, seconds, now)
        elif action == "serve" and running[key]:
            polite.served(key)
        elif action == "meet" and running[key]:
            polite.meet(key, None if seconds < 1 else seconds, now)
            known.add(key)
            serve(key)
        elif action == "pass":
            now += seconds
            ring()
        assert polite.waiting == len(waiting)
    for _ in range(10_000):
        if not waiting:
            break
        for key in list(running):
            finish(key)
        if polite.alarm_at is not None:
            now = max(now, polite.alarm_at)
            ring()
    for key in list(running):
        while running[key]:
            finish(key)
    assert (waiting, polite.waiting, polite.hosts) == ([], 0, 0)
