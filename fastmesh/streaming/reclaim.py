"""Who gives how much when streams hold more than they may together: the largest first, down to one level for all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from math import ceil
from typing import Final, TypeVar

# Text is let go of and memory comes back by blocks: each round asks for more of what is missing, the last for it all.
ROUNDS: Final = 5

S = TypeVar("S")


def level_off(
    streams: Iterable[S], excess: Callable[[], int], size: Callable[[S], int], keep: Callable[[S, int], None]
) -> int | None:
    """Have the largest of *streams* give until *excess* bytes are none: each may *keep* the level, which is returned.

    *size* says how much one could give.  None when there was no excess.
    """
    level = None
    for turn in range(1, ROUNDS + 1):
        wanted = excess()
        if wanted <= 0:
            break
        sizes = [(stream, most) for stream in streams if (most := size(stream)) > 0]
        level = water_level([most for _, most in sizes], wanted << turn - 1) if turn < ROUNDS else 0
        if not sizes:
            break
        for stream, most in sizes:
            if most > level:
                keep(stream, level)
    return level


def water_level(sizes: list[int], wanted: int) -> int:
    """How much each may keep at most, so that all together give back *wanted*: the largest give first."""
    given, descending = 0, sorted(sizes, reverse=True)
    for count, (size, lower) in enumerate(pairwise([*descending, 0]), 1):
        more = count * (size - lower)
        if given + more >= wanted:
            return size - ceil((wanted - given) / count)
        given += more
    return 0
