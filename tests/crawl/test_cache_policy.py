"""What becomes of an answer, told the facts and the time."""

from __future__ import annotations

import pytest

from fastmesh.crawl.cache import policy
from fastmesh.crawl.cache.freshness import Lifetime
from fastmesh.crawl.cache.store import Answer

NOW_S, TTL_S = 1000.0, 3600.0


def answer(
    status: int = 200, lifetime: Lifetime | None = None, *, cookies: tuple[str, ...] = (), **fields: str
) -> Answer:
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return Answer(status, None, "text/html", named, b"", 0, 1e9, NOW_S, lifetime, 1e9, set_cookies=cookies)


def test_an_answer_is_served_while_it_is_younger_than_both_say() -> None:
    kept = answer(lifetime=Lifetime(60, 10))
    assert [policy.may_serve(kept, NOW_S + s) for s in (0, 49, 50)] == [True, True, False]
    assert [policy.may_serve(kept, NOW_S + s, 20) for s in (0, 9, 10)] == [True, True, False]
    assert not policy.may_serve(answer(lifetime=Lifetime(60, 0)), NOW_S, 0)
    assert not policy.may_serve(answer(), NOW_S)


def test_an_answer_that_may_be_kept_says_for_how_long_and_what_chose_it() -> None:
    came = answer(vary="Accept, Accept-Language")
    assert policy.may_keep(came, {"accept-language": "de", "x": "y"}, NOW_S + 5, TTL_S)
    assert (came.lifetime, came.kept_at_s) == (Lifetime(TTL_S, 0), NOW_S + 5)
    assert came.chosen_by == (("accept", None), ("accept-language", "de"))


@pytest.mark.parametrize(
    "came", [answer(cache_control="no-store"), answer(vary="*"), answer(206), answer(302, cookies=("a=b",))]
)
def test_an_answer_that_may_not_be_kept_has_no_lifetime(came: Answer) -> None:
    assert not policy.may_keep(came, {}, NOW_S, TTL_S)
    assert (came.lifetime, came.chosen_by) == (None, ())


@pytest.mark.parametrize(("status", "may"), [(200, True), (404, True), (301, True), (503, False), (429, False)])
def test_what_passes_at_the_next_try_replaces_nothing(status: int, may: bool) -> None:
    assert policy.may_replace(answer(status)) is may


@pytest.mark.parametrize(
    ("came", "others"),
    [
        (answer(), True),
        (answer(cache_control="private"), True),  # kept by this process for whoever sends the very same request
        (answer(cache_control="no-store"), False),
        (answer(302, cookies=("a=b",)), False),
    ],
)
def test_an_answer_is_for_requests_that_joined_unless_it_says_otherwise(came: Answer, others: bool) -> None:
    assert policy.is_for_others(came) is others


def test_a_304_makes_what_is_kept_fresh_anew() -> None:
    kept = answer(lifetime=Lifetime(0, 0), etag='"1"', age="7", cache_control="max-age=0")
    by = answer(304, etag='W/"1"', cache_control="max-age=50")
    by.asked_at_s = by.came_at_s = 2e9
    assert policy.confirm(kept, by, NOW_S + 9, TTL_S)
    assert (kept.lifetime, kept.kept_at_s, kept.asked_at_s, kept.came_at_s) == (Lifetime(50, 0), NOW_S + 9, 2e9, 2e9)
    assert kept.fields == {"etag": 'W/"1"', "cache-control": "max-age=50"}
    assert policy.may_serve(kept, NOW_S + 58)


def test_a_304_may_say_that_what_it_confirms_must_not_be_kept() -> None:
    kept = answer(lifetime=Lifetime(0, 0), etag='"1"')
    assert policy.confirm(kept, answer(304, cache_control="no-store"), NOW_S, TTL_S)
    assert kept.lifetime is None


@pytest.mark.parametrize("by", [answer(200, etag='"1"'), answer(304, etag='"2"')])
def test_what_speaks_of_another_confirms_nothing(by: Answer) -> None:
    kept = answer(lifetime=Lifetime(60, 0), etag='"1"')
    assert not policy.confirm(kept, by, NOW_S + 9, TTL_S)
    assert (kept.lifetime, kept.kept_at_s) == (Lifetime(60, 0), NOW_S)
