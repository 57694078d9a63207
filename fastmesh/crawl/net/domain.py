"""The domain whose names are taken together: what one owner can make many of."""

from __future__ import annotations

from typing import Final

# What registries of many countries sell names below: ``example.co.uk`` is a domain as ``example.com`` is.
SECOND_LEVEL: Final = frozenset(
    "ac asso biz co com coop edu firm gen go gob gouv gov ind info int ltd mil ne net nom or org plc sch web".split()
)


def domain_of(host: str) -> str:
    """The domain of *host*, a name or an address in any spelling; an address is its own.

    A guess without the public suffix list, of which a reader takes 120 ms at every start.  Where it is wrong,
    strangers share what a domain gets, as they do below ``github.io``.
    """
    name = host.removesuffix(".")
    labels = name.rsplit(".", 3)
    last = labels[-1]
    if name.startswith("[") or last[:1].isdigit():
        return name
    below_country = len(labels) > 2 and len(last) == 2 and labels[-2] in SECOND_LEVEL
    return ".".join(labels[-3:] if below_country else labels[-2:])
