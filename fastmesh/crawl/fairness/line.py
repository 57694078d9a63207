"""A fair queue: owners take turns, and each owner's waiters go in the order they came.

An owner is a stream or a client, which could fill one queue for all and have the others wait.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
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
        """The next waiter of those whose owner *may*, out of the queue.

        Its owner's other waiters have to wait for all other owners.
        """
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
