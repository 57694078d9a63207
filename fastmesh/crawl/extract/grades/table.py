"""Which grades of extraction there are: a request names one (Grade in spec.py), and a worker has this table.

A grade's library is loaded when its first page comes.  Only a program of its own, a test's worker, has another table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from fastmesh.crawl.extract.grades.face import Extractor

Load = Callable[[], Extractor]


def _fast() -> Extractor:
    from fastmesh.crawl.extract.grades.fast import read_main

    return read_main


def _quality() -> Extractor:
    from fastmesh.crawl.extract.grades.quality import read_main

    return read_main


EXTRACTORS: Final[Mapping[str, Load]] = {"fast": _fast, "quality": _quality}
