"""GET /openapi.json: what this daemon takes and answers, as OpenAPI 3.1.

Made of the models that read requests, of the types that the tests hold answers against, of the tree of errors and of
the table of routes; with the limits of this daemon's settings.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterable
from copy import deepcopy
from typing import Any, Final

import orjson

from fastmesh.api.calls import Call, Reply, Route
from fastmesh.api.openapi.answers import RefusalEnvelope
from fastmesh.api.openapi.frames import Frame
from fastmesh.api.openapi.operations import JSON, NDJSON, OPERATIONS, Answer, Operation
from fastmesh.api.openapi.schemas import REF, Json, Schemas, schema_of
from fastmesh.api.router import PREFIX, Router
from fastmesh.api.websocket.session import PROTOCOL_VERSION
from fastmesh.config import Settings
from fastmesh.errors import (
    ApiError,
    BadRequest,
    Forbidden,
    HeaderTooLarge,
    InternalError,
    MisdirectedRequest,
    Overloaded,
    RequestTimeout,
    Unauthorized,
)
from fastmesh.version import __version__

# What may refuse any request.
ALWAYS: Final = (BadRequest, Forbidden, RequestTimeout, MisdirectedRequest, HeaderTooLarge, InternalError, Overloaded)
HEADERS: Final = {
    "X-Request-ID": "the request's own when it was 1 to 128 characters of A-Z a-z 0-9 . _ -, else a new one",
    "X-Stream-ID": "the stream, for reading it again at /streams/{id}/events",
    "Location": "where the stream is",
    "Retry-After": "seconds",
}


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


def paths_of(routes: Iterable[Route], schemas: Schemas, *, tokens: bool) -> Json:
    """The paths of *routes*, whose types go to *schemas*; with *tokens* a caller shows one."""
    paths: Json = defaultdict(dict)
    for route in routes:
        operation = OPERATIONS[route.method, route.name]
        if route.socket:
            paths[route.name] |= _socket(operation, schemas)
            continue
        described = _operation(route, operation, schemas, guarded=tokens and not route.health)
        paths[route.name][route.method.lower()] = described
    return dict(paths)


def _operation(route: Route, operation: Operation, schemas: Schemas, *, guarded: bool) -> Json:
    described: Json = {
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{route.name}").strip("_"),
        "summary": operation.summary,
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in _names(route)),
            *_query(operation, schemas),
            *operation.headers,
        ],
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": {JSON: {"schema": schemas.of(operation.body)}}}
    answers = {str(status): _answer(answer, schemas) for status, answer in operation.answers.items()}
    described["responses"] = answers | _refusals(operation, schemas, answers, guarded=guarded)
    if guarded:
        described["security"] = [{"token": []}, *([{"ticket": []}] if route.ticket else [])]
    return described


def _socket(operation: Operation, schemas: Schemas) -> Json:
    """A WebSocket, for which OpenAPI has no word: its handshake is no request that a client of HTTP could make."""
    return {
        "summary": operation.summary,
        "description": "GET with the opening handshake of RFC 6455 is answered by 101, any other by 426.",
        "parameters": _query(operation, schemas),
        "x-websocket": {
            "subprotocol": PROTOCOL_VERSION,
            "takes": {"$ref": REF.format(model="Command")},
            "sends": {"anyOf": [{"$ref": REF.format(model=name)} for name in ("Frame", "Message")]},
        },
    }


def _names(route: Route) -> list[str]:
    return re.findall(r"\{(\w+)\}", route.name)


def _query(operation: Operation, schemas: Schemas) -> list[Json]:
    if operation.query is None:
        return []
    schema = schema_of(operation.query)
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": _without_null(part)}
        for name, part in schema["properties"].items()
    ]


def _without_null(schema: Json) -> Json:
    """A query has no null: what is not wanted is left out."""
    either = [part for part in schema.get("anyOf", []) if part.get("type") != "null"]
    return either[0] if len(either) == 1 else schema


def _answer(answer: Answer, schemas: Schemas) -> Json:
    described: Json = {"description": answer.description, "headers": _headers("X-Request-ID", *answer.headers)}
    if answer.content:
        described["content"] = {
            media_type: {"schema": _content(media_type, shape, schemas)} for media_type, shape in answer.content.items()
        }
    return described


def _content(media_type: str, shape: Any, schemas: Schemas) -> Json:
    if shape is not Frame:
        return schemas.of(shape)
    each = {"contentMediaType": JSON, "contentSchema": {"$ref": REF.format(model="Frame")}}
    if media_type == NDJSON:
        return {"type": "string", "description": "one frame a line", "x-line": each}
    return {
        "type": "object",
        "description": "one event for each frame",
        "properties": {
            "event": {"description": "the frame's type", "type": "string"},
            "id": {"description": "stream:seq, of durable frames only", "type": "string"},
            "data": {"type": "string", **each},
            "retry": {"description": "ms, with the first event", "type": "integer"},
        },
    }


def _refusals(operation: Operation, schemas: Schemas, answers: Json, *, guarded: bool) -> Json:
    """One answer for each status, with the types that it may have."""
    of_status: dict[int, list[type[ApiError]]] = defaultdict(list)
    for error in dict.fromkeys((*operation.refusals, *ALWAYS, *((Unauthorized,) if guarded else ()))):
        of_status[error.status].append(error)
    envelope = schemas.of(RefusalEnvelope)
    refusals: Json = {}
    for status, errors in sorted(of_status.items()):
        schema = envelope
        if (there := answers.get(str(status))) is not None:  # the status of an answer that is no refusal, too
            schema = {"anyOf": [there["content"][JSON]["schema"], envelope]}
        refusals[str(status)] = {
            "description": "; ".join(f"{error.type}: {str(error.__doc__).strip().splitlines()[0]}" for error in errors),
            "headers": _headers("X-Request-ID", *(["Retry-After"] if status in (429, 503) else [])),
            "content": {JSON: {"schema": schema}},
        }
    return refusals


def _headers(*names: str) -> Json:
    return {name: {"description": HEADERS[name], "schema": {"type": "string"}} for name in names}
