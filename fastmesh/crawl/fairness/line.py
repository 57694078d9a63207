"""Fair queues: owners take turns, and each owner's waiters go in the order they came.

An owner is a stream or a client, which could fill one queue for all and have the others wait.  Where clients could get
more by opening more streams, clients take turns, and a client's streams.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Final, Generic, TypeVar

Owner = object
NOBODY: Final[Owner] = object()
W = TypeVar("W")


class Line(Generic[W]):
    """The queue.  *waiting* counts all that wait."""

    __slots__ = ("_owners", "waiting")

    def __init__(self) -> None:
        # Ordered dicts: taking the first of a plain one is slow where many were taken before.
        self._owners: OrderedDict[Owner, OrderedDict[W, None]] = OrderedDict()
        self.waiting = 0

    def __iter__(self) -> Iterator[W]:
        """All waiters, in no order that means anything."""
        for waiters in self._owners.values():
            yield from waiters

    def join(self, owner: Owner, waiter: W) -> None:
        """*waiter* waits, for *owner*."""
        waiters = self._owners.setdefault(owner, OrderedDict())
        self.waiting += waiter not in waiters
        waiters[waiter] = None

    def leave(self, owner: Owner, waiter: W) -> bool:
        """*waiter* waits no more; whether it did."""
        waiters = self._owners.get(owner)
        if waiters is None or waiter not in waiters:
            return False
        del waiters[waiter]
        if not waiters:
            del self._owners[owner]
        self.waiting -= 1
        return True

    def next(self, may: Callable[[Owner], bool] = lambda _: True) -> W | None:
        """The next waiter of those whose owner *may*, out of the queue.  Its owner's other waiters have to wait for all
        other owners."""
        owner = next(filter(may, self._owners), NOBODY)
        if owner is NOBODY:
            return None
        waiters = self._owners[owner]
        waiter, _ = waiters.popitem(last=False)
        if waiters:
            self._owners.move_to_end(owner)
        else:
            del self._owners[owner]
        self.waiting -= 1
        return waiter


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
