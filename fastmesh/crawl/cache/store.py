"""The face of what keeps answers, and what a store promises: memory.py is one; a disk would be another beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from fastmesh.crawl.cache.answer import Answer
from fastmesh.crawl.extract.extracted import Extracted
from fastmesh.crawl.extract.spec import ExtractSpec

BODY: Final = None  # the part of an answer that is no document


class AnswerStore(Protocol):
    """At most *max_bytes* of answers, and of documents that were made of them.

    A store decides for how long it has room, and nothing else: policy.py says what may be kept and served.  Every
    method answers at once.  What is found is the one object that was kept: a change of it holds for all that find it.
    A document may leave without its answer, never the other way round, and one who holds an answer that has left has
    it whole.  A document of an answer that is not kept is not kept.
    """

    max_bytes: int
    used_bytes: int

    @property
    def answers(self) -> int:
        """How many are kept."""

    def find(self, key: bytes, headers: Mapping[str, str]) -> Answer | None:
        """The newest answer to requests of *key* that *headers* (names in lower case) choose; it may be stale."""

    def keep(self, key: bytes, headers: Mapping[str, str], answer: Answer) -> bool:
        """Keep *answer* instead of the one that is found for *key* and *headers*; False when it is too large."""

    def used(self, answer: Answer, part: ExtractSpec | None = BODY) -> None:
        """*part* of *answer* was served, or confirmed: it leaves later than what was not."""

    def add_document(self, answer: Answer, spec: ExtractSpec, document: Extracted) -> None:
        """Keep the *document* that was made of *answer* for *spec*, unless it is too large."""

    def forget(self, answer: Answer) -> None:
        """Keep nothing of *answer*."""
