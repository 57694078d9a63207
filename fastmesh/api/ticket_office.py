"""POST /tickets: for a page that can show its token here, and nowhere in a URL."""

from __future__ import annotations

import orjson

from fastmesh.api.access.callers import Access
from fastmesh.api.access.tickets import TICKET_S
from fastmesh.api.calls import Call, Reply
from fastmesh.api.requests.bodies import NoFields
from fastmesh.api.requests.reading import read_body
from fastmesh.errors import NotFound


def issue_ticket(access: Access | None, call: Call) -> Reply:
    """A ticket for one who has a token.  Raises RateLimited when the client has as many as it may have."""
    if access is None or call.client is None:
        raise NotFound("no tokens are set, and no ticket is needed")
    if call.request.body:
        read_body(NoFields, call.request.headers.get("content-type"), call.request.body, max_urls=0)
    ticket = access.tickets.issue(call.client)
    return Reply(orjson.dumps({"ticket": ticket, "expires_in_s": int(TICKET_S)}), status=201)
