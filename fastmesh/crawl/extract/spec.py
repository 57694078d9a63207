"""What a document is to hold, from the request that asks for it to the worker that makes it; and what a worker made.

An option of extraction is a field here, one of the same name in the API's schema, and what the worker does with it
(extract.py).  All between them hand the value on, and the cache keeps a document by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

import orjson

from fastmesh.crawl.extract.gate import Gate

Grade = Literal["fast", "quality"]
Part = Literal["text", "markdown", "links", "metadata", "html"]
DEFAULT_PARTS: Final[frozenset[Part]] = frozenset({"text", "markdown", "links", "metadata"})

FRAME_BYTES: Final = 1024  # a result's frame without its document, its id, its URLs and its content type
# Room for these, however long they are: so one document serves all URLs and ids that it is asked for by.
NAMES_BYTES, NAMES_SHARE = 2048, 8


class ExtractSpec(NamedTuple):
    """The parts *include* of a page, its main content read by *extractor*, shortened to *max_bytes* of JSON."""

    max_bytes: int
    include: frozenset[Part] = DEFAULT_PARTS
    extractor: Grade = "fast"

    @classmethod
    def asked(cls, options: object, max_bytes: int) -> ExtractSpec:
        """What *options*, the request's, say under the names of the fields, in *max_bytes*."""
        return cls(max_bytes, *(getattr(options, name) for name in cls._fields[1:]))

    @classmethod
    def read(cls, values: Sequence[Any]) -> ExtractSpec:
        """The spec whose fields were written as JSON, in their order and sets as lists."""
        max_bytes, include, *others = values
        return cls(max_bytes, frozenset(include), *others)

    def within(self, max_bytes: int) -> ExtractSpec:
        """This in *max_bytes*."""
        return self if max_bytes == self.max_bytes else self._replace(max_bytes=max_bytes)


def document_room(max_frame_bytes: int, *names: str | None) -> int:
    """The bytes that a document may have in a frame of *max_frame_bytes* with *names*, its id, URLs and content type.
    They are as many for all names but the longest."""
    named = len(orjson.dumps(names))
    return max_frame_bytes - FRAME_BYTES - max(named, min(NAMES_BYTES, max_frame_bytes // NAMES_SHARE))


class Extracted(NamedTuple):
    """The *document*, as JSON on one line, and what the gate says of the page."""

    document: bytes
    gate: Gate
