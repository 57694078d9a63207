"""Ebb: when memory is given back to the system."""

from __future__ import annotations

from fastmesh.streaming.memory import LEAST_BYTES, Ebb


def test_memory_is_given_back_when_less_than_half_is_left_and_it_is_worth_it() -> None:
    ebb = Ebb()
    steps = [
        (LEAST_BYTES - 1, False),
        (0, False),  # too little
        (LEAST_BYTES * 3, False),
        (LEAST_BYTES * 2, False),  # more than half is left
        (LEAST_BYTES * 3 // 2, True),
        (LEAST_BYTES, False),
        (0, True),
        (0, False),
    ]
    for held, emptied in steps:
        assert ebb.has_set_in(held) is emptied, held
