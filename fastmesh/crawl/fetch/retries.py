"""When a page is tried again, and after how long; and for how long an origin asks to be left alone.  The policy has no
clock: it is told how often the page was tried, what went wrong and how much of its time is left."""

from __future__ import annotations

import random
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from fastmesh.crawl.fetch.page_source import PageRequest
from fastmesh.crawl.schedule.permit import RetryBudget
from fastmesh.errors import UrlError, bare

FIRST_WAIT_S: Final = 0.3
MAX_RETRY_AFTER_S: Final = 86_400.0  # a day; no stream lives longer, and a year would only mislead a client

_SECONDS: Final = re.compile(r"[0-9]{1,10}")


def retry_wait_s(
    error: UrlError, tries: int, left_s: float, jitter: Callable[[], float] = random.random
) -> float | None:
    """How long to wait before trying again what failed *tries* times, now with *error*; None: do not.

    0.3 s × 2ⁿ, up to as much again or half as little, so that those that failed together do not come back
    together; longer when the origin says so.  What would end after *left_s* is not begun.
    """
    if not error.retryable or not tries:  # what never was tried waits for somebody else's failure
        return None
    wait_s = FIRST_WAIT_S * 2 ** (tries - 1) * (0.5 + jitter())
    wait_s = max(wait_s, error.retry_after_s or 0.0)
    return wait_s if wait_s < left_s else None


async def with_retries(
    fetch: Callable[[], Awaitable[None]], page: PageRequest, budget: RetryBudget | None = None
) -> None:
    """*fetch* the *page*, and again while that may help and its time, its options and *budget* allow it."""
    while True:
        try:
            return await fetch()
        except UrlError as error:
            bare(error)  # the frames behind it hold the body that failed, as far as it came
            wait_s = retry_wait_s(error, page.tries, page.deadline.left_s)
            if wait_s is None or page.tries > page.options.retries or not (budget is None or budget.take()):
                raise
        await page.deadline.sleep(wait_s)


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
