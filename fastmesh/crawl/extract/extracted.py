"""What a worker makes of a page."""

from __future__ import annotations

from typing import NamedTuple

from fastmesh.crawl.extract.gate import Gate


class Extracted(NamedTuple):
    """The *document*, as JSON on one line, and what the gate says of the page."""

    document: bytes
    gate: Gate
