"""JSON Schemas of all that is sent and taken, made of its types."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import orjson
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from fastmesh.api.openapi.frames import Frame, Message
from fastmesh.api.websocket.session import COMMANDS

Json = dict[str, Any]

REF: Final = "#/components/schemas/{model}"


class Schemas:
    """The schemas of all types that were named, each once."""

    def __init__(self) -> None:
        self.all: Json = {}
        self.all["Frame"] = self.of(Frame)  # these have no name of their own
        self.all["Message"] = self.of(Message)
        self.all["Command"] = {"anyOf": [self._command(name) for name in COMMANDS]}

    def _command(self, name: str) -> Json:
        schema = dict(schema_of(COMMANDS[name][0]))
        self.all |= schema.pop("$defs", {})
        own = {"title": f"{name} command", "properties": schema["properties"] | {"type": {"const": name}}}
        return schema | own

    def of(self, shape: Any) -> Json:
        """The schema of *shape*, by reference where it has a name."""
        schema = dict(schema_of(shape))
        self.all |= schema.pop("$defs", {})
        title = schema.get("title")
        if schema.get("type") == "object" and title is not None and isinstance(shape, type):
            self.all[title] = schema
            return {"$ref": REF.format(model=title)}
        return schema


class _Untitled(GenerateJsonSchema):
    """A field's title would only be its name again."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


@cache
def schema_of(shape: Any) -> Json:
    """The JSON Schema of a type, with what it is made of."""
    return TypeAdapter(shape).json_schema(ref_template=REF, schema_generator=_Untitled)


def frames_schema() -> Json:
    """JSON Schema (2020-12) of every frame, message and command, for docs/frames.schema.json."""
    schemas = Schemas()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A frame of a stream, or what else goes over a WebSocket",
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in ("Frame", "Message", "Command")],
        "$defs": orjson.loads(orjson.dumps(schemas.all).replace(b"#/components/schemas/", b"#/$defs/")),
    }
