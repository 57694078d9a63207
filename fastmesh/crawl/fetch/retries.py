"""When a page is tried again, and after how long.

The policy has no clock: it is told how often the page was tried, what went wrong and how much of
its time is left.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Final

from fastmesh.crawl.fetch.request import PageRequest
from fastmesh.crawl.schedule.retry_budget import RetryBudget
from fastmesh.errors import UrlError, bare

FIRST_WAIT_S: Final = 0.3


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
