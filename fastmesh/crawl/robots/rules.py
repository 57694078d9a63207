"""What a robots.txt allows (RFC 9309, 2.2), read and judged in steps.

A hostile one of 500 KiB has 50,000 rules, or a thousand names over a thousand rules, or nothing but wildcards.  So
rules are kept once for all names that they stand under, and reading and judging are generators: whoever drives them
gives the loop its turn at each step.  No pattern is made a regular expression: wildcards are found from left to right,
once, and nothing is ever tried twice.  A step is counted by what it may take at worst.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Generator
from typing import Final, NamedTuple

from fastmesh.crawl.net.url import MAX_URL_CHARS

CHARS_A_STEP: Final = 4_096
RULES_A_STEP: Final = 1_000
# So many characters of a path may be looked through for a rule's wildcards in the time that a rule without any takes.
# A part of under 100 characters may take its length times the path's, see CPython's fastsearch.h; longer ones do not.
CHARS_A_RULE: Final = 8
MAX_LINE_CHARS: Final = 2 * MAX_URL_CHARS  # what is beyond does not count

# Line by line; keys without regard to case, comments cut off.
_LINE: Final = re.compile(r"[^\r\n]+")
_FIELD: Final = re.compile(r"[ \t]*([A-Za-z-]+)[ \t]*:[ \t]*([^#]*)")
# A product token ends where a version or a comment begins.
_TOKEN: Final = re.compile(r"[^\s/;,()]+")
_DELAY: Final = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,3})?")

_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})|[^!-~]+|[*$]")
_BEYOND_ASCII: Final = re.compile(r"[^!-~]+")
_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
# What each octet is written as, by its two digits.
_OCTETS: Final = {f"{octet:02X}": chr(octet) if octet in _UNRESERVED else f"%{octet:02X}" for octet in range(256)}


class Rule(NamedTuple):
    """One ``allow`` or ``disallow``, of so many *octets*.

    *head* is what the path begins with, *parts* what it has then, in this order, between asterisks: a tuple of them
    would take more memory than what was sent.  When it is *anchored* the path ends with the last of them.
    """

    octets: int
    allow: bool
    head: str
    parts: str
    anchored: bool

    def matches(self, path: str) -> bool:
        """Whether the canonical *path* is one of these."""
        if not path.startswith(self.head):
            return False
        if not self.parts:
            return not self.anchored or len(path) == len(self.head)
        at = len(self.head)
        parts = self.parts.split("*")
        last = parts.pop() if self.anchored else ""
        for part in parts:
            at = path.find(part, at)
            if at < 0:
                return False
            at += len(part)
        return path.endswith(last) and len(path) - len(last) >= at


Section = list[Rule]  # the rules under some names: the longest first, and of equals what allows


class Rules:
    """One robots.txt.  A name may have several sections and one delay, and a section several names."""

    __slots__ = ("_by_name", "_delays", "chars", "size")

    def __init__(
        self, by_name: dict[str, list[Section]], delays: dict[str, float] | None = None, size: int = 0, chars: int = 0
    ) -> None:
        self._by_name = by_name
        self._delays = delays or {}
        self.size = size  # its names and its rules
        self.chars = chars  # what they consist of

    def crawl_delay_s(self, token: str) -> float | None:
        """The delay that is asked of *token*."""
        return self._delays.get(self._name(token))

    def judge(self, token: str, path: str) -> Generator[None, None, bool]:
        """Whether *token* may fetch *path*: the longest rule that matches decides, else yes."""
        path = canonical(path)
        best, looked_at = (-1, True), 0
        for section in self._by_name.get(self._name(token), ()):
            looked_at += 1
            for rule in section:
                looked_at += 1 + (len(path) // CHARS_A_RULE if rule.parts else 0)
                if looked_at >= RULES_A_STEP:
                    looked_at = 0
                    yield
                if rule[:2] <= best:
                    break
                if rule.matches(path):
                    best = rule[:2]
                    break
        return best[1] or path == "/robots.txt"

    def _name(self, token: str) -> str:
        """What applies to *token*: what stands under its name, else under ``*``."""
        name = token.lower()
        return name if name in self._by_name else "*"


ALLOW_ALL: Final = Rules({})
DISALLOW_ALL: Final = Rules({"*": [[Rule(1, False, "/", "", False)]]})


class _Gathered:
    """A section while it is read: its rules by length and kind, since sorting many at once would take too long."""

    def __init__(self) -> None:
        self.section: Section = []
        self.rules: defaultdict[tuple[int, bool], list[Rule]] = defaultdict(list)

    def finish(self) -> None:
        for rank in sorted(self.rules, reverse=True):
            self.section += self.rules[rank]


def product_token(user_agent: str) -> str:
    """The name that a robots.txt calls *user_agent* by: ``fastmesh`` of ``fastmesh/1.0 (+…)``."""
    found = _TOKEN.search(user_agent)
    return found[0] if found else user_agent


def canonical(path: str) -> str:
    """*path* with one spelling for every character: bytes beyond ASCII, and what is a sign in rules, as ``%XX``."""
    return _ESCAPE.sub(_canonical, path)


def read(text: str) -> Generator[None, None, Rules]:
    """Read *text* step by step; the generator's value are its rules."""
    by_name: defaultdict[str, list[Section]] = defaultdict(list)
    gathered, naming, size, chars = _Gathered(), False, 0, 0
    delays: dict[str, float] = {}
    undelayed: list[str] = []  # names of this section that no delay came for yet
    step_at = CHARS_A_STEP
    text = text.removeprefix("\ufeff")
    for line in _LINE.finditer(text):
        if line.start() >= step_at:
            step_at = line.start() + CHARS_A_STEP
            yield
        field = _FIELD.match(text, line.start(), min(line.end(), line.start() + MAX_LINE_CHARS))
        if field is None:
            continue
        key, value = field[1].lower(), field[2].strip()
        if key == "user-agent":
            if not naming:  # a name after a rule begins another section
                gathered.finish()
                gathered, naming, undelayed = _Gathered(), True, []
            name = product_token(value).lower()
            by_name[name].append(gathered.section)
            undelayed.append(name)
            size += 1
            chars += 4 * len(name)
        elif key in ("allow", "disallow"):
            naming = False
            rule = _rule(key == "allow", value)
            if rule is not None:
                gathered.rules[rule[:2]].append(rule)
                size += 1
                chars += rule.octets
        elif key == "crawl-delay" and _DELAY.fullmatch(value):
            # Not of the standard, so names behind it are still of this section (2.2.4); but it is for those before it.
            for name in undelayed:
                delays.setdefault(name, float(value))
            undelayed = []
    gathered.finish()
    return Rules(dict(by_name), delays, size, chars)


def _rule(allow: bool, pattern: str) -> Rule | None:
    """What *pattern* says; None when that is nothing, or longer than any path."""
    if len(pattern) <= MAX_URL_CHARS:
        pattern = _BEYOND_ASCII.sub(_escaped, pattern)  # "prior to comparison": its octets are those of this form
    if not 0 < len(pattern) <= MAX_URL_CHARS:
        return None
    head, *parts = [canonical(part) for part in pattern.removesuffix("$").split("*")]
    # The last part is empty after a final wildcard, and then it anchors nothing.
    anchored = pattern.endswith("$") and (not parts or parts[-1] != "")
    return Rule(len(pattern), allow, head, "*".join(filter(None, parts)), anchored)


def _escaped(found: re.Match[str]) -> str:
    """Bytes that were no UTF-8 are what they were."""
    return "%" + found[0].encode("utf-8", "surrogateescape").hex("%").upper()


def _canonical(found: re.Match[str]) -> str:
    if found[1] is None:
        return _escaped(found)
    return _OCTETS[found[1].upper()]
