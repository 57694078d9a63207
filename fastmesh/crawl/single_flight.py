"""Single flight: work that several tasks wait for is done once.

It runs in a task of its own, so it belongs to none of the waiting ones: one of them may stop waiting, because its
time is over or it is cancelled, and the others get the result.  When the last one stops, the work is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Work = Callable[[], Coroutine[Any, Any, T]]


class Flight(Generic[T]):
    """One piece of work under way, in *task*."""

    __slots__ = ("_flights", "_key", "_waiting", "task")

    def __init__(self, flights: SingleFlight[T], key: Hashable, task: asyncio.Task[T]) -> None:
        self.task = task
        self._flights = flights
        self._key = key
        self._waiting = 0

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it is done, for *timeout_s* at most; whether it is.  When the last waiting task stops before that,
        the work is cancelled, and the next one begins it anew."""
        self._waiting += 1
        try:
            await asyncio.wait([self.task], timeout=timeout_s)
            return self.task.done()
        finally:
            self._waiting -= 1
            if not self._waiting and not self.task.done():
                self.task.cancel()
                self._flights.landed(self._key, self)


class SingleFlight(Generic[T]):
    """All that is under way, by what it is for."""

    def __init__(self) -> None:
        self._by_key: dict[Hashable, Flight[T]] = {}
        self._tasks: set[asyncio.Task[T]] = set()

    def get(self, key: Hashable) -> Flight[T] | None:
        """What is under way for *key*."""
        return self._by_key.get(key)

    def start(self, key: Hashable, work: Work[T]) -> Flight[T]:
        """Begin *work* for *key*, for which nothing is under way.  The caller waits for it, or it never ends."""
        task = asyncio.get_running_loop().create_task(work())
        flight = self._by_key[key] = Flight(self, key, task)
        self._tasks.add(task)
        task.add_done_callback(lambda _: self._ended(key, flight))
        return flight

    async def join(self, key: Hashable, work: Work[T]) -> T:
        """The result of *work*, begun for this or under way for *key* already."""
        flight = self._by_key.get(key) or self.start(key, work)
        await flight.wait()
        return flight.task.result()

    def landed(self, key: Hashable, flight: Flight[T]) -> None:
        """No task can join *flight* any more."""
        if self._by_key.get(key) is flight:
            del self._by_key[key]

    async def close(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, key: Hashable, flight: Flight[T]) -> None:
        self._tasks.discard(flight.task)
        self.landed(key, flight)
        if not flight.task.cancelled():
            flight.task.exception()  # else asyncio complains of an error that no task waits for
