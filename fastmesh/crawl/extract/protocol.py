"""The bytes between the daemon and a worker.

A worker says READY, then answers each job before it reads the next:

    job     JOB: length of head, length of body · head (JobHead as JSON) · body
    answer  ANSWER: DONE or FAILED, length, the gate's decision and score · the document, or {"type", "message"}

The document is spliced into a frame unread, so the gate travels beside it: its place in DECISIONS, and its score in
thousandths.  A worker that takes no more jobs adds LAST to its answer.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

import orjson

from fastmesh.crawl.extract.gate import DECISIONS, NO_PAGE, Gate
from fastmesh.crawl.extract.spec import Extracted, ExtractSpec
from fastmesh.errors import DecodeFailed, ExtractFailed, UnsupportedContent, UrlError

JOB: Final = Struct("!II")
ANSWER: Final = Struct("!BIBH")
READY, DONE, FAILED = range(3)
LAST: Final = 0x80
SCORE_UNIT, NO_SCORE = 1000, 0xFFFF
MAX_ERROR_BYTES: Final = 65_536

ERRORS: Final[dict[str, type[UrlError]]] = {
    error.type: error for error in (UnsupportedContent, ExtractFailed, DecodeFailed)
}


class JobHead(NamedTuple):
    """What a worker is told of a page beside its body.  The page may take *limit_s*, even when nobody waits for it any
    more, and have a core for *core_s* of it."""

    url: str
    content_type: str | None
    spec: ExtractSpec
    limit_s: float
    core_s: float

    def written(self) -> bytes:
        """This as JSON, which has no lone surrogates."""
        return orjson.dumps(
            {
                "url": self.url.encode(errors="replace").decode(),
                "content_type": self.content_type and self.content_type.encode(errors="replace").decode(),
                "spec": [*self.spec],
                "limit_s": self.limit_s,
                "core_s": self.core_s,
            },
            default=sorted,
        )

    @classmethod
    def read(cls, head: bytes) -> JobHead:
        """What was written."""
        values = orjson.loads(head)
        return cls(**{**values, "spec": ExtractSpec.read(values["spec"])})


def ready() -> bytes:
    """What a worker says first."""
    return ANSWER.pack(READY, 0, 0, NO_SCORE)


def answer_head(status: int, size: int, gate: Gate = NO_PAGE) -> bytes:
    """What goes before an answer of *size* bytes."""
    score = NO_SCORE if gate.quality_score is None else round(gate.quality_score * SCORE_UNIT)
    return ANSWER.pack(status, size, DECISIONS.index(gate.decision), score)


def gate_of(decision: int, score: int) -> Gate:
    """What answer_head() wrote of the gate.  Raises ValueError for what it never writes."""
    if decision >= len(DECISIONS) or SCORE_UNIT < score < NO_SCORE:
        raise ValueError(f"no gate says {decision} and {score}")
    return Gate(DECISIONS[decision], None if score == NO_SCORE else score / SCORE_UNIT)


def failure(error: UrlError) -> bytes:
    """The answer of a page that failed with *error*."""
    return orjson.dumps({"type": error.type, "message": error.message})


def result(status: int, answer: bytes, gate: Gate) -> Extracted | UrlError:
    """What a worker's *answer* says.  Raises ValueError for what none writes."""
    if status == DONE:
        return Extracted(answer, gate)
    error = orjson.loads(answer)
    if status != FAILED or not isinstance(error, dict):
        raise ValueError(f"it answers with status {status}")
    type_, message = error.get("type"), error.get("message")
    if not (isinstance(type_, str) and isinstance(message, str)):
        raise ValueError("its error has no type or no message")
    return ERRORS.get(type_, ExtractFailed)(message)
