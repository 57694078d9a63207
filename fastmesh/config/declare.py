"""How a setting is declared: a field of a section, with its default, unit and meaning, and its kind where that is no
number, boolean or word.  A validator only says no: what is allowed stands with the setting, in words."""

from __future__ import annotations

import re
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.config import JsonDict

# The most that any number may be: no larger one makes sense, and it fits every C type that settings are handed to.
MOST: Final = 10**12

_ORIGIN = re.compile(r"https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_HTTP_URL = re.compile(r"https?://[^\s/?#]+(/[^\s?#]*)?")
_PORT_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_HOST_NAME = re.compile(r"\*|[A-Za-z0-9._-]*[A-Za-z0-9_-]|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*|\[[0-9A-Fa-f:.]+\]")

Network = IPv4Network | IPv6Network
PortRange = tuple[int, int]


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


def _listed(value: object) -> object:
    """A comma-separated string as a list; empty is the empty list."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _network(value: object) -> object:
    if isinstance(value, int):  # 10 would be 0.0.0.10
        raise ValueError(value)
    return ip_network(value, strict=False) if isinstance(value, str) else value


def _port_range(value: object) -> object:
    if not isinstance(value, str | int):
        return value
    found = _PORT_RANGE.fullmatch(str(value))
    if found is None:
        raise ValueError(value)
    pair = int(found[1]), int(found[2] or found[1])
    if not 1 <= pair[0] <= pair[1] <= 65535:
        raise ValueError(value)
    return pair


def _nameserver(value: object) -> object:
    text = value if isinstance(value, str) else ""
    host, _, port = text.removeprefix("[").rpartition("]:" if text.startswith("[") else ":")
    if text.count(":") > 1 and not text.startswith("["):
        host, port = text, "53"
    if not host:
        host, port = text, "53"
    ip_address(host)
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise ValueError(value)
    return value


def _matching(pattern: re.Pattern[str]) -> BeforeValidator:
    def check(value: object) -> object:
        if isinstance(value, str) and pattern.fullmatch(value) is None:
            raise ValueError(value)
        return value

    return BeforeValidator(check)


Networks = Annotated[tuple[Annotated[Network, BeforeValidator(_network)], ...], BeforeValidator(_listed)]
Ports = Annotated[tuple[Annotated[PortRange, BeforeValidator(_port_range)], ...], BeforeValidator(_listed)]
HostNames = Annotated[tuple[Annotated[str, _matching(_HOST_NAME)], ...], BeforeValidator(_listed)]
Nameservers = Annotated[tuple[Annotated[str, BeforeValidator(_nameserver)], ...], BeforeValidator(_listed)]
Origins = Annotated[tuple[Annotated[str, _matching(_ORIGIN)], ...], BeforeValidator(_listed)]
HttpUrl = Annotated[str | None, _matching(_HTTP_URL)]
# An empty one is refused: that a variable was empty by mistake must not mean "no tokens".
Text = Annotated[str, Field(pattern=r"^[^\x00]+$")]
