"""How many fetches run at once: in all, and to one host.

A URL first waits for its host's turn and only then for a slot of the total, so
a slow host never holds slots that others could use.  The order is always host,
then total, and both queues are first come, first served: nobody can lock
another out, and a host has at most *per_host* places in the total's queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class _Host:
    """One host's turns, kept while anybody uses or awaits one."""

    __slots__ = ("turns", "users")

    def __init__(self, per_host: int) -> None:
        self.turns = asyncio.Semaphore(per_host)
        self.users = 0


class FetchSlots:
    """Hands out slots.  *in_flight* and *waiting* count URLs that hold one and that want one."""

    def __init__(self, total: int, per_host: int) -> None:
        self.in_flight = 0
        self.waiting = 0
        self._total = asyncio.Semaphore(total)
        self._per_host = per_host
        self._hosts: dict[str, _Host] = {}

    @property
    def hosts(self) -> int:
        """Hosts that are remembered: those with a URL in flight or waiting."""
        return len(self._hosts)

    @asynccontextmanager
    async def take(self, host_key: str) -> AsyncIterator[None]:
        """Hold a slot for one fetch; cancelled while it waits, it leaves nothing behind."""
        host = self._hosts.get(host_key)
        if host is None:
            host = self._hosts[host_key] = _Host(self._per_host)
        host.users += 1
        self.waiting += 1
        waits = True
        try:
            async with host.turns, self._total:
                self.waiting -= 1
                waits = False
                self.in_flight += 1
                try:
                    yield
                finally:
                    self.in_flight -= 1
        finally:
            self.waiting -= waits
            host.users -= 1
            if host.users == 0:
                del self._hosts[host_key]
