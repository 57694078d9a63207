"""Answers, and what a store of them promises: memory.py is one; a disk would be another beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from fastmesh.crawl.cache.freshness import Fields, Lifetime
from fastmesh.crawl.extract.spec import Extracted, ExtractSpec

BODY: Final = None  # the part of an answer that is no document


@dataclass(slots=True, eq=False)
class Answer:
    """One answer, of a request that was sent at *asked_at_s*; it *came_at_s*, both in seconds since the epoch.

    Times, *fields* and *lifetime* are those of the last answer that confirmed it.  Its age counts from *kept_at_s* by
    this process's clock; without a *lifetime* it may not be kept.  *chosen_by* are the request's headers that Vary
    names, with their values.  *set_cookies*, which a redirect has, are for the request alone that it answers.
    """

    status: int
    location: str | None
    content_type: str | None
    fields: Fields
    body: bytes
    received_bytes: int
    came_at_s: float
    kept_at_s: float = 0.0
    lifetime: Lifetime | None = None
    asked_at_s: float = 0.0
    retry_after_s: float | None = None
    set_cookies: tuple[str, ...] = ()
    chosen_by: tuple[tuple[str, str | None], ...] = ()
    documents: dict[ExtractSpec, Extracted] = field(default_factory=dict)


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
