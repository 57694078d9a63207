"""Cookies within one URL's redirects: what is given back, to whom, for how long and how many."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from steps import steps

from fastmesh.crawl.fetch.cookies import MAX_BYTES, MAX_COOKIES, Cookies, cookie_date_s
from fastmesh.crawl.fetch.head import MAX_FIELDS, MAX_HEAD_BYTES
from fastmesh.crawl.net.url import parse_url

NOW = 1_700_000_000.0
HERE = "https://a.example/x/y?z"


def sent(*lines: str, to: str = HERE, at: str = HERE, later_s: float = 0.0) -> str | None:
    """What *to* is sent after *at* set cookies by these *lines*."""
    cookies = Cookies()
    cookies.take(parse_url(at), lines, NOW)
    return cookies.header(parse_url(to), NOW + later_s)


@pytest.mark.parametrize(
    ("line", "pair"),
    [
        ("a=b", "a=b"),
        (" a = b ; Path=/", "a=b"),
        ("a=", "a="),
        ("a=b=c", "a=b=c"),
        ('a="b c"', 'a="b c"'),
        ("a=ü", "a=ü"),
        ("a=b;;;=;HttpOnly;SameSite=Strict;Unknown=1", "a=b"),
        ("a=b; Domain=other.example", "a=b"),
        ("a", None),
        ("=b", None),
        ("", None),
        ("a=b\x01", None),
        ("a\t=b\x1b[2J", None),
        ("a=\udcff", None),
    ],
)
def test_a_line_is_a_name_and_a_value_or_nothing(line: str, pair: str | None):
    assert sent(line) == pair


@pytest.mark.parametrize(
    ("at", "to", "given_back"),
    [
        ("https://a.example/", "https://a.example/", True),
        ("https://a.example/", "https://A.EXAMPLE:443/b", True),
        ("https://a.example/", "http://a.example/", False),
        ("http://a.example/", "https://a.example/", False),
        ("https://a.example/", "https://a.example:8443/", False),
        ("https://a.example/", "https://b.a.example/", False),
        ("https://b.a.example/", "https://a.example/", False),
    ],
)
def test_it_goes_to_the_scheme_host_and_port_that_set_it_alone(at: str, to: str, given_back: bool):
    for domain in ("", "; Domain=a.example", "; Domain=.example"):
        assert sent(f"a=b; Path=/{domain}", at=at, to=to) == ("a=b" if given_back else None)


@pytest.mark.parametrize(
    ("line", "path", "given_back"),
    [
        ("a=b; Path=/", "/", True),
        ("a=b; Path=/x", "/x", True),
        ("a=b; Path=/x", "/x?q", True),
        ("a=b; Path=/x", "/x/", True),
        ("a=b; Path=/x", "/x/y", True),
        ("a=b; Path=/x", "/xy", False),
        ("a=b; Path=/x/", "/x", False),
        ("a=b; Path=/x/", "/x/y", True),
        ("a=b; Path=/other; path=/x", "/x", True),  # the last counts
        ("a=b; Path=x", "/x/z", True),  # none: the folder of /x/y
        ("a=b", "/x", True),
        ("a=b", "/x/", True),
        ("a=b", "/", False),
    ],
)
def test_it_goes_to_its_path_and_what_is_below(line: str, path: str, given_back: bool):
    assert sent(line, to=f"https://a.example{path}") == ("a=b" if given_back else None)


def test_secure_is_kept_over_tls_alone():
    assert sent("a=b; Secure") == "a=b"
    assert sent("a=b; secure=x", at="http://a.example/", to="http://a.example/") is None


@pytest.mark.parametrize(
    ("attributes", "for_s"),
    [
        ("", None),
        ("Max-Age=60", 60),
        ("Max-Age=060; Expires=Thu, 01 Jan 1970 00:00:00 GMT", 60),
        ("Max-Age=99999999999999999999", None),
        ("Max-Age=0", 0),
        ("Max-Age=-1", 0),
        ("Max-Age=-", None),
        ("Max-Age=soon", None),
        ("Max-Age=; Expires=Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Expires=Tue, 14 Nov 2023 22:14:20 GMT", 60),
        ("Expires=Thu, 01-Jan-1970 00:00:01 GMT", 0),
        ("Expires=0", None),
    ],
)
def test_it_is_given_back_until_it_expires(attributes: str, for_s: float | None):
    line = f"a=b; {attributes}"
    assert sent(line) == (None if for_s == 0 else "a=b")
    if for_s:
        assert sent(line, later_s=for_s - 1) == "a=b"
        assert sent(line, later_s=for_s) is None
    elif for_s is None:
        assert sent(line, later_s=100_000) == "a=b"


def test_one_that_is_over_takes_away_what_it_replaces():
    assert sent("a=b; Path=/", "a=c; Path=/; Max-Age=0") is None
    assert sent("a=b; Path=/", "a=c; Path=/x; Max-Age=0") == "a=b"


def test_a_newer_one_of_the_same_place_replaces_and_longer_paths_come_first():
    assert sent("a=1; Path=/", "b=2; Path=/x", "a=3; Path=/") == "b=2; a=3"
    assert sent("a=1; Path=/", "a=2; Path=/x", "a=3; Path=/x/y") == "a=3; a=2; a=1"


def test_so_many_are_kept_and_no_more():
    lines = [f"c{number}=x" for number in range(MAX_COOKIES + 1)]
    assert sent(*lines[:-1]) == "; ".join(f"c{number}=x" for number in range(MAX_COOKIES))
    assert sent(*lines) == "; ".join(f"c{number}=x" for number in range(1, MAX_COOKIES + 1))


def test_so_many_bytes_are_kept_and_no_more():
    whole = f"a={'x' * (MAX_BYTES - 4)}"
    assert sent(whole) == whole
    assert sent(whole + "x") is None
    assert sent("first=1", whole) == whole
    assert sent("first=1", whole + "x") == "first=1"
    assert sent(f"a={'ü' * MAX_BYTES}"[: MAX_BYTES // 2 + 10]) is None


@given(st.lists(st.text(st.characters(codec="utf-8") | st.sampled_from('ab=; \t"Path=/;Max-Age=')), max_size=60))
def test_whatever_comes_what_is_sent_is_one_field_within_the_bounds(lines: list[str]):
    header = sent(*lines)
    if header is not None:
        assert all(character >= " " for character in header)
        assert len(header.encode()) <= MAX_BYTES


@pytest.mark.parametrize("line", ["a=b" + ";" * 65_000, "a=b; Expires=" + "1 " * 30_000, "a=b; Path=/" + "/" * 60_000])
def test_one_long_line_is_read_in_few_steps(line: str):
    assert steps(lambda: sent(line)) < 2_500


def test_as_many_lines_as_a_head_may_have_are_read_in_few_steps():
    size = MAX_HEAD_BYTES // MAX_FIELDS - len("Set-Cookie: \r\n")
    lines = [f"{number}={'x' * (size - 4)}" for number in range(MAX_FIELDS)]
    assert steps(lambda: sent(*lines)) < 40 * MAX_FIELDS


@pytest.mark.parametrize(
    ("text", "at_s"),
    [
        ("Wed, 09 Jun 2021 10:18:14 GMT", 1623233894),
        ("Wed, 09-Jun-21 10:18:14 GMT", 1623233894),
        ("Wed Jun  9 10:18:14 2021", 1623233894),
        ("10:18:14 9 june 2021", 1623233894),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784111777),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Mon, 31 Feb 2022 10:00:00 GMT", None),
        ("Mon, 01 Jan 2022 25:00:00 GMT", None),
        ("Mon, 01 Jan 2022", None),
        ("tomorrow", None),
        ("", None),
    ],
)
def test_a_date_is_read_however_it_is_written(text: str, at_s: float | None):
    assert cookie_date_s(text) == at_s
