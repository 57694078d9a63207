"""What one input may cost: CPU time of this thread, by its length; and the longest that it may hold a loop at once.

The figures are some ten times what an ordinary machine takes, so that only another order of growth passes them.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from random import Random
from typing import ParamSpec, TypeVar
from zlib import crc32

P = ParamSpec("P")
T = TypeVar("T")

TRIES = 3  # others only ever add to what is measured: what is over once may be theirs
MAX_PIECES = 5


class OverBudget(Exception):
    """An input took longer than its length allows."""


class Watch:
    """Measures the turns of a loop that a target would take."""

    def __init__(self) -> None:
        self.longest_s = 0.0

    def turn(self, work: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
        """What *work* gives, done in one turn."""
        begun = time.thread_time()
        try:
            return work(*given, **named)
        finally:
            self.longest_s = max(self.longest_s, time.thread_time() - begun)


@dataclass(frozen=True)
class Target:
    """One machine.

    *run* feeds it an input and gives what kind of outcome that was, so that inputs with a new one are kept to be
    changed further; anything it raises is a fault.  *seeds* are inputs that are tried first, each fault that there
    was among them; *words* are what its grammar is made of.
    """

    name: str
    run: Callable[[bytes, Watch], Hashable]
    seeds: tuple[bytes, ...]
    words: Sequence[bytes] = ()
    base_s: float = 0.05
    s_a_byte: float = 20e-6
    turn_s: float = 0.05
    max_bytes: int = 65_536


@dataclass(frozen=True)
class Spent:
    """What an input took: in all, and in its longest turn."""

    outcome: Hashable
    all_s: float
    turn_s: float


def spend(target: Target, data: bytes, slower: float = 1.0) -> Spent:
    """Run *data*, on a machine that is so much *slower*.  Raises OverBudget, and what the target raises."""
    most = (target.base_s + target.s_a_byte * len(data)) * slower
    spent = []
    for _ in range(TRIES):
        spent.append(_once(target, data))
        if spent[-1].all_s <= most and spent[-1].turn_s <= target.turn_s * slower:
            return spent[-1]
    least = min(spent, key=lambda each: each.all_s)
    raise OverBudget(
        f"{len(data)} bytes took {least.all_s:.3f} s of CPU, {most:.3f} are allowed; "
        f"the longest turn {least.turn_s:.3f} s of {target.turn_s * slower:.3f}"
    )


def _once(target: Target, data: bytes) -> Spent:
    watch = Watch()
    enabled = gc.isenabled()
    gc.disable()  # a collection in the middle is no step of it
    begun = time.thread_time()
    try:
        outcome = target.run(data, watch)
    finally:
        took_s = time.thread_time() - begun
        if enabled:
            gc.enable()
    return Spent(outcome, took_s, watch.longest_s)


def pieces(data: bytes) -> list[bytes]:
    """*data* cut at places that are always the same for it."""
    chance = Random(crc32(data))
    places = sorted(chance.randint(0, len(data)) for _ in range(chance.randrange(MAX_PIECES)))
    return [data[begin:end] for begin, end in zip([0, *places], [*places, len(data)], strict=True)]
