"""From JSON to the types of frames.py.  What is known and missing, or of another type, is a ProtocolViolation that
names its place.  How each type is read is worked out once, from its annotations."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import orjson

from fastmesh.client.errors import ProtocolViolation
from fastmesh.client.frames import KINDS, Frame

Reader = Callable[[Any, str], Any]  # a value and its place → the value as its field has it


def parse_object(data: bytes) -> dict[str, Any]:
    """*data* as a JSON object.  Raises ProtocolViolation."""
    try:
        raw = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ProtocolViolation(f"a frame is not JSON: {error}") from None
    if not isinstance(raw, dict):
        raise ProtocolViolation("a frame is not a JSON object")
    return raw


def read_frame(data: bytes) -> Frame:
    """The frame whose JSON is *data*.  Raises ProtocolViolation."""
    return frame_of(parse_object(data), data)


def frame_of(raw: dict[str, Any], data: bytes) -> Frame:
    """The frame whose JSON *data* was parsed to *raw*.  Raises ProtocolViolation."""
    kind = raw.get("type")
    frame_class = KINDS.get(kind, Frame) if isinstance(kind, str) else Frame
    place = "frame: " if frame_class is Frame else f"{kind} frame: "
    return frame_class(**_values(frame_class, raw, place), raw=raw, json=data)


def _values(cls: Any, raw: dict[str, Any], place: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, reader, required in _readers(cls):
        if name in raw:
            values[name] = reader(raw[name], place + name)
        elif required:
            raise ProtocolViolation(f"{place}{name} is missing")
    return values


def _reader(hint: Any) -> Reader:
    """What reads a value of the type *hint*."""
    if isinstance(hint, UnionType):
        (inner,) = (_reader(part) for part in get_args(hint) if part is not NoneType)
        return lambda value, place: None if value is None else inner(value, place)
    if get_origin(hint) is tuple:
        item = _reader(get_args(hint)[0])
        return lambda value, place: tuple(
            item(part, f"{place}[{at}]") for at, part in enumerate(_typed(value, list, place))
        )
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return lambda value, place: hint(**_values(hint, _typed(value, dict, place), place + "."))
    if hint is float:
        return lambda value, place: float(_typed(value, (int, float), place))
    return lambda value, place: _typed(value, hint, place)


def _typed(value: Any, kind: Any, place: str) -> Any:
    # A bool is an int for Python, not for JSON.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ProtocolViolation(f"{place} is of a wrong type")
    return value


@cache
def _readers(cls: type[Any]) -> list[tuple[str, Reader, bool]]:
    """Of each field of *cls* its name, what reads it, and whether it must be there."""
    hints = get_type_hints(cls)
    return [
        (part.name, _reader(hints[part.name]), part.default is dataclasses.MISSING)
        for part in dataclasses.fields(cls)
        if part.name not in ("raw", "json")
    ]
