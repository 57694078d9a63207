"""Which text goes when streams hold more than they may together, and how much of each stream.  The text of streams that
are closed and unread goes first.  Of the others the largest give first, down to one level for all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from math import ceil
from typing import Final, TypeVar

from fastmesh.streaming.memory import BufferManager
from fastmesh.streaming.registry import StreamRegistry
from fastmesh.streaming.retention import Retention

# Text is let go of and memory comes back by blocks: each round asks for more than is missing, the last for all text.
ROUNDS: Final = 5

S = TypeVar("S")


def let_go(registry: StreamRegistry, buffers: BufferManager, wanted: int) -> None:
    """Give back *wanted* bytes of text that no reader waits for.

    Closed streams go first, the longest closed before the others, and then the text that is kept behind
    readers.  A closed stream that is being read gives text that its readers have still to read only
    when there would be no room at all without it, and never the last that one window holds.
    """
    target = buffers.held_bytes - wanted
    for pipeline in list(registry.closed.values()):
        if buffers.held_bytes <= target:
            return
        if not pipeline.audience.attached:
            registry.forget(pipeline)
    level = level_off(
        [pipeline.retention for pipeline in registry.all()],
        lambda: buffers.held_bytes - target,
        lambda retention: retention.behind_bytes,
        Retention.let_go_behind,
    )
    if level is not None:
        buffers.keep_behind(level)
    level_off(
        [pipeline.retention for pipeline in registry.closed.values()],
        lambda: 0 if buffers.has_room else buffers.held_bytes - buffers.total_bytes + 1,
        lambda retention: retention.beyond_window_bytes,
        Retention.let_go_beyond_window,
    )


def level_off(
    streams: Iterable[S], excess: Callable[[], int], size: Callable[[S], int], keep: Callable[[S, int], None]
) -> int | None:
    """Have the largest of *streams* give until there are no *excess* bytes: each may *keep* the level.  *size* says how
    much one could give.  Returns the level, None when there was no excess."""
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
