"""The token bucket of each client, with a clock turned by hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fastmesh.streaming.clients import Allowances


def test_a_burst_and_then_so_many_a_second() -> None:
    allowances = Allowances()
    assert [allowances.take("a", 10.0, 2, 3) for _ in range(4)] == [0, 0, 0, 0.5]
    assert allowances.take("a", 10.25, 2, 3) == 0.25
    assert [allowances.take("a", 10.5, 2, 3) for _ in range(2)] == [0, 0.5]
    assert [allowances.take("a", 1000.0, 2, 3) for _ in range(4)] == [0, 0, 0, 0.5]


def test_one_client_takes_nothing_of_another() -> None:
    allowances = Allowances()
    assert [allowances.take("a", 0.0, 1, 1) for _ in range(2)] == [0, 1]
    assert allowances.take("b", 0.0, 1, 1) == 0


def test_without_a_rate_and_for_who_is_not_counted_there_is_no_bound() -> None:
    allowances = Allowances()
    assert {allowances.take("a", 0.0, 0, 1) for _ in range(100)} == {0}
    assert {allowances.take(None, 0.0, 1, 1) for _ in range(100)} == {0}
    assert len(allowances) == 0


def test_what_is_remembered_is_bounded_and_those_who_ask_stay() -> None:
    allowances = Allowances(max_clients=10)
    for at in range(1000):
        allowances.take(f"client {at}", 0.0, 1, 1)
        allowances.take("busy", 0.0, 0.000_001, 1000)
    assert len(allowances) == 10
    assert allowances.take("busy", 0.0, 0.000_001, 1000) > 0


def test_who_would_begin_with_a_full_bucket_anyway_is_forgotten() -> None:
    allowances = Allowances()
    for at in range(100):
        allowances.take(f"client {at}", 0.0, 1, 5)
    allowances.take("new", 0.5, 1, 5)
    assert len(allowances) == 101
    allowances.take("new", 1.0, 1, 5)
    assert len(allowances) == 1


@given(
    st.floats(0.1, 100),
    st.integers(1, 50),
    st.lists(st.floats(0, 2), min_size=1, max_size=200),
)
def test_never_more_than_burst_and_rate_allow(rate: float, burst: int, pauses: list[float]) -> None:
    allowances, now, granted = Allowances(), 0.0, 0
    for pause in pauses:
        now += pause
        wait_s = allowances.take("a", now, rate, burst)
        granted += not wait_s
        assert 0 <= wait_s <= 1 / rate
    assert granted <= burst + now * rate + 1e-6
