"""Every pattern that reads what an origin sent takes steps in proportion to it, whatever it is."""

from __future__ import annotations

import gc
import importlib
import itertools
import pkgutil
import re
import time
from collections.abc import Iterator

import pytest

import fastmesh.crawl

# How each is asked, and pieces of what it reads: all that begins something to it, goes on with it or ends it.
ASKED: dict[str, tuple[str, tuple[str, ...]]] = {
    "sniff._TYPE": ("fullmatch", ("a", "text/", "-", "/")),
    "sniff._HTML": ("match", (" ", "<", "<?xml", "<?xml>", ">", "<!--", "<!doctype", "html", "<h1", "a")),
    "sniff._FEED": ("match", (" ", "<?xml", "<?x?>", ">", "<!--", "-->", "<!--x-->", "-", "<rss", "<", "<rss>")),
    "sniff._BINARY": ("search", ("a", "\t", "\x00")),
    "charset._LABEL": ("fullmatch", ("a", "-", " ")),
    "charset._CHARSET": ("search", ("charset", "=", " ", '"', "'", "a", ";", "charset=")),
    "charset._XML_ENCODING": ("match", (" ", "<?xml ", "encoding", "=", "'", '"', "a", ">", "encoding='")),
    "document._CJK": ("findall", ("a", "\u65e5", " ")),
    "main_content.NAMES": ("search", ("-", "_", "a", "advert", "more-", "social-", "teaser__")),
    "origins._UNDECODED": ("findall", ("a", "\udc80")),
    "repeats._ORIGIN": ("match", ("http", "://", "/", "a", "?")),
    "backlog._PORT": ("search", (":", "1", "a", ":1")),
    "cookies._SENDABLE": ("fullmatch", ("a", "=", "\t", "\x7f")),
    "cookies._MAX_AGE": ("fullmatch", ("-", "0", "1", "a")),
    "cookies._DATE_TOKENS": ("findall", ("a", "1", ":", " ", ",")),
    "cookies._TIME": ("match", ("1", "08:", "49:", "37", "a")),
    "cookies._DAY": ("match", ("1", "a")),
    "cookies._YEAR": ("match", ("1", "a")),
    "decode._NO_CODING": ("fullmatch", ("identity", "utf-", "iso", "windows", "-", "_", "8", "a")),
    "freshness._IMF": ("match", ("Sun, ", "06 Nov ", "1994 ", "08:49:37 ", "GMT", "1", " ")),
    "freshness._RFC850": ("match", ("Sunday, ", "06-Nov-", "94 ", "08:49:37 ", "GMT", "1", " ")),
    "freshness._ASCTIME": ("match", ("Sun ", "Nov ", " 6 ", "08:49:37 ", "1994", "1", " ")),
    "freshness._END": ("match", (" ", "\t", ",", "a")),
    "retries._SECONDS": ("fullmatch", ("1", "a")),
    "freshness._DIRECTIVE": ("findall", ("a", "=", '"', "\\", ",", " ", '="', '\\"', "a=")),
    "freshness._SECONDS": ("fullmatch", ("1", "a")),
    "freshness._ENTITY_TAG": ("fullmatch", ("W/", '"', "a", "\\")),
}
# What these read has limits of its own, and tests of its own.
OTHERS = {"connection", "head", "request_headers", "rules", "url"}
SIZE = 10_000
# The slowest takes 1.2 µs a byte, quadratic work at this size over 15.
BYTE_S, FREE_S = 5e-6, 0.005


def patterns() -> dict[str, re.Pattern[str] | re.Pattern[bytes]]:
    found = {}
    for module in pkgutil.walk_packages(fastmesh.crawl.__path__, "fastmesh.crawl."):
        file = module.name.rpartition(".")[2]
        if file not in OTHERS:
            for name, value in vars(importlib.import_module(module.name)).items():
                if isinstance(value, re.Pattern):
                    found[f"{file}.{name}"] = value
    return found


def hostile(pieces: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    """A beginning, what comes again and again, and an end."""
    units = [*pieces, *map("".join, itertools.permutations(pieces, 2))]
    for unit in units:
        for begin, end in itertools.product(("", *pieces), ("", "!", pieces[0])):
            yield begin, unit, end


def test_no_pattern_is_left_out() -> None:
    assert set(patterns()) == set(ASKED)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """A collection in the middle is no step of the pattern's."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("name", ASKED)
def test_a_pattern_takes_steps_in_proportion_to_what_it_reads(name: str) -> None:
    pattern, (asked, pieces) = patterns()[name], ASKED[name]
    ask = getattr(pattern, asked)
    for begin, unit, end in hostile(pieces):
        # Small steps first: what is exponential is found before it takes for ever.
        size = 32
        while size <= SIZE:
            text = begin + unit * (size // len(unit)) + end
            read = text.encode("utf-8", "surrogateescape") if isinstance(pattern.pattern, bytes) else text
            begun = time.thread_time()
            ask(read)
            took_s = time.thread_time() - begun
            assert took_s < FREE_S + BYTE_S * len(text), f"{begin!r} {unit!r} × {size} {end!r} took {took_s:g} s"
            size = size * 5 // 4 if 100 < size < 400 else size * 5
