"""A query's names and values: as the standard library reads them, in fewer steps."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from steps import steps

from fastmesh.api.requests.reading import pairs


@given(st.text(st.sampled_from("ab=&%+4Cc3aA9;"), max_size=40))
def test_a_query_reads_as_the_standard_library_has_it(query: str) -> None:
    try:
        expected = parse_qsl(query, keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        with pytest.raises(UnicodeDecodeError):
            pairs(query)
    else:
        assert pairs(query) == expected


@pytest.mark.parametrize("flood", ["%", "%4", "%%4", "%zz", "%41"])
def test_what_is_no_escape_and_what_is_one_of_many_take_no_step_each(flood: str) -> None:
    assert steps(lambda: pairs("a=" + flood * (65_536 // len(flood)))) < 100
