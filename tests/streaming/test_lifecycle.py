"""A stream's life: the table as design.md draws it, written here a second time, and streams that walk it."""

from __future__ import annotations

import pytest
from doubles import Pages, settle
from house import House, in_loop

from fastmesh.streaming.lifecycle import IllegalStep, Lifecycle, State, Step

# Initializing → Active ⇄ Flushing → Closing → Closed, and Error → Closing.  A dot: refused.
TABLE = """
              start   flush     resume  fail   close    done
initializing  active  .         .       error  closing  .
active        .       flushing  .       error  closing  .
flushing      .       .         active  error  closing  .
error         .       .         .       .      closing  .
closing       .       .         .       .      .        closed
closed        .       .         .       .      .        .
"""
_STEPS, *_ROWS = (line.split() for line in TABLE.strip().splitlines())
PAIRS = [(row[0], step, new) for row in _ROWS for step, new in zip(_STEPS, row[1:], strict=True)]


def test_the_table_has_every_pair() -> None:
    assert {(old, step) for old, step, _ in PAIRS} == {(str(old), str(step)) for old in State for step in Step}


@pytest.mark.parametrize(("old", "step", "new"), PAIRS)
def test_every_pair_of_state_and_step(old: str, step: str, new: str) -> None:
    life = Lifecycle()
    life.state = State(old)
    if new == ".":
        with pytest.raises(IllegalStep, match=f"{old} cannot {step}"):
            life.step(Step(step))
        assert life.state is State(old)
    else:
        assert (life.step(Step(step)), life.state) == (State(old), State(new))


def test_results_may_be_appended_until_the_end_begins() -> None:
    open_in, closed_in = [], []
    for state in State:
        life = Lifecycle()
        life.state = state
        open_in += [str(state)] * life.open
        closed_in += [str(state)] * life.closed
    assert open_in == ["initializing", "active", "flushing"]
    assert closed_in == ["closed"]


@in_loop
async def test_a_stream_walks_from_its_opening_to_its_end() -> None:
    house, pages = House(), Pages()
    sink = house.crawl(pages, ["a", "b"], concurrency=1)
    assert sink.subscriber is not None
    life = sink.subscriber.pipeline.lifecycle
    assert life.state is State.ACTIVE
    await settle()
    assert life.state is State.ACTIVE  # b is still to be started
    pages.finish("a")
    await settle()
    assert life.state is State.FLUSHING  # all are started, one runs
    pages.finish("b")
    await settle()
    assert life.state is State.CLOSING  # the summary is not read yet
    sink.read()
    assert life.state is State.CLOSED
