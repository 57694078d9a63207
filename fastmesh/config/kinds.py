"""Kinds of values beside numbers, booleans and words: networks, ports, hosts, origins, URLs and text.

A validator only says no: what is allowed stands with the setting, in words.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated

from pydantic import BeforeValidator, Field

_ORIGIN = re.compile(r"https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_HTTP_URL = re.compile(r"https?://[^\s/?#]+(/[^\s?#]*)?")
_PORT_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_HOST_NAME = re.compile(r"\*|[A-Za-z0-9._-]*[A-Za-z0-9_-]|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*|\[[0-9A-Fa-f:.]+\]")

Network = IPv4Network | IPv6Network
PortRange = tuple[int, int]


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
