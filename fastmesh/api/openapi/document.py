"""GET /openapi.json: what this daemon takes and answers, as OpenAPI 3.1.

Made of the models that read requests, of the types that the tests hold answers against, of
the tree of errors and of the table of routes; with the limits of this daemon's settings.
"""

from __future__ import annotations

import asyncio
from copy import deepcopy

import orjson

from fastmesh.api.calls import Call, Reply, Route
from fastmesh.api.openapi.paths import paths_of
from fastmesh.api.openapi.schemas import Json, Schemas
from fastmesh.api.router import PREFIX, Router
from fastmesh.config import Settings
from fastmesh.errors import Overloaded
from fastmesh.version import __version__


class OpenApi:
    """Describes the routes of *router*."""

    def __init__(self, router: Router, settings: Settings) -> None:
        self._router = router
        self._settings = settings
        self._schemas: Json = {}
        self._paths: Json = {}
        self._body = b""
        router.add(Route("/openapi.json", "GET", self.show))

    async def start(self) -> None:
        """Make the document, beside the loop: it takes some 60 ms.  Raises KeyError for a route that is in no table."""
        await asyncio.to_thread(self._describe)

    def show(self, call: Call) -> Reply:
        """GET /openapi.json.  Raises Overloaded while the daemon starts."""
        if not self._body:
            raise Overloaded("the daemon is starting", retry_after_s=1)
        return Reply(self._body)

    def reload(self, settings: Settings) -> None:
        """From now on it names the limits of *settings*."""
        self._body = orjson.dumps(self._document(settings))

    def _describe(self) -> None:
        schemas = Schemas()
        self._paths = paths_of(self._router.routes, schemas, tokens=self._router.access is not None)
        self._schemas = schemas.all
        self.reload(self._settings)

    def _document(self, settings: Settings) -> Json:
        components: Json = {"schemas": _limited(self._schemas, settings)}
        document: Json = {
            "openapi": "3.1.0",
            "info": {
                "title": "fastmesh",
                "version": __version__,
                "description": "Fetches and extracts batches of URLs, and streams each result the moment it is ready.",
            },
            "servers": [{"url": "/"}, {"url": PREFIX}],
            "paths": self._paths,
            "components": components,
        }
        if self._router.access is not None:
            components["securitySchemes"] = {
                "token": {"type": "http", "scheme": "bearer"},
                "ticket": {"type": "apiKey", "in": "query", "name": "ticket"},
            }
        return document


def _limited(schemas: Json, settings: Settings) -> Json:
    """*schemas* with the bounds that a request may lower and never raise."""
    schemas = deepcopy(schemas)
    limits = {
        "timeout_ms": settings.fetch.timeout_ms,
        "max_body_bytes": settings.fetch.max_body_bytes,
        "retries": settings.fetch.retries,
        "deadline_s": settings.stream.deadline_s,
    }
    for schema in schemas.values():
        for name, part in schema.get("properties", {}).items():
            if name in limits and "anyOf" in part:
                part["anyOf"][0]["maximum"] = limits[name]
            elif name == "urls" and "items" in part:
                part["maxItems"] = settings.stream.max_urls
    return schemas
