"""What is remembered of clients: how fast each may open streams, and which one it opened under which key."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from fastmesh.errors import Conflict

MAX_CLIENTS: Final = 10_000

Key = tuple[str | None, str]  # the client, and what it calls its request


class Allowances:
    """A token bucket for each client that lately opened a stream.  A policy: it is given the time.  What it remembers
    is bounded; a client that is forgotten begins again with a full bucket, as does a client that paused for long."""

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


class IdempotencyKeys:
    """Remembers each key for as long as the stream can be read that was opened under it."""

    def __init__(self) -> None:
        self._opened: dict[Key, tuple[str, bytes]] = {}  # a stream's id, and the digest of the request
        self._of_stream: dict[str, Key] = {}

    def find(self, client: str | None, key: str, digest: bytes) -> str | None:
        """The id of the stream that *client* opened under *key*.  Raises Conflict when another request opened it."""
        stream_id, first = self._opened.get((client, key), (None, digest))
        if first != digest:
            raise Conflict("this key came with another request", field="Idempotency-Key")
        return stream_id

    def remember(self, client: str | None, key: str, digest: bytes, stream_id: str) -> None:
        """From now on *key* of *client* means that stream."""
        self._opened[client, key] = stream_id, digest
        self._of_stream[stream_id] = client, key

    def forget(self, stream_id: str) -> None:
        """The stream can be read no more: the key that it was opened under, if any, opens another."""
        if key := self._of_stream.pop(stream_id, None):
            del self._opened[key]
