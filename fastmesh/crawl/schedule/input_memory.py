"""What a stream's URLs take in memory while it is open: a request may bring a megabyte of them, and many may be open.

Measured (tests/crawl/test_input_memory.py compares it with what is allocated); what one URL takes while it is
fetched is not part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from sys import getsizeof
from typing import Final

from fastmesh.crawl.options import InputUrl

# Of one URL without its text; of one host, with its queue and its name; of options, with their headers' table.
URL_BYTES: Final = 136
HOST_BYTES: Final = 700
OPTIONS_BYTES: Final = 400


def input_memory(targets: Sequence[InputUrl], hosts: int) -> int:
    """The bytes of *targets*, which are at so many *hosts*, in a backlog."""
    size = URL_BYTES * len(targets) + HOST_BYTES * hosts
    different = {}
    for target in targets:
        size += getsizeof(target.url)
        if target.id is not None:
            size += getsizeof(target.id)
        different[id(target.options)] = target.options
    for options in different.values():
        size += OPTIONS_BYTES + sum(getsizeof(name) + getsizeof(value) for name, value in options.headers.items())
    return size
