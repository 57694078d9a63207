"""How fast each client may open streams: a token bucket each.

A policy: it is given the time.  What it remembers is bounded; a client that is
forgotten begins again with a full bucket, as does a client that paused for long.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

MAX_CLIENTS: Final = 10_000


class Allowances:
    """The buckets of all clients that lately opened a stream."""

    def __init__(self, max_clients: int = MAX_CLIENTS) -> None:
        self._max_clients = max_clients
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens that were left, and when

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, client: str | None, now: float, rate: float, burst: int) -> float:
        """Take one of *client*'s tokens, which grow by *rate* a second up to *burst*.

        Return 0, or for how many seconds there is none.  Clients that are not counted (None)
        have no bound, and without a rate no client has one.
        """
        if client is None or not rate:
            return 0.0
        left, since = self._buckets.get(client, (float(burst), now))
        left = min(float(burst), left + (now - since) * rate)
        granted = left >= 1
        self._buckets[client] = left - granted, now
        self._buckets.move_to_end(client)
        while len(self._buckets) > 1:
            oldest_left, oldest_since = next(iter(self._buckets.values()))
            if len(self._buckets) <= self._max_clients and oldest_left + (now - oldest_since) * rate < burst:
                break
            self._buckets.popitem(last=False)
        return 0.0 if granted else (1 - left) / rate
