"""Buckets against a sorted list."""

from __future__ import annotations

import math
from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmesh._core import Buckets

VALUES = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9)


@given(st.lists(VALUES, min_size=0, max_size=16, unique=True).map(sorted), st.lists(VALUES))
def test_each_value_is_in_the_first_bucket_whose_bound_is_not_below_it(
    bounds: list[float], values: list[float]
) -> None:
    buckets = Buckets(tuple(bounds))
    for value in [*values, *bounds]:  # a bound belongs to its own bucket
        buckets.observe(value)
    expected = [0] * (len(bounds) + 1)
    for value in [*values, *bounds]:
        expected[bisect_left(bounds, value)] += 1
    assert buckets.counts == expected
    assert buckets.bounds == tuple(bounds)
    assert buckets.total == pytest.approx(math.fsum([*values, *bounds]), abs=1e-3)


def test_so_many_bounds_and_no_more() -> None:
    assert Buckets(tuple(range(16))).counts == [0] * 17
    with pytest.raises(ValueError, match="17 bounds are too many"):
        Buckets(tuple(range(17)))
