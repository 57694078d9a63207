"""``Retry-After``: how long an origin asks to be left alone (RFC 9110, 10.2.3)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

MAX_RETRY_AFTER_S: Final = 86_400.0  # a day; no stream lives longer, and a year would only mislead a client

_SECONDS = re.compile(r"[0-9]{1,10}")


def retry_after_s(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds from *now*, this moment, to MAX_RETRY_AFTER_S; None when *value* is neither seconds nor an HTTP date."""
    if value is None:
        return None
    value = value.strip()
    if _SECONDS.fullmatch(value):
        return min(float(value), MAX_RETRY_AFTER_S)
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if at.tzinfo is None:  # "-0000": HTTP dates are UTC, however they say it
        at = at.replace(tzinfo=UTC)
    return min(max((at - (now or datetime.now(UTC))).total_seconds(), 0.0), MAX_RETRY_AFTER_S)
