"""The settings as people read them: names, defaults, units, what each may be and what it means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from fastmesh.config.declare import MOST, Section
from fastmesh.config.model import Settings


@dataclass(frozen=True, slots=True)
class Setting:
    """What is said of a setting; *default* is as a person would write it."""

    section: str
    name: str
    default: str
    unit: str
    allowed: str
    meaning: str
    reload: bool  # whether a running daemon takes it anew

    def __str__(self) -> str:
        return setting_name(self.section, self.name)


def every_setting() -> Iterator[Setting]:
    """Every setting, in the model's order."""
    for section, field in Settings.model_fields.items():
        for name, inner in _section(field).model_fields.items():
            extra = inner.json_schema_extra
            assert isinstance(extra, dict)
            default = str(extra["instead"]) or shown(inner.default)
            allowed = str(extra["allowed"]) or _allowed(inner)
            unit, meaning, reload = str(extra["unit"]), inner.description or "", bool(extra["reload"])
            yield Setting(section, name, default, unit, allowed, meaning, reload)


def every_section() -> Iterator[tuple[str, str]]:
    """(name, what it is about) of every section, in the model's order."""
    for section, field in Settings.model_fields.items():
        yield section, _section(field).__doc__ or ""


def setting_name(section: str, name: str) -> str:
    """``SECTION__NAME``, as every message names a setting."""
    return f"{section}__{name}".upper()


def shown(value: Any) -> str:
    """A setting's value as a person would write it."""
    if value is None:
        return "-"
    if value == ():
        return "(empty)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(value).removesuffix(".0")
    if isinstance(value, tuple):
        return ",".join("-".join(map(str, dict.fromkeys(v))) if isinstance(v, tuple) else str(v) for v in value)
    return str(value)


def _section(field: FieldInfo) -> type[Section]:
    model = field.annotation
    assert isinstance(model, type)
    assert issubclass(model, Section)
    return model


def _allowed(field: FieldInfo) -> str:
    """What the type and the bounds of *field* allow."""
    kind = field.annotation
    if kind is bool:
        return "true or false"
    if kind in (int, float):
        number = "an integer" if kind is int else "a number"
        above = _bound(field, "gt")
        low = f"from {_bound(field, 'ge')} to" if above is None else f"above {above}, up to"
        most = _bound(field, "le")
        return f"{number} {low} {'10^12' if most == MOST else most}"
    *words, last = (word for part in (kind, *get_args(kind)) if get_origin(part) is Literal for word in get_args(part))
    return f"{', '.join(words)} or {last}"


def _bound(field: FieldInfo, name: str) -> Any:
    return next((getattr(part, name) for part in field.metadata if hasattr(part, name)), None)
