"""From bytes and text to the models of requests; what is wrong is told by the path of its field."""

from __future__ import annotations

import re
from typing import Any, Final, TypeVar, get_origin

import pydantic

from fastmesh.api.requests.bodies import OBJECT, TEXT
from fastmesh.api.requests.bounds import parsed, refuse_crowd
from fastmesh.api.requests.model import Strict
from fastmesh.errors import UnsupportedMediaType, ValidationError

Model = TypeVar("Model", bound=Strict)

NO_FIELD: Final = "there is no such field"
_ESCAPES: Final = re.compile(rb"(?:%[0-9A-Fa-f]{2})+")
_JSON = re.compile(r'application/json[ \t]*(;[ \t]*charset[ \t]*=[ \t]*"?utf-8"?[ \t]*)?', re.IGNORECASE)


def read_body(model: type[Model], content_type: str | None, body: bytes, max_urls: int) -> Model:
    """*body* as *model*, with *max_urls* URLs at most.  Raises UnsupportedMediaType or ValidationError."""
    if content_type is None or _JSON.fullmatch(content_type) is None:
        raise UnsupportedMediaType("the body must be application/json in UTF-8")
    value = parsed(body, max_urls)
    refuse_crowd(value, body, max_urls)
    return read_value(model, value)


def pairs_of(query: str, most: int) -> list[tuple[str, str]]:
    """The names and values of a *query*, *most* of them at most.  Raises ValidationError."""
    if query.count("&") >= most:
        raise ValidationError(f"the query has over {most} values")
    try:
        return pairs(query)
    except UnicodeDecodeError:
        raise ValidationError("the query: want percent-encoded UTF-8") from None


def read_query(model: type[Model], pairs: list[tuple[str, str]]) -> Model:
    """A query's *pairs* as *model*; what is a list there may be given again.  Raises ValidationError."""
    given: dict[str, Any] = {}
    for name, value in pairs:
        field = model.model_fields.get(name)
        if field is None:
            raise ValidationError(f"{name}: {NO_FIELD}", field=name)
        if get_origin(field.annotation) is list:
            given.setdefault(name, []).append(value)
        elif name in given:
            raise ValidationError(f"{name} is given more than once", field=name)
        else:
            given[name] = value
    return read_value(model, given)


def read_value(model: type[Model], value: Any) -> Model:
    """*value*, as it came out of JSON, as *model*.  Raises ValidationError with the path of the field."""
    try:
        return model.model_validate(value, context={})
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        path = ".".join(str(part) for part in first["loc"] if part not in (TEXT, OBJECT))
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = NO_FIELD
        raise ValidationError(f"{path}: {message}" if path else message, field=path or None) from None


def pairs(query: str) -> list[tuple[str, str]]:
    """The names and values (WHATWG URL, form-urlencoded) of a *query* in ASCII; one without a value has an empty one.

    As urllib.parse.parse_qsl reads them, which takes 27 ms for 64 KB of ``%``: each that begins no escape costs it an
    exception.  Raises UnicodeDecodeError where one is not UTF-8.
    """
    parts = (part.partition("=") for part in query.split("&") if part)
    return [(_read(name), _read(value)) for name, _, value in parts]


def _read(text: str) -> str:
    text = text.replace("+", " ")
    if "%" not in text:
        return text
    # A % that begins no escape stands for itself.
    octets = _ESCAPES.sub(lambda found: bytes.fromhex(found[0].replace(b"%", b"").decode()), text.encode("ascii"))
    return octets.decode()
