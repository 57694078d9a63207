"""Callers, and whether they may ask.

A request shows a token in ``Authorization: Bearer``.  Where a browser can set no header, a page shows the token as a
second subprotocol of its WebSocket, or a ticket in the query.  What was shown is never repeated, neither in an answer
nor in a log; a missing token and a wrong one are refused in the same words.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from fastmesh.api.access.tickets import Ticket, Tickets
from fastmesh.api.access.tokens import Tokens
from fastmesh.errors import Unauthorized
from fastmesh.wire.http1 import Request, listed

TICKET = "ticket"  # its name in a query
SUBPROTOCOL_PREFIX = "fastmesh.token."

_TICKETS = re.compile(rf"(?:^|&){TICKET}=([^&]*)")
_BEARER = re.compile(r"bearer +([^ ]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Caller:
    """The client of the token that a request showed, and the ticket that stood for it."""

    client: str
    ticket: Ticket | None = None


class Access:
    """Knows callers by what they show.  Raises ConfigError when the tokens cannot be read."""

    def __init__(self, tokens_file: str, clock: Callable[[], float]) -> None:
        self.tokens = Tokens(tokens_file)
        self.tickets = Tickets(clock)

    def caller(self, request: Request, *, ticket: bool, socket: bool) -> Caller:
        """Who *request* shows, on a route that takes a *ticket* or opens a *socket*.  Raises Unauthorized."""
        shown = request.headers.get("authorization")
        if shown is not None:
            match = _BEARER.fullmatch(shown)
            return self._holder(match[1] if match else "")
        if socket and (offered := _subprotocol_tokens(request)):
            return self._holder(offered[0] if len(offered) == 1 else "")
        if ticket and request.method == "GET" and (given := _tickets(request)):
            found = self.tickets.find(given[0], request.headers.get("last-event-id")) if len(given) == 1 else None
            used = found is not None and found.stream_id is not None
            if found is not None and self.tokens.knows(found.client) and not (used and socket):
                return Caller(found.client, found)
        raise _refusal()

    def _holder(self, token: str) -> Caller:
        client = self.tokens.client_of(token)
        if client is None:
            raise _refusal()
        return Caller(client)


def _refusal() -> Unauthorized:
    return Unauthorized("a token is needed: Authorization: Bearer, with a token of this daemon")


def _subprotocol_tokens(request: Request) -> list[str]:
    names = listed(request.headers.get("sec-websocket-protocol", ""))
    return [name.removeprefix(SUBPROTOCOL_PREFIX) for name in names if name.startswith(SUBPROTOCOL_PREFIX)]


def _tickets(request: Request) -> list[str]:
    # The whole query is read for a caller that may ask, and not before: a ticket needs no escapes.
    return _TICKETS.findall(request.query)
