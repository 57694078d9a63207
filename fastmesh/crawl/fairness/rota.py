"""Which page is next: clients take turns, a client's streams take turns, a stream's pages go as they came.

By stream alone, a client that opens more streams would get more.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from fastmesh.crawl.fairness.line import Line, Owner

W = TypeVar("W")


class Rota(Generic[W]):
    """A Line for each client, and the clients in turn.  *waiting* counts all that wait."""

    __slots__ = ("_lines", "waiting")

    def __init__(self) -> None:
        self._lines: OrderedDict[Hashable, Line[W]] = OrderedDict()
        self.waiting = 0

    def __iter__(self) -> Iterator[W]:
        """All that wait, in no order that means anything."""
        for line in self._lines.values():
            yield from line

    def join(self, client: Hashable, owner: Owner, waiter: W) -> None:
        """*waiter*, which does not wait yet, waits for *owner*, which is *client*'s."""
        line = self._lines.get(client)
        if line is None:
            line = self._lines[client] = Line()
        line.join(owner, waiter)
        self.waiting += 1

    def leave(self, client: Hashable, owner: Owner, waiter: W) -> bool:
        """*waiter* waits no more; whether it did."""
        line = self._lines.get(client)
        if line is None or not line.leave(owner, waiter):
            return False
        if not line.waiting:
            del self._lines[client]
        self.waiting -= 1
        return True

    def next(self) -> W | None:
        """The next waiter, out of the queue; its client's others have to wait for all other clients."""
        if not self._lines:
            return None
        client, line = self._lines.popitem(last=False)
        waiter = line.next()
        if line.waiting:
            self._lines[client] = line
        self.waiting -= 1
        return waiter
