"""What a robots.txt allows: RFC 9309's own examples, and whatever else is written into such files."""

from __future__ import annotations

import gc
import re
import time
import tracemalloc
from collections.abc import Generator
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmesh.crawl.robots.robots import Known
from fastmesh.crawl.robots.rules import Rules, canonical, product_token, read

T = TypeVar("T")


def whole(work: Generator[None, None, T]) -> T:
    while True:
        try:
            next(work)
        except StopIteration as end:
            value: T = end.value
            return value


def allowed(text: str, path: str, token: str = "fastmesh") -> bool:
    return whole(whole(read(text)).judge(token, path))


FIVE = """
User-Agent: *
Disallow: *.gif$
Disallow: /example/
Allow: /publications/

User-Agent: foobot
Disallow:/
Allow:/example/page.html
Allow:/example/allowed.gif

User-Agent: barbot
User-Agent: bazbot
Disallow: /example/page.html

User-Agent: quxbot
"""  # RFC 9309, 5.1


@pytest.mark.parametrize(
    ("token", "path", "verdict"),
    [
        ("any", "/", True),
        ("any", "/example/", False),
        ("any", "/a/b.gif", False),
        ("any", "/a/b.gif?x", True),
        ("any", "/publications/b.gif", True),
        ("foobot", "/publications/", False),
        ("FooBot", "/example/page.html", True),
        ("foobot", "/example/allowed.gif", True),
        ("foobot", "/robots.txt", True),
        ("barbot", "/example/page.html", False),
        ("bazbot", "/example/page.html", False),
        ("bazbot", "/example/other.html", True),
        ("quxbot", "/example/page.html", True),
        ("foobot-news", "/publications/", True),
    ],
)
def test_the_standards_own_example(token: str, path: str, verdict: bool) -> None:
    assert allowed(FIVE, path, token) is verdict


@pytest.mark.parametrize(
    ("rules", "path", "verdict"),
    [
        # 5.2: the longest match
        ("Allow: /example/page/\nDisallow: /example/page/disallowed.gif", "/example/page/disallowed.gif", False),
        ("Disallow: /a\nAllow: /a", "/a", True),  # equal: allow
        ("Allow: /a\nDisallow: /a", "/a", True),
        ("Disallow: /\nAllow: /$", "/", True),
        ("Disallow: /\nAllow: /$", "/x", False),
        # 2.2.2: paths in one spelling
        ("Disallow: /foo/bar?baz=quz", "/foo/bar?baz=quz", False),
        ("Disallow: /foo/bar/ツ", "/foo/bar/%E3%83%84", False),
        ("Disallow: /foo/bar/%e3%83%84", "/foo/bar/%E3%83%84", False),
        ("Disallow: /foo/bar/%62%61%7A", "/foo/bar/baz", False),
        ("Disallow: /a%2Fb", "/a/b", True),
        ("Disallow: /a%2fb", "/a%2Fb/c", False),
        # 2.2.2: the most octets, of paths that are percent-encoded
        ("Allow: /éé\nDisallow: /*xyz", "/%C3%A9%C3%A9/xyz", True),
        ("Disallow: /é\nAllow: /%C3%A9", "/é", True),
        ("Allow: /%C3%A9\nDisallow: /é", "/é", True),
        ("Disallow: /é\nAllow: /????", "/é", False),
        ("Disallow: /\udce9", "/%E9", False),  # a byte that is no UTF-8 is that byte
        # 2.2.3: special characters
        ("Disallow: /path/file-with-a-%2A.html", "/path/file-with-a-*.html", False),
        ("Disallow: /path/foo-%24", "/path/foo-$", False),
        ("Disallow: /path/file-with-a-%2A.html", "/path/file-with-a-b.html", True),
        ("Disallow: /*.php", "/index.php5", False),
        ("Disallow: /*.php$", "/index.php5", True),
        ("Disallow: /*.php$", "/index.php?a.php", False),
        ("Disallow: /fish*", "/fishheads", False),
        ("Disallow: /fish*$", "/fishheads", False),
        ("Disallow: /a*b*c", "/a-c-b", True),
        ("Disallow: /a*b*c", "/abbbc", False),
        ("Disallow: /a*a$", "/a", True),
        ("Disallow: /a**a$", "/aa", False),
        ("Disallow: /a$b", "/a$b", False),
        # beside the standard
        ("Disallow: /x # a comment", "/x", False),
        ("dIsAlLoW :/x", "/x", False),
        ("Disallow:", "/x", True),
        ("Disallow: x", "/x", True),
        ("Sitemap: https://x/\nDisallow: /x", "/x", False),
        ("Noindex: /x\nnonsense\nDisallow /y", "/y", True),
    ],
)
def test_the_longest_rule_that_matches_decides(rules: str, path: str, verdict: bool) -> None:
    for end in ("\n", "\r\n", "\r"):
        assert allowed(f"\ufeffUser-agent: *\n{rules}".replace("\n", end), path) is verdict


def test_rules_under_one_name_count_together_wherever_they_stand() -> None:
    text = "user-agent: a\nuser-agent: fastmesh/2.0\ndisallow: /x\nuser-agent: b\ndisallow: /\n" * 2
    text += "user-agent: FASTMESH\nallow: /x/y\ncrawl-delay: 2.5\nuser-agent: *\ncrawl-delay: 9\ndisallow: /"
    assert [allowed(text, path) for path in ("/", "/x", "/x/y")] == [True, False, True]
    rules = whole(read(text))
    assert [rules.crawl_delay_s(token) for token in ("fastmesh", "a", "c")] == [2.5, None, 9]


def test_a_delay_is_for_the_names_before_it_and_ends_no_section() -> None:
    text = "user-agent: a\ncrawl-delay: 5\nuser-agent: b\ncrawl-delay: 7\ncrawl-delay: 9\nuser-agent: *\ndisallow: /x"
    rules = whole(read(text))
    assert [allowed(text, "/x", token) for token in ("a", "b", "c")] == [False] * 3
    assert [rules.crawl_delay_s(token) for token in ("a", "b", "c")] == [5, 7, None]


def test_a_name_without_rules_may_fetch_all() -> None:
    assert allowed("User-agent: fastmesh\nDisallow:\n\nUser-agent: *\nDisallow: /", "/x")


@pytest.mark.parametrize("value", ["-1", "1e3", "soon", "1,5", "", "9999999"])
def test_a_delay_that_is_none_is_none(value: str) -> None:
    assert whole(read(f"User-agent: *\nCrawl-delay: {value}")).crawl_delay_s("x") is None


@pytest.mark.parametrize(
    ("user_agent", "token"),
    [("fastmesh/1.0 (+https://example.org/)", "fastmesh"), ("Bot", "Bot"), ("My Bot/2", "My"), ("/", "/")],
)
def test_the_product_token_is_what_stands_before_the_version(user_agent: str, token: str) -> None:
    assert product_token(user_agent) == token


signs = st.text("/ab*$%", max_size=8)


@given(signs, signs)
def test_a_pattern_means_what_its_regular_expression_means(pattern: str, path: str) -> None:
    body, end = (pattern[:-1], "$") if pattern.endswith("$") else (pattern, "")
    expression = ".*".join(re.escape(canonical(part)) for part in body.split("*")) + end
    matches = bool(pattern) and re.match(expression, canonical(f"/{path}")) is not None
    assert allowed(f"user-agent: *\ndisallow: {pattern}", f"/{path}") is not matches


rule_lines = st.lists(st.tuples(st.booleans(), st.text("/ab*$", min_size=1, max_size=5)), max_size=12)


@given(rule_lines, st.text("/ab", max_size=6))
def test_of_all_rules_the_longest_decides_and_allow_wins_a_tie(lines: list[tuple[bool, str]], path: str) -> None:
    path = f"/{path}"
    text = "user-agent: *\n" + "".join(f"{'allow' if allow else 'disallow'}: {rule}\n" for allow, rule in lines)
    hits = [
        (len(rule), allow) for allow, rule in lines if not allowed(f"user-agent: *\ndisallow: {rule}", path)
    ]  # the one before says what a single rule means
    assert allowed(text, path) is (max(hits, default=(0, True))[1])


@given(st.text(max_size=300), st.text(max_size=50))
def test_any_text_is_read_and_any_path_judged(text: str, path: str) -> None:
    assert allowed(text, f"/{path}") in (True, False)
    assert canonical(canonical(path)) == canonical(path)


BIG = 500_000


def hostile() -> dict[str, str]:
    """Files that cost as much as may be."""
    path = "a" * 8000
    return {
        "rules": "user-agent: *\n" + "disallow:/*b\n" * (BIG // 13),
        "lengths": "user-agent: *\n" + "".join(f"disallow:/{'a' * (at % 900)}b\n" for at in range(1050)),
        "names": "".join(f"user-agent:a{at}\n" for at in range(14_000)) + "disallow:/b\n" * 20_000,
        "delays": "".join(f"user-agent:a{at}\n" for at in range(14_000)) + "crawl-delay:1\n" * 20_000,
        "sections": "user-agent:x\nallow:/b\n" * (BIG // 22),
        "wildcards": "user-agent: *\n" + f"disallow:{'*a' * 3000}*b\n" * 80,
        "one line": "user-agent: *\ndisallow:" + "*" * BIG,
        "no line": "x" * BIG,
        "beyond ascii": "user-agent: *\n" + f"disallow:/{'é' * 8000}\n" * (BIG // 8012),
        "no utf-8": "user-agent: *\n" + ("disallow:/" + "\udcff" * 2700 + "\n") * (BIG // 2712),
        "spellings": "user-agent: *\n" + f"disallow:/{'é%61' * 900}\n" * (BIG // 3612),
        "periods": "user-agent: *\n" + f"disallow:/*{'a' * 47}b{'a' * 47}\n" * (BIG // 800),
        "blanks": "user-agent: *" + " " * BIG,
        "a name": "user-agent: " + "é" * BIG,
        "path": path,
    }


HOSTILE = hostile()
PATH = HOSTILE.pop("path")


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_takes_no_more_memory_than_is_counted(kind: str) -> None:
    text = HOSTILE[kind][: BIG // 10]
    tracemalloc.start()
    try:
        known = Known(whole(read(text)), 0.0)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken <= known.bytes + 20_000
    assert known.bytes <= 30 * len(text)


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_bounded_work_in_bounded_steps(kind: str) -> None:
    text = HOSTILE[kind]
    steps: list[float] = []

    def timed(work: Generator[None, None, T]) -> T:
        while True:
            begun = time.thread_time()
            try:
                next(work)
            except StopIteration as end:
                value: T = end.value
                return value
            finally:
                steps.append(time.thread_time() - begun)

    gc.disable()  # what the other tests left is not this work
    try:
        rules: Rules = timed(read(text))
        for token in ("x", "a77"):
            assert timed(rules.judge(token, f"/{PATH}"))
    finally:
        gc.enable()
    assert rules.size <= BIG
    assert sum(steps) < 10  # quadratic work takes minutes
    assert max(steps) < 0.03  # of this thread's time, however busy the machine is
    print(f"\n{kind}: {sum(steps) * 1000:.0f} ms in {len(steps)} steps, the longest {max(steps) * 1000:.1f} ms")
