"""From a request to what answers it, and everything that is refused before.

Refusals come in this order: 400 (HTTP), 421, 403, 401, then 404, 405, 413, and what the endpoint itself refuses.  Pages
of other origins may ask only where CORS__ALLOW_ORIGINS names them, whatever the route; a caller without a token does
not even learn which routes there are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import partial
from urllib.parse import urlsplit

from fastmesh.api.access.callers import Access
from fastmesh.api.calls import Call, Reply, Route
from fastmesh.config import ServerSettings
from fastmesh.errors import Forbidden, MethodNotAllowed, MisdirectedRequest, NotFound, PayloadTooLarge
from fastmesh.wire.http1 import Request

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
WILDCARDS = frozenset({"0.0.0.0", "::"})
PREFIX = "/api/v1"
ALL_METHODS = ("GET", "HEAD", "POST", "DELETE")


Methods = dict[str, Route]


@dataclass(slots=True)
class Router:
    """The table of routes, and who may ask at all."""

    settings: ServerSettings
    origins: tuple[str, ...] = ()  # of pages that may ask although they are not the daemon's own
    access: Access | None = None  # None: no tokens are set
    _exact: dict[str, Methods] = field(default_factory=dict)
    _patterns: list[tuple[re.Pattern[str], Methods]] = field(default_factory=list)

    def add(self, route: Route) -> None:
        """Serve *route*, also under /api/v1."""
        for path in (route.name, PREFIX + route.name):
            if path not in self._exact:
                methods = self._exact[path] = {}
                if "{" in path:
                    self._patterns.append((re.compile(re.sub(r"\{\w+\}", "([^/]+)", path)), methods))
            methods = self._exact[path]
            methods[route.method] = route
            if route.method == "GET":
                methods["HEAD"] = route

    @property
    def routes(self) -> list[Route]:
        """Every route once, in the order in which they were added."""
        return [
            route
            for path, methods in self._exact.items()
            if not path.startswith(PREFIX)
            for method, route in methods.items()
            if method == route.method
        ]

    def find(self, call: Call) -> tuple[Route, Call]:
        """The route of a request that may be answered, and the call with what is known now.  Raises an ApiError."""
        request = call.request
        if request.fault is not None and not isinstance(request.fault, PayloadTooLarge):
            raise request.fault
        self._check_host(call)
        methods, value = self._match(request.path)
        route = methods.get(request.method)
        call = replace(call, value=value)
        if not (route and route.health):
            self._check_origin(request)
            if self.access is not None:
                if request.method == "OPTIONS" and self._is_preflight(request):
                    # A browser sends it without the token: it is answered alike wherever it asks.
                    return Route("preflight", "OPTIONS", partial(_preflight, ALL_METHODS)), call
                ticket, socket = (route.ticket, route.socket) if route else (False, False)
                caller = self.access.caller(request, ticket=ticket, socket=socket)
                call = replace(call, client=caller.client, ticket=caller.ticket)
        if not methods:
            raise NotFound("there is nothing at this path")
        if route is None:
            if request.method == "OPTIONS" and self._is_preflight(request):
                return Route("preflight", "OPTIONS", partial(_preflight, tuple(methods))), call
            raise MethodNotAllowed(request.method, tuple(methods))
        if request.fault is not None:
            raise request.fault
        return route, call

    def cors_fields(self, request: Request) -> tuple[tuple[str, str], ...]:
        """What tells a browser that the page that asked may read the answer."""
        if not self.origins:
            return ()
        origin = request.headers.get("origin", "")
        if origin not in self.origins:
            return (("Vary", "Origin"),)
        return (
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Expose-Headers", "X-Request-ID, X-Stream-ID, Location, Retry-After"),
            ("Vary", "Origin"),
        )

    def _match(self, path: str) -> tuple[Methods, str]:
        if (methods := self._exact.get(path)) is not None and "{" not in path:
            return methods, ""
        for pattern, methods in self._patterns:
            if match := pattern.fullmatch(path):
                return methods, match[1]
        return {}, ""

    def _is_preflight(self, request: Request) -> bool:
        return "access-control-request-method" in request.headers and request.headers.get("origin") in self.origins

    def _check_host(self, call: Call) -> None:
        """A page that rebinds its name to loopback must not reach the daemon; the port is not compared."""
        host = call.request.headers.get("host")
        if host is None:  # HTTP/1.0, which no browser speaks
            return
        name = re.sub(r":[0-9]*$", "", host).strip("[]").lower().removesuffix(".")
        allowed = self.settings.allowed_hosts
        if allowed is None and self.access is not None:
            return  # a page that comes so has no token
        if allowed is None:
            fits = name in LOOPBACK_NAMES or (
                name not in WILDCARDS and name in (self.settings.host.lower(), call.local_address)
            )
        else:
            fits = "*" in allowed or name in (entry.strip("[]").lower() for entry in allowed)
        if not fits:
            raise MisdirectedRequest("this Host is not served here; SERVER__ALLOWED_HOSTS names those that are")

    def _check_origin(self, request: Request) -> None:
        """Only the daemon's own pages and those of allowed origins may ask: CORS would not keep others from it."""
        origin = request.headers.get("origin")
        if origin is None:
            # An <img> or a fetch without CORS names no origin; one of another port of this host is of the same site.
            if request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
                raise Forbidden("a page of another origin may not ask without naming it")
        elif origin not in self.origins and not _is_own(origin, request.headers.get("host", "")):
            raise Forbidden("a page of another origin may not ask; CORS__ALLOW_ORIGINS names those that may")


def _is_own(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return (
        parts.scheme in ("http", "https")
        and parts.netloc.lower() == host.lower()
        and not (parts.path or parts.query or parts.fragment)
    )


def _preflight(methods: tuple[str, ...], call: Call) -> Reply:
    """What a page of an allowed origin may send here (Fetch standard, section 3.2.2)."""
    return Reply(
        b"",
        status=204,
        headers=(
            ("Access-Control-Allow-Methods", ", ".join(methods)),
            (
                "Access-Control-Allow-Headers",
                "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-Request-ID",
            ),
            ("Access-Control-Max-Age", "600"),
        ),
    )
