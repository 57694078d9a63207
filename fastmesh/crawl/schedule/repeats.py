"""Which URLs of an input stand in it again: each is the repeat of the first one, until that one has ended.  When the
first one has ended its result has gone out, and what is added after that is a first one itself."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from typing import Final

from fastmesh.crawl.options import InputUrl

# Scheme and authority: what decides the host, however it is spelled.
_ORIGIN: Final = re.compile(r"https?://[^/?#]*", re.IGNORECASE)

Repeat = tuple[int, str, str | None]  # index, URL and id


class Repeats:
    """One input's."""

    def __init__(self) -> None:
        self._firsts: dict[Hashable, int] = {}  # until the input ends
        self._by_first: dict[int, list[Repeat]] = {}
        self._ended = False

    def take(self, index: int, input: InputUrl, origin: str) -> bool:
        """Whether *input*, which stands at *index* and begins with *origin*, is a repeat."""
        first = self._firsts.setdefault(_sameness(input, origin), index)
        if first == index:
            return False
        self._by_first.setdefault(first, []).append((index, input.url, input.id))
        return True

    def started(self, index: int) -> Sequence[Repeat]:
        """The repeats of the URL at *index*, which is started; there may be more until it ends."""
        if self._ended:
            return self._by_first.pop(index, ())
        return self._by_first.setdefault(index, [])

    def ended(self, index: int, input: InputUrl) -> None:
        """*input*, which stands at *index*, has ended."""
        self._by_first.pop(index, None)
        if not self._ended:
            del self._firsts[_sameness(input, origin_of(input.url))]

    def end(self) -> None:
        """The input has ended."""
        self._ended = True
        self._firsts.clear()


def origin_of(url: str) -> str:
    """Scheme and authority of *url* as they are written; empty when it has none that could be fetched from."""
    found = _ORIGIN.match(url)
    return found[0] if found else ""


def _sameness(input: InputUrl, origin: str) -> Hashable:
    """Equal for URLs that are fetched as one."""
    return origin.lower(), input.url[len(origin) :] or "/", id(input.options)
