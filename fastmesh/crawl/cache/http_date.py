"""Dates as HTTP has them (RFC 9110, 5.6.7), and nothing else: in a cache a date that is none means "stale"."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

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


def http_date_s(text: str | None) -> float | None:
    """*text* in seconds since the epoch; None when it is no date.  Of several lines, one list, the first counts."""
    for form in (_IMF, _RFC850, _ASCTIME):
        found = form.match(text or "")
        if found is not None and _END.match(found.string, found.end()):
            return _seconds(found)
    return None


def _seconds(found: re.Match[str]) -> float | None:
    month = _MONTHS.index(found["month"].lower()) + 1
    year, day, hour, minute, second = map(int, found.group("year", "day", "hour", "minute", "second"))
    if len(found["year"]) == 2:
        year += 1900 if year >= _PIVOT else 2000
    leap = int(second == 60)
    try:
        return datetime(year, month, day, hour, minute, second - leap, tzinfo=UTC).timestamp() + leap
    except ValueError:
        return None
