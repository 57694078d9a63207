"""What an answer's header fields say to a cache (RFC 9111): may it be kept, how long is it fresh, how is it validated.

Pure functions of the fields and of times in seconds.  The cache is a private one: ``private`` does not forbid it to
keep an answer, ``s-maxage`` is not for it.  It serves nothing stale, so ``must-revalidate`` says nothing new to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from multidict import MultiMapping

# What is kept of an answer's head, beside its type.
FIELDS: Final = ("cache-control", "age", "date", "expires", "etag", "last-modified", "vary")

# An answer that was chosen by more headers than anybody sends is for one request only, as if Vary said "*": a kept
# answer remembers all headers that chose it, and is compared in each of them.
MAX_VARY: Final = 64

# Request headers that make the answer one for who sent them (RFC 9110, 13.1 and 14.2).
CONDITIONS: Final = frozenset(
    {"if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range", "range"}
)

# Statuses that may be kept although the answer says nothing about it (RFC 9110, 15.1).
BY_DEFAULT: Final = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414})
# A part of a page, and an answer that has none.
PARTIAL: Final = frozenset({206, 304})
# Errors that pass.  An origin that says when it is asked again is heeded by politeness, not here.
PASSING: Final = frozenset({408, 425, 429})

# An error that an origin lets us keep for a year may be mended in a minute.
ERROR_FRESH_S: Final = 60.0
MAX_ERROR_FRESH_S: Final = 300.0
MAX_SECONDS: Final = 2**31  # RFC 9111, 1.2.2
# A Cache-Control that says something has a hundred; 64 KB of them take 30 ms to read.
MAX_DIRECTIVE_CHARS: Final = 4_096

Fields = Mapping[str, str]

_DIRECTIVE: Final = re.compile(r"""([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:=(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*)))?""")
_SECONDS: Final = re.compile(r"[0-9]{1,19}")
_ENTITY_TAG: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
# Dates as HTTP has them (RFC 9110, 5.6.7), and nothing else: a date that is none means "stale".
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAY: Final = r"(?:mon|tue|wed|thu|fri|sat|sun)"
_LONG_DAY: Final = r"(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday)"
_MONTH: Final = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME: Final = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
# In any case, and UTC is as good as GMT (RFC 9111, 4.2).
_FLAGS: Final = re.ASCII | re.IGNORECASE
_IMF: Final = re.compile(rf"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} (?:GMT|UTC)", _FLAGS)
_RFC850: Final = re.compile(
    rf"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} (?:GMT|UTC)", _FLAGS
)
_ASCTIME: Final = re.compile(rf"{_DAY} {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})", _FLAGS)
# The end, or that of a line among several.
_END: Final = re.compile(r"[ \t]*(?:,|$)")
# A year of two digits from here on is of the last century.
_PIVOT: Final = 69


def kept_fields(head: MultiMapping[str]) -> dict[str, str]:
    """The FIELDS of *head*.  Several lines are one list (RFC 9110, 5.3)."""
    return {name: ", ".join(head.getall(name)) for name in FIELDS if name in head}


def directives(fields: Fields) -> dict[str, str | None]:
    """The Cache-Control of *fields*, in lower case; of one that is repeated the first counts (4.2.1).  One that is too
    long to be read may forbid anything: it counts as no-store."""
    text = fields.get("cache-control", "")
    if len(text) > MAX_DIRECTIVE_CHARS:
        return {"no-store": None}
    said: dict[str, str | None] = {}
    for name, quoted, plain in _DIRECTIVE.findall(text):
        said.setdefault(name.lower(), quoted or plain or None)
    return said


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long an answer is fresh: while its age is under *fresh_s*; *age_s* is how old it was when it came."""

    fresh_s: float
    age_s: float


def is_passing(status: int) -> bool:
    """Whether an error with this status may be over at the next try."""
    return status in PASSING or status >= 500


def may_be_shared(fields: Fields) -> bool:
    """Whether an answer may be given to more than the one request that it answers (4, 5.2.2.5)."""
    chosen_by = vary(fields)
    return "no-store" not in directives(fields) and "*" not in chosen_by and len(chosen_by) <= MAX_VARY


def lifetime(status: int, fields: Fields, *, asked_at_s: float, came_at_s: float, ttl_s: float) -> Lifetime | None:
    """How long an answer is fresh, by its *status* and *fields*; None when it may not be kept, or that helps nobody.

    It was *asked* for and *came* at these times since the epoch.  *ttl_s* is how long a page is fresh
    that says nothing about it.
    """
    if status in PARTIAL or is_passing(status) or not may_be_shared(fields):
        return None
    said = directives(fields)
    fresh_s = _stated_s(said, fields, came_at_s)
    is_error = status >= 400
    if fresh_s is None:
        if status not in BY_DEFAULT and "public" not in said:
            return None
        fresh_s = min(ttl_s, ERROR_FRESH_S) if is_error else ttl_s
    if is_error:
        fresh_s = min(fresh_s, MAX_ERROR_FRESH_S)
    if "no-cache" in said:
        fresh_s = 0.0
    age_s = _age_s(fields, asked_at_s, came_at_s)
    if fresh_s <= age_s and not conditions(fields):
        return None
    return Lifetime(fresh_s, age_s)


def _stated_s(said: Mapping[str, str | None], fields: Fields, came_at_s: float) -> float | None:
    """The freshness that the origin states (4.2.1); None when it states none.  What is malformed is stale."""
    if "max-age" in said:
        return _seconds(said["max-age"]) or 0.0
    if "expires" in fields:
        expires_s = http_date_s(fields["expires"])
        if expires_s is None:
            return 0.0
        date_s = http_date_s(fields.get("date"))
        return max(0.0, expires_s - (came_at_s if date_s is None else date_s))
    return None


def _age_s(fields: Fields, asked_at_s: float, came_at_s: float) -> float:
    """How old an answer was when it came (4.2.3)."""
    date_s = http_date_s(fields.get("date"))
    apparent_s = 0.0 if date_s is None else max(0.0, came_at_s - date_s)
    said_s = _seconds(fields.get("age", "").partition(",")[0].strip())
    # The time of the request counts as well: the answer may have aged on its way.
    corrected_s = 0.0 if said_s is None else said_s + (came_at_s - asked_at_s)
    # A Date has whole seconds: up to one of them is no age.
    return max(apparent_s if apparent_s >= 1.0 else 0.0, corrected_s)


def _seconds(text: str | None) -> float | None:
    return float(min(int(text), MAX_SECONDS)) if text and _SECONDS.fullmatch(text) else None


def conditions(fields: Fields) -> dict[str, str]:
    """The request headers that ask whether an answer with *fields* still holds; empty when it cannot be asked."""
    found = {}
    tag, modified = fields.get("etag", ""), fields.get("last-modified", "")
    if _ENTITY_TAG.fullmatch(tag) and tag.isascii():
        found["If-None-Match"] = tag
    if http_date_s(modified) is not None and modified.isascii() and modified.isprintable():
        found["If-Modified-Since"] = modified
    return found


def still_holds(kept: Fields, confirmed: Fields) -> bool:
    """Whether a 304 with *confirmed* speaks of the answer with *kept* (4.3.4), and not of some other."""
    if "etag" not in confirmed or "etag" not in kept:
        return True
    return confirmed["etag"].removeprefix("W/") == kept["etag"].removeprefix("W/")


def merged(kept: Fields, confirmed: Fields) -> dict[str, str]:
    """The fields of an answer that a 304 confirmed (3.2): age and date are only ever the last answer's."""
    return {name: value for name, value in kept.items() if name not in ("age", "date")} | dict(confirmed)


def vary(fields: Fields) -> tuple[str, ...]:
    """The request headers that an answer was chosen by, in lower case; ``*`` among them is no header."""
    names = (name.strip().lower() for name in fields.get("vary", "").split(","))
    return tuple(sorted({name for name in names if name}))


def http_date_s(text: str | None) -> float | None:
    """*text* in seconds since the epoch; None when it is no date.  Of several lines, one list, the first counts."""
    for form in (_IMF, _RFC850, _ASCTIME):
        found = form.match(text or "")
        if found is not None and _END.match(found.string, found.end()):
            return _date_s(found)
    return None


def _date_s(found: re.Match[str]) -> float | None:
    month = _MONTHS.index(found["month"].lower()) + 1
    year, day, hour, minute, second = map(int, found.group("year", "day", "hour", "minute", "second"))
    if len(found["year"]) == 2:
        year += 1900 if year >= _PIVOT else 2000
    leap = int(second == 60)
    try:
        return datetime(year, month, day, hour, minute, second - leap, tzinfo=UTC).timestamp() + leap
    except ValueError:
        return None
