"""Which of a stream's URLs have a result, and how they ended."""

from __future__ import annotations

from itertools import groupby


class Tally:
    """Counts results; every index is counted once."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.successful = 0
        self.failed = 0
        self.from_cache = 0
        self._finished = bytearray(total)

    def expect(self, total: int) -> None:
        """The input has grown to *total* URLs."""
        self._finished.extend(bytes(total - self.total))
        self.total = total

    @property
    def completed(self) -> int:
        """How many URLs have a result."""
        return self.successful + self.failed

    def count(self, index: int, succeeded: bool, from_cache: bool = False) -> None:
        """URL *index* has its result."""
        self._finished[index] = 1
        self.from_cache += from_cache
        if succeeded:
            self.successful += 1
        else:
            self.failed += 1

    def unfinished(self) -> list[list[int]]:
        """The indexes without a result, as [first, last] ranges."""
        ranges = []
        for finished, run in groupby(range(self.total), self._finished.__getitem__):
            if not finished:
                indexes = list(run)
                ranges.append([indexes[0], indexes[-1]])
        return ranges
