"""Idempotency keys: which stream a client opened under which key."""

from __future__ import annotations

from fastmesh.errors import Conflict

Key = tuple[str | None, str]  # the client, and what it calls its request


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
