"""What becomes of an answer: may it be kept, may it be served, does it still hold, is it for others.

Each is a function of facts and of the time by the caller's clock; nothing is kept here.  What header fields say is
read by freshness.py, as RFC 9111 has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fastmesh.crawl.cache.freshness import is_passing, lifetime, may_be_shared, merged, still_holds, vary
from fastmesh.crawl.cache.store import Answer

NOT_MODIFIED: Final = 304


def may_serve(kept: Answer, now_s: float, max_age_s: float | None = None) -> bool:
    """Whether *kept* may be served unasked, to a request that takes nothing as old as *max_age_s*."""
    if kept.lifetime is None:
        return False
    age_s = now_s - kept.kept_at_s + kept.lifetime.age_s  # RFC 9111, 4.2.3
    return age_s < kept.lifetime.fresh_s and (max_age_s is None or age_s < max_age_s)


def is_for_others(answer: Answer) -> bool:
    """Whether *answer* may be given to requests that joined the one that it answers."""
    return not answer.set_cookies and may_be_shared(answer.fields)


def may_replace(answer: Answer) -> bool:
    """Whether *answer* ends what is kept for its request: what passes at the next try does not."""
    return not is_passing(answer.status)


def may_keep(answer: Answer, headers: Mapping[str, str], now_s: float, ttl_s: float) -> bool:
    """Whether *answer* may be kept; then it says for how long, and which of the request's *headers* chose it.  Their
    names are in lower case."""
    _set_lifetime(answer, now_s, ttl_s)
    if answer.lifetime is None:
        return False
    answer.chosen_by = tuple((name, headers.get(name)) for name in vary(answer.fields))
    return True


def confirm(kept: Answer, by: Answer, now_s: float, ttl_s: float) -> bool:
    """Whether *by* says that *kept* still holds; then it does so anew, for as long as *by* says."""
    if by.status != NOT_MODIFIED or not still_holds(kept.fields, by.fields):
        return False
    kept.fields = merged(kept.fields, by.fields)
    kept.asked_at_s, kept.came_at_s = by.asked_at_s, by.came_at_s
    _set_lifetime(kept, now_s, ttl_s)
    return True


def _set_lifetime(answer: Answer, now_s: float, ttl_s: float) -> None:
    answer.kept_at_s = now_s
    answer.lifetime = None
    if not answer.set_cookies:
        asked_at_s, came_at_s = answer.asked_at_s, answer.came_at_s
        answer.lifetime = lifetime(
            answer.status, answer.fields, asked_at_s=asked_at_s, came_at_s=came_at_s, ttl_s=ttl_s
        )
