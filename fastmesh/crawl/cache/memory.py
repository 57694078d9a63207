"""Answers and documents in memory, within a bound in bytes.  A body and each document that was made of it are parts of
their own, and the longest unused leaves first: a document alone, a body with all that was made of it."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from fastmesh.crawl.cache.store import BODY, Answer
from fastmesh.crawl.extract.spec import Extracted, ExtractSpec

# An answer's record without its strings and parts, and one part's places in the tables (measured:
# tests/crawl/test_cache.py compares them with what is allocated).
RECORD_BYTES: Final = 1_500
PART_BYTES: Final = 300
# Of one key; the headers that choose them are a client's to invent.
MAX_VARIANTS: Final = 8


class MemoryStore:
    """The AnswerStore of a daemon: what it keeps is gone with the process."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self._by_key: dict[bytes, list[Answer]] = {}
        # The parts, longest unused first, with their bytes.
        self._parts: OrderedDict[tuple[Answer, ExtractSpec | None], int] = OrderedDict()
        # Each answer's key, and what its record takes.
        self._kept: dict[Answer, tuple[bytes, int]] = {}

    @property
    def answers(self) -> int:
        return len(self._kept)

    def find(self, key: bytes, headers: Mapping[str, str]) -> Answer | None:
        for answer in reversed(self._by_key.get(key, ())):
            if all(headers.get(name) == value for name, value in answer.chosen_by):
                return answer
        return None

    def keep(self, key: bytes, headers: Mapping[str, str], answer: Answer) -> bool:
        known = self.find(key, headers)
        if known is not None:
            self.forget(known)
        strings = (answer.location, answer.content_type, *answer.fields.values())
        cost = RECORD_BYTES + sum(sys.getsizeof(text) for text in strings if text)
        if cost + _allocated(answer.body) > self.max_bytes:
            return False
        variants = self._by_key.setdefault(key, [])
        variants.append(answer)
        self._kept[answer] = key, cost
        self.used_bytes += cost
        self._add(answer, BODY, _allocated(answer.body))
        if len(variants) > MAX_VARIANTS:
            self.forget(variants[0])
        return True

    def used(self, answer: Answer, part: ExtractSpec | None = BODY) -> None:
        if (answer, part) in self._parts:
            self._parts.move_to_end((answer, part))

    def add_document(self, answer: Answer, spec: ExtractSpec, document: Extracted) -> None:
        cost = _allocated(document.document)
        if answer in self._kept and spec not in answer.documents and cost <= self.max_bytes:
            answer.documents[spec] = document
            self._add(answer, spec, cost)

    def forget(self, answer: Answer) -> None:
        if answer not in self._kept:
            return
        key, cost = self._kept.pop(answer)
        self.used_bytes -= cost
        for part in (BODY, *answer.documents):
            self.used_bytes -= self._parts.pop((answer, part), 0)
        variants = self._by_key[key]
        variants.remove(answer)
        if not variants:
            del self._by_key[key]

    def _add(self, answer: Answer, part: ExtractSpec | None, cost: int) -> None:
        self._parts[answer, part] = cost
        self.used_bytes += cost
        while self.used_bytes > self.max_bytes:
            self._let_go(*next(iter(self._parts)))

    def _let_go(self, answer: Answer, part: ExtractSpec | None) -> None:
        if part is BODY:
            self.forget(answer)
            return
        self.used_bytes -= self._parts.pop((answer, part))
        del answer.documents[part]


def _allocated(content: bytes) -> int:
    """What keeping *content* takes."""
    return PART_BYTES + (sys.getsizeof(content) + 15) // 16 * 16
