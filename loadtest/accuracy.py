"""How well main text is found: ``python -m loadtest.accuracy FOLDER``.

FOLDER is the ``tests`` folder of trafilatura's repository: ``evaldata.json`` names
pages in ``cache/`` and ``eval/``, and for each a few pieces of text that belong
to it and a few that do not.  Scored as trafilatura's own ``evaluate.py`` scores:
a piece counts when the text has it, white space aside; all pieces of all pages
go into one precision, recall and F1; a page that fails has found nothing.

The thresholds of the fast grade were chosen on every second page, so both halves
are printed.  The exit status is 1 when a grade is below its goal.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from fastmesh.crawl.extract.charset import decode
from fastmesh.crawl.extract.extract import extract
from fastmesh.crawl.extract.grades import EXTRACTORS
from fastmesh.crawl.extract.spec import ExtractSpec

GOALS: Final = {"fast": 0.83, "quality": 0.92}
FOLDERS: Final = ("cache", "eval")  # trafilatura looks in this order
PARTS: Final = frozenset({"text", "markdown", "links", "metadata"})

Read = Callable[[bytes, str], str]


@dataclass(frozen=True, slots=True)
class Page:
    """One page, and what belongs to it."""

    url: str
    body: bytes
    belongs: tuple[str, ...]
    does_not: tuple[str, ...]


@dataclass(slots=True)
class Score:
    """Counts over pages."""

    hits: int = 0
    intruders: int = 0
    missed: int = 0
    failures: int = 0
    pages: int = 0
    cpu_s: float = 0.0
    worst_s: float = 0.0

    def add(self, page: Page, text: str) -> None:
        """Count *page*, of which *text* was found."""
        found = collapsed(text)
        hits = sum(piece in found for piece in page.belongs)
        self.hits += hits
        self.missed += len(page.belongs) - hits
        self.intruders += sum(piece in found for piece in page.does_not)
        self.pages += 1

    @property
    def precision(self) -> float:
        return self.hits / max(1, self.hits + self.intruders)

    @property
    def recall(self) -> float:
        return self.hits / max(1, self.hits + self.missed)

    @property
    def f1(self) -> float:
        return 2 * self.hits / max(1, 2 * self.hits + self.intruders + self.missed)


def collapsed(text: str) -> str:
    """*text* with all white space alike."""
    return re.sub(r"\s+", " ", text).strip()


def load(folder: Path) -> list[Page]:
    """The pages in *folder*.  Raises OSError where one is not there."""
    said: dict[str, Any] = orjson.loads((folder / "evaldata.json").read_bytes())
    return [
        Page(url, _body(folder, item["file"]), *(tuple(map(collapsed, item[key])) for key in ("with", "without")))
        for url, item in said.items()
    ]


def _body(folder: Path, name: str) -> bytes:
    paths = [folder / sub / name for sub in FOLDERS]
    return next((path for path in paths if path.is_file()), paths[-1]).read_bytes()


def score(read: Read, pages: list[Page]) -> Score:
    """What *read* finds in *pages*."""
    total = Score()
    for page in pages:
        begun = time.process_time()
        try:
            text = read(page.body, page.url)
        except Exception:  # noqa: BLE001 - a page that fails has found nothing, whatever it raised
            text = ""
            total.failures += 1
        took_s = time.process_time() - begun
        total.cpu_s += took_s
        total.worst_s = max(total.worst_s, took_s)
        total.add(page, text)
    return total


def _grade(name: str) -> Read:
    """A whole extraction, all parts of the document, as a worker makes it."""

    def read(body: bytes, url: str) -> str:
        made = extract(body, ExtractSpec(1 << 28, PARTS, name), url=url, content_type="text/html")
        return str(orjson.loads(made.document)["text"])

    return read


def _resiliparse() -> Read:
    from resiliparse.extract.html2text import extract_plain_text  # type: ignore[import-not-found]

    return lambda body, _: str(extract_plain_text(decode(body, None), main_content=True))


def _turbohtml() -> Read:
    from turbohtml import parse

    return lambda body, _: parse(decode(body, None), positions=False).main_text()


def _everything() -> Read:
    from turbohtml import parse

    return lambda body, _: parse(decode(body, None), positions=False).to_text()


RIVALS: Final[dict[str, Callable[[], Read]]] = {
    "resiliparse, main text": _resiliparse,
    "turbohtml, its own choice": _turbohtml,
    "turbohtml, the whole page": _everything,
}


def main() -> int:
    """Score the grades, and the rivals that are installed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="trafilatura's tests folder")
    pages = load(parser.parse_args().folder)
    mean_kb = sum(len(page.body) for page in pages) / len(pages) / 1000
    print(f"{len(pages)} pages of {mean_kb:.0f} kB on average; ms are of CPU, a page\n")
    print("| | precision | recall | F1 | chosen on / held out | ms | worst ms | failed |")
    print("|---|---|---|---|---|---|---|---|")
    below = False
    for name in EXTRACTORS:
        total = _line(name, _grade(name), pages)
        below = below or total.f1 < GOALS[name]
    for name, make in RIVALS.items():
        try:
            read = make()
        except ImportError:
            print(f"| {name} | not installed | | | | | | |")
            continue
        _line(name, read, pages)
    return int(below)


def _line(name: str, read: Read, pages: list[Page]) -> Score:
    read(b"<p>The first page loads the libraries.", "http://example.com/")
    chosen_on, held_out = score(read, pages[::2]), score(read, pages[1::2])
    total = Score(
        *(getattr(chosen_on, field) + getattr(held_out, field) for field in ("hits", "intruders", "missed")),
        chosen_on.failures + held_out.failures,
        chosen_on.pages + held_out.pages,
        chosen_on.cpu_s + held_out.cpu_s,
        max(chosen_on.worst_s, held_out.worst_s),
    )
    print(
        f"| {name} | {total.precision:.3f} | {total.recall:.3f} | {total.f1:.3f} | {chosen_on.f1:.3f} / "
        f"{held_out.f1:.3f} | {total.cpu_s / total.pages * 1000:.1f} | {total.worst_s * 1000:.0f} | {total.failures} |",
        flush=True,
    )
    return total


if __name__ == "__main__":
    sys.exit(main())
