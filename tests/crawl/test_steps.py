"""What a page may cost: for four times the page, about four times the work, however hostile it is."""

from __future__ import annotations

import pytest
from budgets import MOST, growth

from fastmesh.crawl.extract import extract
from fastmesh.crawl.sniff import kind_of

ALL = frozenset({"text", "markdown", "links", "metadata", "html"})


@pytest.mark.parametrize(("root", "kind"), [(b"<rss version='2.0'>", "feed"), (b"<project/>", "text")])
@pytest.mark.parametrize("before", [b"<!--x-->", b"<!-- x -->\n", b"<?x?>", b"<?x <!-- ?> <!-- ?> -->"])
def test_what_stands_before_a_root_is_read_once(before: bytes, root: bytes, kind: str) -> None:
    for times in (1, 24, 26, 50):  # 26 took over a minute
        body = b"<?xml version='1.0'?>\n" + before * times + root
        assert kind_of(body, "application/xml") == kind


@pytest.mark.parametrize("unit", ["\\", "\\u", "\x1f", "\x1f\\", '"'])
@pytest.mark.parametrize("rest", [0, 20_000])
def test_a_text_of_escapes_is_shortened_in_one_reading(unit: str, rest: int) -> None:
    """With other text behind them, 10,000 backslashes took 18 s."""

    def text(size: int) -> bytes:
        return (unit * (size // len(unit)) + "x" * 2 * min(size, rest)).encode()

    def shortened(body: bytes) -> None:
        extract(body, url="", content_type="text/plain", include=frozenset({"text"}), max_bytes=len(body))

    assert growth(shortened, text, 5_000) < MOST
