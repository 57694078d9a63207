"""An extraction worker with extractors that misbehave, one for each way: a program of the tests alone."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    # Started by its path: the folder beside it is first in the path, and the product must be this checkout's.
    sys.path.insert(0, str(Path(__file__).parents[2]))

from fastmesh.crawl.extract.grades import EXTRACTORS, Extractor
from fastmesh.crawl.extract.main_content import MainContent
from fastmesh.crawl.extract.page import Page
from fastmesh.crawl.extract.worker import MAX_MEMORY_BYTES, main

MAX_RESIDENT_BYTES = 192 << 20

_kept: list[mmap.mmap] = []


def segfault() -> None:
    """As a parser's bug in C would."""
    ctypes.string_at(0)


def out_of_memory() -> None:
    """More address space than there may be."""
    bytearray(MAX_MEMORY_BYTES)


def out_of_memory_in_c() -> None:
    """The same where nobody checks: what malloc() gave is written to."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    while True:
        ctypes.memset(libc.malloc(ctypes.c_size_t(1 << 30)), 1, 1)


def spin() -> None:
    """For ever, and not to be interrupted by an exception of Python's."""
    while True:
        try:
            while True:
                pass
        except BaseException:  # noqa: BLE001 - that is the point
            pass


def leave() -> None:
    """Without a word."""
    os._exit(0)


def stop() -> None:
    """Neither dead nor alive."""
    os.kill(os.getpid(), signal.SIGSTOP)


def babble() -> None:
    """Into the socket, before the answer."""
    os.write(int(sys.argv[-1]), b"\xff" * 64)


def recurse() -> None:
    """Until Python's limit."""
    recurse()


def bloat() -> None:
    """Leave memory behind, touched."""
    block = mmap.mmap(-1, MAX_RESIDENT_BYTES)
    block.write(bytes([1]) * MAX_RESIDENT_BYTES)
    _kept.append(block)


MISDEEDS: dict[str, Callable[[], None]] = {
    deed.__name__: deed
    for deed in (segfault, out_of_memory, out_of_memory_in_c, spin, leave, stop, babble, recurse, bloat)
}


def _after(deed: Callable[[], None]) -> Callable[[], Extractor]:
    def read_main(page: Page, *, markdown: bool) -> MainContent:
        deed()
        return MainContent("done", "done" if markdown else None)

    return lambda: read_main


if __name__ == "__main__":
    main({**EXTRACTORS, **{name: _after(deed) for name, deed in MISDEEDS.items()}}, MAX_RESIDENT_BYTES)
