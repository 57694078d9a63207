"""POST /tickets: for a page that can show its token here, and nowhere in a URL."""

from __future__ import annotations

import orjson

from fastmesh.api.access.callers import Access
from fastmesh.api.access.tickets import TICKET_S
from fastmesh.api.calls import Call, Reply, Route
from fastmesh.api.requests.bodies import NoFields
from fastmesh.api.requests.reading import read_body
from fastmesh.errors import NotFound


class TicketOffice:
    """Makes tickets for those who have a token; without tokens there is nothing that they could open."""

    def __init__(self, access: Access | None) -> None:
        self._access = access

    def routes(self) -> list[Route]:
        """What the router serves of these."""
        return [Route("/tickets", "POST", self.issue)]

    def issue(self, call: Call) -> Reply:
        """POST /tickets.  Raises RateLimited when the client has as many as it may have."""
        if self._access is None or call.client is None:
            raise NotFound("no tokens are set, and no ticket is needed")
        if call.request.body:
            read_body(NoFields, call.request.headers.get("content-type"), call.request.body, max_urls=0)
        ticket = self._access.tickets.issue(call.client)
        return Reply(orjson.dumps({"ticket": ticket, "expires_in_s": int(TICKET_S)}), status=201)
