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
OPTIONS_BYTES: Final = 500


def input_memory(inputs: Sequence[InputUrl], hosts: int, counted: set[int]) -> int:
    """The bytes of *inputs*, which are at so many further *hosts*, in a backlog.  Options are counted once: *counted*
    holds the ids of those that were, and gets those of the others."""
    size = URL_BYTES * len(inputs) + HOST_BYTES * hosts
    for input in inputs:
        size += getsizeof(input.url)
        if input.id is not None:
            size += getsizeof(input.id)
        options = input.options
        if id(options) not in counted:
            counted.add(id(options))
            headers = options.headers
            size += OPTIONS_BYTES + sum(getsizeof(name) + getsizeof(value) for name, value in headers.items())
    return size
