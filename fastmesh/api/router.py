"""From a request to what answers it, and everything that is refused before (contract section 3).

Refusals come in this order: 400 (HTTP), 421, 403, then 404, 405, 413, and what
the endpoint itself refuses.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from fastmesh.config import ServerSettings
from fastmesh.errors import Forbidden, MethodNotAllowed, MisdirectedRequest, NotFound, PayloadTooLarge
from fastmesh.streaming.delivery import Sink, Subscriber
from fastmesh.wire.encoders import Encoder
from fastmesh.wire.http1 import Request

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
WILDCARDS = frozenset({"0.0.0.0", "::"})
PREFIX = "/api/v1"


@dataclass(frozen=True, slots=True)
class Call:
    """A request, and what is known of who sent it."""

    request: Request
    request_id: str
    client: str | None  # whom its streams are counted for; None: nobody
    local_address: str  # the address it arrived at; empty on a Unix socket


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    body: bytes
    content_type: str = "application/json"
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class StreamReply:
    """An answer that is a stream: *open* starts it, read by the sink that it is given."""

    open: Callable[[Encoder, Sink], Subscriber]


Handler = Callable[[Call], Reply | StreamReply]


@dataclass(frozen=True, slots=True)
class Route:
    """One path and what it takes."""

    name: str  # the path as it is documented: a metric's label
    method: str
    handler: Handler
    streams: bool = False
    health: bool = False  # may be read by any page

    @property
    def methods(self) -> tuple[str, ...]:
        """What it takes; HEAD wherever GET is."""
        return ("GET", "HEAD") if self.method == "GET" else (self.method,)


@dataclass(slots=True)
class Router:
    """The table of routes, and who may ask at all."""

    settings: ServerSettings
    routes: dict[str, Route] = field(default_factory=dict)

    def add(self, route: Route) -> None:
        """Serve *route*, also under /api/v1."""
        self.routes[route.name] = route
        self.routes[PREFIX + route.name] = route

    def find(self, call: Call) -> Route:
        """The route of a request that may be answered.  Raises an ApiError for any other."""
        request = call.request
        if request.fault is not None and not isinstance(request.fault, PayloadTooLarge):
            raise request.fault
        self._check_host(call)
        route = self.routes.get(request.path)
        if route is None or not route.health:
            _check_origin(request)
        if route is None:
            raise NotFound("there is nothing at this path")
        if request.method not in route.methods:
            raise MethodNotAllowed(request.method, route.methods)
        if request.fault is not None:
            raise request.fault
        return route

    def _check_host(self, call: Call) -> None:
        """A page that rebinds its name to loopback must not reach the daemon; the port is not compared."""
        host = call.request.headers.get("host")
        if host is None:  # HTTP/1.0, which no browser speaks
            return
        name = re.sub(r":[0-9]*$", "", host).strip("[]").lower().removesuffix(".")
        allowed = self.settings.allowed_hosts
        if allowed is None:
            fits = name in LOOPBACK_NAMES or (
                name not in WILDCARDS and name in (self.settings.host.lower(), call.local_address)
            )
        else:
            fits = "*" in allowed or name in (entry.strip("[]").lower() for entry in allowed)
        if not fits:
            raise MisdirectedRequest("this Host is not served here; SERVER__ALLOWED_HOSTS names those that are")


def _check_origin(request: Request) -> None:
    """Only the daemon's own pages may ask: CORS alone would not keep others from sending a request."""
    origin = request.headers.get("origin")
    if origin is None:
        if request.headers.get("sec-fetch-site") == "cross-site":
            raise Forbidden("a page of another site may not ask")
        return
    try:
        parts = urlsplit(origin)
    except ValueError:
        raise Forbidden("this Origin may not ask") from None
    own = parts.scheme in ("http", "https") and parts.netloc.lower() == request.headers.get("host", "").lower()
    if not own or parts.path or parts.query or parts.fragment:
        raise Forbidden("a page of another origin may not ask")
