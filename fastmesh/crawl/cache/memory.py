"""Answers and documents in memory, within a bound in bytes.

An answer is kept by its key and by the headers that it was chosen by (Vary).  Its body and each
document that was made of it are parts of their own, and the longest unused leaves first: a document
alone, a body with all that was made of it.  Who holds an answer that has left has it whole.
Nothing here knows HTTP beyond what freshness.py says, starts a task or reads a clock but the one it is given.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Final

from fastmesh.crawl.cache.freshness import Fields, Shelf, conditions, vary

# An answer's record without its strings and parts, and one part's places in the tables (measured:
# tests/crawl/test_cache.py compares them with what is allocated).
RECORD_BYTES: Final = 1_500
PART_BYTES: Final = 300
# Of one key; the headers that choose them are a client's to invent.
MAX_VARIANTS: Final = 8

BODY: Final = None


@dataclass(slots=True, eq=False)
class Answer:
    """What an origin answered to one request.

    It was *asked* for and *came* at these times in seconds since the epoch, *kept_at_s* is by the
    cache's clock; all move when the origin confirms it.  Without a *shelf* it may not be kept, and with
    *set_cookies*, which a redirect has, neither kept nor shared: they are for who asked.
    """

    status: int
    location: str | None
    content_type: str | None
    fields: Fields
    body: bytes
    received_bytes: int
    came_at_s: float
    kept_at_s: float
    shelf: Shelf | None
    asked_at_s: float = 0.0
    retry_after_s: float | None = None
    set_cookies: tuple[str, ...] = ()
    chosen_by: tuple[tuple[str, str | None], ...] = ()
    documents: dict[Hashable, object] = field(default_factory=dict)

    def age_s(self, now_s: float) -> float:
        """How old it is when the cache's clock says *now_s* (RFC 9111, 4.2.3)."""
        return now_s - self.kept_at_s + (self.shelf.age_s if self.shelf is not None else 0.0)

    def is_fresh(self, now_s: float, max_age_s: float | None = None) -> bool:
        """Whether it may be served unasked, to one who takes nothing as old as *max_age_s*."""
        if self.shelf is None:
            return False
        age_s = self.age_s(now_s)
        return age_s < self.shelf.fresh_s and (max_age_s is None or age_s < max_age_s)

    def conditions(self) -> dict[str, str]:
        """The headers that ask the origin whether it still holds."""
        return conditions(self.fields)


class ResponseCache:
    """At most *max_bytes* of answers and documents; *clock* tells seconds that never go back."""

    def __init__(self, max_bytes: int, clock: Callable[[], float]) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self.now = clock
        self._by_key: dict[bytes, list[Answer]] = {}
        # The parts, longest unused first, with their bytes.
        self._parts: OrderedDict[tuple[Answer, Hashable], int] = OrderedDict()
        # Each answer's key, and what its record takes.
        self._kept: dict[Answer, tuple[bytes, int]] = {}

    @property
    def answers(self) -> int:
        """How many are kept."""
        return len(self._kept)

    @property
    def parts(self) -> int:
        """Bodies and documents."""
        return len(self._parts)

    def find(self, key: bytes, headers: Mapping[str, str]) -> Answer | None:
        """The answer to a request with *headers* (names in lower case), the newest that fits; it may be stale."""
        for answer in reversed(self._by_key.get(key, ())):
            if all(headers.get(name) == value for name, value in answer.chosen_by):
                return answer
        return None

    def keep(self, key: bytes, headers: Mapping[str, str], answer: Answer) -> bool:
        """Keep *answer* to a request with *headers* instead of what was kept; False when it may not be or is too large.

        Either way what it replaces is gone: the origin says something else now.
        """
        known = self.find(key, headers)
        if known is not None:
            self.forget(known)
        if answer.shelf is None:
            return False
        answer.chosen_by = tuple((name, headers.get(name)) for name in vary(answer.fields))
        strings = (answer.location, answer.content_type, *answer.fields.values())
        cost = RECORD_BYTES + sum(sys.getsizeof(text) for text in strings if text)
        if not self._fits(cost + _allocated(answer.body)):
            return False
        variants = self._by_key.setdefault(key, [])
        variants.append(answer)
        self._kept[answer] = key, cost
        self.bytes += cost
        self._add(answer, BODY, _allocated(answer.body))
        if len(variants) > MAX_VARIANTS:
            self.forget(variants[0])
        return True

    def used(self, answer: Answer, part: Hashable = BODY) -> None:
        """A *part* of *answer* was asked for: it leaves later than what is not."""
        if (answer, part) in self._parts:
            self._parts.move_to_end((answer, part))

    def add_document(self, answer: Answer, part: Hashable, document: object, content: bytes) -> None:
        """Keep the *document* that was made of *answer*, if that itself is kept; *content* is what it takes."""
        cost = _allocated(content)
        if answer in self._kept and part not in answer.documents and self._fits(cost):
            answer.documents[part] = document
            self._add(answer, part, cost)

    def forget(self, answer: Answer) -> None:
        """Keep nothing of *answer*; who holds it keeps it whole."""
        if answer not in self._kept:
            return
        key, cost = self._kept.pop(answer)
        self.bytes -= cost
        for part in (BODY, *answer.documents):
            self.bytes -= self._parts.pop((answer, part), 0)
        variants = self._by_key[key]
        variants.remove(answer)
        if not variants:
            del self._by_key[key]

    def _fits(self, cost: int) -> bool:
        return cost <= self.max_bytes

    def _add(self, answer: Answer, part: Hashable, cost: int) -> None:
        self._parts[answer, part] = cost
        self.bytes += cost
        while self.bytes > self.max_bytes:
            self._let_go(*next(iter(self._parts)))

    def _let_go(self, answer: Answer, part: Hashable) -> None:
        if part is BODY:
            self.forget(answer)
            return
        self.bytes -= self._parts.pop((answer, part))
        del answer.documents[part]


def _allocated(content: bytes) -> int:
    """What keeping *content* takes."""
    return PART_BYTES + (sys.getsizeof(content) + 15) // 16 * 16
