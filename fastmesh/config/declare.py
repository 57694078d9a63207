"""How a setting is declared: a field of a section, with its default, unit and meaning."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.config import JsonDict

# The most that any number may be: no larger one makes sense, and it fits every C type that settings are handed to.
MOST: Final = 10**12


def setting(
    default: Any,
    unit: str = "",
    /,
    description: str = "",
    *,
    allowed: str = "",
    instead: str = "",
    reload: bool = False,
    **bounds: Any,
) -> Any:
    """A setting: *unit* and *description* are its row in docs/settings.md.

    *allowed* says which values there are, where its type and *bounds* do not; *instead* describes a default that
    differs by machine.  With *reload* a running daemon takes a new value: it must be looked up whenever it is
    needed, so that a change holds for everything that begins after it.
    """
    if isinstance(default, int | float) and not isinstance(default, bool):
        bounds.setdefault("le", MOST)
    extra: JsonDict = {"unit": unit, "allowed": allowed, "instead": instead, "reload": reload}
    return Field(default, description=description, json_schema_extra=extra, **bounds)


# A setting of which a running daemon takes a new value.
live = partial(setting, reload=True)


class Section(BaseModel):
    """A group of settings, frozen once read."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        """``port = true`` in a file does not mean 1."""
        assert info.field_name is not None
        if isinstance(value, bool) and cls.model_fields[info.field_name].annotation in (int, float):
            raise ValueError(value)
        return value
