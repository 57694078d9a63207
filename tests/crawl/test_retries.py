"""Retries: what is tried again, after how long, and how often."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmesh.crawl.fetch.retries import retry_wait_s
from fastmesh.crawl.schedule.permit import RetryBudget
from fastmesh.errors import BlockedAddress, ConnectFailed, HttpStatus, TlsFailed, TooLarge, UrlError

PATIENT_S = 1000.0


@pytest.mark.parametrize(
    ("jitter", "waits"), [(0.0, [0.15, 0.3, 0.6]), (0.5, [0.3, 0.6, 1.2]), (1.0, [0.45, 0.9, 1.8])]
)
def test_waits_double_and_are_spread(jitter: float, waits: list[float]) -> None:
    error = ConnectFailed("no")
    assert [retry_wait_s(error, tries, PATIENT_S, lambda: jitter) for tries in (1, 2, 3)] == pytest.approx(waits)


@pytest.mark.parametrize(
    "error", [TlsFailed("no"), BlockedAddress("no"), TooLarge("no"), HttpStatus(404), HttpStatus(403), HttpStatus(999)]
)
def test_what_would_fail_again_is_not_tried_again(error: UrlError) -> None:
    assert retry_wait_s(error, 1, PATIENT_S) is None


@given(st.integers(1, 20), st.floats(0, 100), st.floats(0, 100), st.floats(0, 1))
def test_no_wait_ends_after_the_deadline_or_before_retry_after(
    tries: int, asked_s: float, left_s: float, jitter: float
) -> None:
    wait_s = retry_wait_s(HttpStatus(503, retry_after_s=asked_s), tries, left_s, lambda: jitter)
    assert wait_s is None or asked_s <= wait_s < left_s
    if left_s > max(asked_s, 0.45 * 2**tries):
        assert wait_s is not None


@given(st.integers(0, 1000))
def test_the_budget_is_ten_or_a_fifth_of_the_urls(urls: int) -> None:
    budget = RetryBudget(urls)
    taken = 0
    while budget.take():
        taken += 1
    assert taken == max(10, urls // 5)
