"""RFC 9111 for one answer: what may be kept, for how long, and what is asked of the origin afterwards."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from steps import steps

from fastmesh.crawl.cache.freshness import (
    ERROR_FRESH_S,
    MAX_DIRECTIVE_CHARS,
    MAX_ERROR_FRESH_S,
    MAX_SECONDS,
    MAX_VARY,
    Lifetime,
    conditions,
    directives,
    http_date_s,
    kept_fields,
    lifetime,
    may_be_shared,
    merged,
    still_holds,
    vary,
)

NOW_S = 1_700_000_000.0
TTL_S = 3600.0
TAG = {"etag": '"1"'}


def date(offset_s: float = 0) -> str:
    return formatdate(NOW_S + offset_s, usegmt=True)


def kept(status: int = 200, **fields: str) -> Lifetime | None:
    """How an answer with *fields*, which came at once, is kept."""
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return lifetime(status, named, asked_at_s=NOW_S, came_at_s=NOW_S, ttl_s=TTL_S)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", {}),
        ("no-store", {"no-store": None}),
        ("Max-Age=60, PRIVATE", {"max-age": "60", "private": None}),
        ('max-age="60"', {"max-age": "60"}),
        ("max-age=1, max-age=2", {"max-age": "1"}),
        ('no-cache="set-cookie, x", max-age=5', {"no-cache": "set-cookie, x", "max-age": "5"}),
        ('private="a, no-store"', {"private": "a, no-store"}),
        (" ,, max-age=3 ,", {"max-age": "3"}),
        ("max-age=", {"max-age": None}),
        ("x=y=z, max-age=4", {"x": "y=z", "max-age": "4"}),
    ],
)
def test_cache_control_is_read_as_it_is_written(value: str, said: dict[str, str | None]) -> None:
    assert directives({"cache-control": value}) == said


@given(st.text())
def test_no_cache_control_is_too_odd_to_read(value: str) -> None:
    assert all(name == name.lower() for name in directives({"cache-control": value}))


@pytest.mark.parametrize("status", [200, 203, 204, 300, 301, 308])
def test_what_says_nothing_is_fresh_as_long_as_the_setting_says(status: int) -> None:
    assert kept(status) == Lifetime(TTL_S, 0)


@pytest.mark.parametrize("status", [404, 405, 410, 414])
def test_an_error_is_kept_briefly(status: int) -> None:
    assert kept(status) == Lifetime(ERROR_FRESH_S, 0)
    assert kept(status, cache_control="max-age=5") == Lifetime(5, 0)
    assert kept(status, cache_control="max-age=31536000") == Lifetime(MAX_ERROR_FRESH_S, 0)
    assert kept(status, cache_control="no-store") is None


@pytest.mark.parametrize("status", [201, 202, 302, 303, 307, 400, 401, 402, 403, 409, 418, 451])
def test_what_is_not_kept_by_default_is_kept_when_the_origin_says_how_long(status: int) -> None:
    assert kept(status) is None
    assert kept(status, etag='"1"', last_modified=date(-9)) is None
    assert kept(status, cache_control="max-age=7") == Lifetime(7, 0)
    assert kept(status, expires=date(7), date=date()) == Lifetime(7, 0)
    assert kept(status, cache_control="public") == Lifetime(TTL_S if status < 400 else ERROR_FRESH_S, 0)


@pytest.mark.parametrize("status", [206, 304, 408, 425, 429, 500, 501, 502, 503, 504, 599])
def test_what_is_partial_or_passes_is_never_kept(status: int) -> None:
    assert kept(status, cache_control="public, max-age=60", etag='"1"') is None


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"cache_control": "max-age=60"}, Lifetime(60, 0)),
        ({"cache_control": "max-age=60, s-maxage=5"}, Lifetime(60, 0)),
        ({"cache_control": "s-maxage=5"}, Lifetime(TTL_S, 0)),
        ({"cache_control": "private, max-age=60"}, Lifetime(60, 0)),
        ({"cache_control": "private"}, Lifetime(TTL_S, 0)),
        ({"cache_control": "must-revalidate"}, Lifetime(TTL_S, 0)),
        ({"cache_control": "max-age=99999999999999"}, Lifetime(MAX_SECONDS, 0)),
        ({"cache_control": "max-age=60", "expires": date(-60), "date": date()}, Lifetime(60, 0)),
        ({"expires": date(90), "date": date()}, Lifetime(90, 0)),
        ({"expires": date(90)}, Lifetime(90, 0)),
        ({"expires": f"{date(5)}, {date(9)}"}, Lifetime(5, 0)),
        ({"expires": date(90), "date": date(-30)}, Lifetime(120, 30)),
        ({"cache_control": "max-age=60", "age": "20"}, Lifetime(60, 20)),
        ({"cache_control": "max-age=60", "age": "20, 40"}, Lifetime(60, 20)),
        ({"cache_control": "max-age=60", "age": "-1"}, Lifetime(60, 0)),
        ({"cache_control": "max-age=60", "age": "1_0"}, Lifetime(60, 0)),
        ({"cache_control": "max-age=60", "date": date(-20)}, Lifetime(60, 20)),
        ({"cache_control": "max-age=60", "date": date(-20), "age": "5"}, Lifetime(60, 20)),
        ({"cache_control": "max-age=60", "date": date(20)}, Lifetime(60, 0)),
        ({"cache_control": "max-age=60", "date": "yesterday"}, Lifetime(60, 0)),
        # Stale from the first, and nothing to ask the origin by.
        ({"cache_control": "max-age=0"}, None),
        ({"cache_control": "max-age=-1"}, None),
        ({"cache_control": "max-age=a minute"}, None),
        ({"cache_control": "no-cache"}, None),
        ({"cache_control": "no-cache=x, max-age=9"}, None),
        ({"cache_control": "max-age=60", "age": "60"}, None),
        ({"expires": "0"}, None),
        ({"expires": "-1"}, None),
        ({"expires": date(-1), "date": date()}, None),
        # The same, with something to ask by.
        ({"cache_control": "max-age=0", "etag": '"1"'}, Lifetime(0, 0)),
        ({"cache_control": "no-cache, max-age=60", "last_modified": date(-99)}, Lifetime(0, 0)),
        ({"expires": "0", "etag": 'W/"1"'}, Lifetime(0, 0)),
        # Never.
        ({"cache_control": "no-store", "etag": '"1"'}, None),
        ({"cache_control": "max-age=60, no-store"}, None),
        ({"cache_control": "max-age=60", "vary": "*"}, None),
        ({"cache_control": "max-age=60", "vary": "accept, *"}, None),
    ],
)
def test_freshness_is_what_the_origin_states(fields: dict[str, str], found: Lifetime | None) -> None:
    assert kept(**fields) == found


def test_an_answer_ages_on_its_way() -> None:
    fields = {"cache-control": "max-age=60", "age": "10"}
    assert lifetime(200, fields, asked_at_s=NOW_S - 4, came_at_s=NOW_S, ttl_s=0) == Lifetime(60, 14)


def test_a_date_of_whole_seconds_makes_nothing_old() -> None:
    fields = {"cache-control": "max-age=1", "date": date()}
    assert lifetime(200, fields, asked_at_s=NOW_S, came_at_s=NOW_S + 0.9, ttl_s=0) == Lifetime(1, 0)


def test_a_ttl_of_nothing_keeps_only_what_can_be_asked_again() -> None:
    given = {"asked_at_s": NOW_S, "came_at_s": NOW_S, "ttl_s": 0.0}
    assert lifetime(200, {}, **given) is None
    assert lifetime(200, TAG, **given) == Lifetime(0, 0)
    assert lifetime(404, {}, **given) is None


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({}, {}),
        ({"etag": '"a"'}, {"If-None-Match": '"a"'}),
        ({"etag": 'W/"a"'}, {"If-None-Match": 'W/"a"'}),
        ({"etag": "a"}, {}),
        ({"etag": '"a", "b"'}, {}),
        ({"etag": '"\xe4"'}, {}),
        ({"etag": '"a"\r\nx: y'}, {}),
        ({"last-modified": date()}, {"If-Modified-Since": date()}),
        ({"last-modified": "long ago"}, {}),
        ({"etag": '"a"', "last-modified": date()}, {"If-None-Match": '"a"', "If-Modified-Since": date()}),
    ],
)
def test_an_origin_is_asked_by_what_it_said(fields: dict[str, str], headers: dict[str, str]) -> None:
    assert conditions(fields) == headers


@pytest.mark.parametrize(
    ("before", "after", "holds"),
    [
        (TAG, {}, True),
        (TAG, TAG, True),
        (TAG, {"etag": 'W/"1"'}, True),
        (TAG, {"etag": '"2"'}, False),
        ({}, TAG, True),
    ],
)
def test_a_304_must_be_about_what_is_kept(before: dict[str, str], after: dict[str, str], holds: bool) -> None:
    assert still_holds(before, after) is holds


def test_a_304_renews_what_it_says_and_nothing_else() -> None:
    before = {"cache-control": "max-age=1", "age": "9", "date": date(-99), "etag": '"1"', "expires": date(-98)}
    assert merged(before, {"cache-control": "max-age=5"}) == {
        "cache-control": "max-age=5",
        "etag": '"1"',
        "expires": date(-98),
    }
    assert merged(before, {"date": date(), "age": "1"})["age"] == "1"


def test_no_store_and_vary_of_everything_are_for_one_request_only() -> None:
    assert may_be_shared({"cache-control": "no-cache, max-age=0"})
    assert not may_be_shared({"cache-control": "no-store"})
    assert not may_be_shared({"vary": "*"})


@pytest.mark.parametrize("directive", ["max-age=60", "a", 'a="b"'])
def test_a_cache_control_that_nobody_could_need_is_not_read(directive: str) -> None:
    longest = ", ".join([directive] * 9_000)[:MAX_DIRECTIVE_CHARS]
    assert may_be_shared({"cache-control": longest})
    assert not may_be_shared({"cache-control": longest + ","})
    flood = {"cache-control": ",".join([directive] * 9_000)}
    assert steps(lambda: lifetime(200, flood, asked_at_s=NOW_S, came_at_s=NOW_S, ttl_s=TTL_S)) < 50


def test_what_is_chosen_by_more_headers_than_anybody_sends_is_for_one_request_only() -> None:
    many = [f"x-{number}" for number in range(MAX_VARY + 1)]
    assert may_be_shared({"vary": ", ".join(many[1:])})
    assert not may_be_shared({"vary": ", ".join(many)})
    assert kept(vary=", ".join(many), cache_control="max-age=60") is None


def test_vary_names_headers() -> None:
    assert vary({"vary": "Accept-Language , accept,, ACCEPT"}) == ("accept", "accept-language")
    assert vary({}) == ()


def test_several_lines_of_a_field_are_one_list() -> None:
    head = CIMultiDict([("Vary", "a"), ("ETag", '"1"'), ("Server", "x"), ("vary", "b")])
    assert kept_fields(head) == {"etag": '"1"', "vary": "a, b"}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784111777),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784111777),
        ("Sun Nov  6 08:49:37 1994", 784111777),
        (None, None),
        ("", None),
        ("0", None),
        ("tomorrow", None),
        ("sun, 06 nov 1994 08:49:37 utc", 784111777),
        ("Sun, 06 Nov 1994 08:49:60 GMT", 784111800),
        ("Sun, 06 Nov 1994 08:49:37 GMT, Mon, 07 Nov 1994 08:49:37 GMT", 784111777),
        ("Sun, 06 Nov 1994 08:49:37", None),
        ("Sun, 06 Nov 1994 08:49:37 +0200", None),
        ("Sun, 06 Nov 1994 08:49:37 -0000", None),
        ("Sun, 06 Nov 1994 08:49:37 EST", None),
        ("Sun, 06 Nov 1994 08:49 GMT", None),
        ("Sun, 6 Nov 1994 08:49:37 GMT", None),
        ("06 Nov 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 94 08:49:37 GMT", None),
        ("Sun, 06-Nov-1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 08.49.37 GMT", None),
        ("Sun, 06 Nov 1994 24:00:00 GMT", None),
        ("Sun, 06 Nov 0000 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 08:49:37 GMT+1", None),
        ("Sun Nov 6 08:49:37 1994", None),
        ("Sun, \u0660\u0666 Nov 1994 08:49:37 GMT", None),
        ("1994-11-06T08:49:37Z", None),
        ("784111777", None),
        ("Sun, 99 Nov 1994 08:49:37 GMT", None),
    ],
)
def test_dates_come_in_three_forms(text: str | None, seconds: int | None) -> None:
    assert http_date_s(text) == seconds


@given(st.text(max_size=40))
def test_no_date_is_too_odd_to_read(text: str) -> None:
    assert http_date_s(text) is None or isinstance(http_date_s(text), float)
