"""Every target in its short form: its seeds, with each fault that there was, and some changes of them."""

from __future__ import annotations

from random import Random

import pytest

from .budget import OverBudget, Target, Watch, pieces, spend
from .catalogue import TARGETS
from .mutate import Mutator
from .run import run

INPUTS, LONG_S = 40, 60.0


def test_nothing_that_is_sent_is_a_fault() -> None:
    found = run(list(TARGETS), seconds=60, inputs=INPUTS, seed=1)
    assert found.fault is None, str(found)


@pytest.mark.long
@pytest.mark.parametrize("name", TARGETS)
def test_nothing_that_is_sent_for_a_minute_is_a_fault(name: str) -> None:
    found = run([name], seconds=LONG_S, inputs=10**9, seed=2)
    assert found.fault is None, str(found)


def busy(data: bytes, watch: Watch) -> None:
    """Quadratic work."""
    watch.turn(lambda: [sum(data) for _ in data])


def test_an_input_that_takes_more_than_its_length_allows_is_a_fault() -> None:
    target = Target("busy", busy, (), base_s=0.001, s_a_byte=1e-6)
    assert spend(target, b"x" * 10).outcome is None
    with pytest.raises(OverBudget, match="3000 bytes took"):
        spend(target, b"x" * 3000)


def test_a_turn_that_is_too_long_is_a_fault() -> None:
    target = Target("busy", busy, (), s_a_byte=1.0, turn_s=0.005)
    with pytest.raises(OverBudget, match="longest turn"):
        spend(target, b"x" * 3000)


def test_the_same_seed_makes_the_same_inputs_and_none_is_too_long() -> None:
    def made() -> list[bytes]:
        mutator = Mutator(Random(1), (b"word",), 5_000)
        return [mutator.changed(b"a seed with 1 number", b"another") for _ in range(2_000)]

    inputs = made()
    assert inputs == made()
    assert max(map(len, inputs)) <= 5_000
    assert len(set(inputs)) > 1_500
    assert all(b"".join(pieces(data)) == data for data in inputs)
