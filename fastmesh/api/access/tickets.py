"""Tickets: what a page shows in a URL, where a browser lets it set no header.

A ticket opens one stream, or one WebSocket, and is no use for another.  A browser repeats the URL of its EventSource
when the connection breaks: so a ticket that opened a stream is still good for that very stream, where Last-Event-ID
names it; and in its first seconds also without, for a connection that broke before its first event.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import Final

from fastmesh.errors import RateLimited

TICKET_S: Final = 30.0  # from its making to its use
MAX_UNUSED: Final = 100  # of one client
MAX_USED: Final = 1000  # of one client; over it the one goes that was used first


class Ticket:
    """One permission: of *client*, for one stream."""

    __slots__ = ("_book", "client", "expires_at", "key", "request", "stream_id")

    def __init__(self, book: Tickets, key: bytes, client: str, expires_at: float) -> None:
        self._book = book
        self.key = key
        self.client = client
        self.expires_at = expires_at
        self.stream_id: str | None = None  # once it was used
        self.request = b""  # the digest of the request that opened that stream, if one did

    def use(self, stream_id: str, request: bytes = b"") -> None:
        """From now on it is good for that stream alone."""
        if self.stream_id is None:
            self.stream_id, self.request = stream_id, request
            self._book.used(self)

    def spend(self) -> None:
        """It has done its work and is good for nothing more."""
        self._book.forget(self)


class Tickets:
    """All tickets that are good.  It is told the time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # By their hashes: how long a comparison takes says nothing about a ticket.
        self._all: dict[bytes, Ticket] = {}
        # Those of each client, in the order in which they were made or used.
        self._unused: dict[str, OrderedDict[bytes, Ticket]] = {}
        self._used: dict[str, OrderedDict[bytes, Ticket]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def issue(self, client: str) -> str:
        """A new ticket of *client*.  Raises RateLimited when it has as many as it may have."""
        now = self._clock()
        unused = self._unused.setdefault(client, OrderedDict())
        while unused and (oldest := next(iter(unused.values()))).expires_at <= now:
            self.forget(oldest)
        if len(unused) >= MAX_UNUSED:
            raise RateLimited(
                f"this client has {MAX_UNUSED} tickets that it did not use, no more are allowed",
                retry_after_s=int(next(iter(unused.values())).expires_at - now) + 1,
            )
        text = secrets.token_urlsafe(32)
        ticket = Ticket(self, _key(text), client, now + TICKET_S)
        unused[ticket.key] = self._all[ticket.key] = ticket
        return text

    def find(self, text: str, last_event_id: str | None) -> Ticket | None:
        """The ticket that *text* is, if it is good for a request with that Last-Event-ID."""
        ticket = self._all.get(_key(text))
        if ticket is None or ticket.expires_at > self._clock():
            return ticket
        if ticket.stream_id is None:
            self.forget(ticket)
            return None
        return ticket if last_event_id is not None and last_event_id.startswith(f"{ticket.stream_id}:") else None

    def used(self, ticket: Ticket) -> None:
        """*ticket* was used for a stream; it is kept for the reconnects to that one."""
        used = self._used.setdefault(ticket.client, OrderedDict())
        self._unused[ticket.client].pop(ticket.key)
        used[ticket.key] = ticket
        if len(used) > MAX_USED:
            self.forget(next(iter(used.values())))

    def forget(self, ticket: Ticket) -> None:
        """*ticket* is good no more."""
        for tickets in (self._all, self._unused.get(ticket.client, {}), self._used.get(ticket.client, {})):
            tickets.pop(ticket.key, None)


def _key(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogateescape")).digest()
