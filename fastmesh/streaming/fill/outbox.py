"""Results that are there and not appended yet: because earlier ones are missing, or for want of room.

A machine without clock or task: it says which result may leave next, and how many bytes are held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final

from fastmesh.events import PageResult

FRAME_BYTES: Final = 512  # of a result's frame without its document, about


@dataclass(order=True, slots=True)
class Finished:
    """One result on its way into the journal; a *repeat* is one for which nothing was fetched.

    Its *memory* is less than its *size* where one that leaves later has the very same document.
    """

    key: tuple[int, int]
    index: int = field(compare=False)
    page: PageResult = field(compare=False)
    repeat: bool = field(compare=False)
    size: int = field(compare=False)  # the bytes of its frame, about
    memory: int = field(compare=False)  # the bytes that are free once it has left


class Outbox:
    """Finished results, in the order in which they leave.

    With *in_order* that is the input's: a result leaves when all before it have.  Else they
    leave as they came, repeats after the others: repeats wait for room, and the others do not.
    """

    def __init__(self, *, in_order: bool) -> None:
        self.frames = 0
        self.bytes = 0  # of their frames, each with its document
        self.memory = 0  # bytes that are held: a document that several share counts once
        self.expected: int | None = 0 if in_order else None  # the index that leaves next
        self._came = 0
        self._held: list[Finished] = []

    def put(self, index: int, page: PageResult, *, repeat: bool = False, shared: bool = False) -> None:
        """The result of *index* is there; *shared*: another follows that leaves later and has the same document."""
        self._came += 1
        key = (repeat, self._came) if self.expected is None else (index, 0)
        size = FRAME_BYTES + (0 if page.document is None else len(page.document))
        finished = Finished(key, index, page, repeat, size, FRAME_BYTES if shared else size)
        heappush(self._held, finished)
        self.frames += 1
        self.bytes += finished.size
        self.memory += finished.memory

    def next(self) -> Finished | None:
        """The result that may leave now; None when there is none, or an earlier one is missing."""
        if not self._held or self.expected not in (None, self._held[0].index):
            return None
        return self._held[0]

    def pop(self) -> Finished:
        """Let go of the first, in order or not."""
        finished = heappop(self._held)
        self.frames -= 1
        self.bytes -= finished.size
        self.memory -= finished.memory
        if self.expected is not None:
            self.expected = finished.index + 1
        return finished

    def give_up(self) -> Iterator[Finished]:
        """No result comes any more: let go of all, and yield those that were fetched, in their order."""
        while self._held:
            finished = self.pop()
            if not finished.repeat:
                yield finished
