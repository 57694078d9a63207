"""The gate: does a page say its content by itself, or only in a browser that runs its scripts?  A pure function of a
few facts (docs/extraction.md has the formula).  It owns no parser, so the daemon, which never parses, may import it."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

GateDecision = Literal["raw", "probes_first", "headless"]

DECISIONS: Final[tuple[GateDecision, ...]] = ("raw", "probes_first", "headless")

# What a page gains by each fact, and what it loses.
TEXT_WEIGHT, PARAGRAPH_WEIGHT, ARTICLE_WEIGHT, OPENGRAPH_WEIGHT, JSON_LD_WEIGHT = 0.35, 0.30, 0.15, 0.10, 0.10
SCRIPT_PENALTY, MARKER_PENALTY = 0.20, 0.30
# Where more adds nothing.
FULL_TEXT_RATIO, FULL_PARAGRAPHS, FULL_SCRIPT_DENSITY, FULL_MARKERS = 0.10, 5, 0.5, 2

RAW_SCORE: Final = 0.5
# Less text than this is no page's content, when scripts stand beside it.
FEW_CHARS: Final = 200
FEW_CHARS_OF_AN_APP: Final = 1000


class PageFacts(NamedTuple):
    """What the gate looks at.  *app_markers* counts two: an empty root of a single-page application, and a noscript
    that asks for JavaScript."""

    html_chars: int
    text_chars: int
    paragraphs: int
    has_article: bool
    has_opengraph: bool
    has_json_ld: bool
    scripts: int
    script_chars: int
    app_markers: int


class Gate(NamedTuple):
    """What the gate says; for what is no HTML page there is no score."""

    decision: GateDecision
    quality_score: float | None


NO_PAGE: Final = Gate("raw", None)


def judge(facts: PageFacts) -> Gate:
    """The gate's decision on a page, and its score from 0 to 1."""
    html_chars = max(1, facts.html_chars)
    score = (
        TEXT_WEIGHT * _share(facts.text_chars / html_chars, FULL_TEXT_RATIO)
        + PARAGRAPH_WEIGHT * _share(facts.paragraphs, FULL_PARAGRAPHS)
        + ARTICLE_WEIGHT * facts.has_article
        + OPENGRAPH_WEIGHT * facts.has_opengraph
        + JSON_LD_WEIGHT * facts.has_json_ld
        - SCRIPT_PENALTY * _share(facts.script_chars / html_chars, FULL_SCRIPT_DENSITY)
        - MARKER_PENALTY * _share(facts.app_markers, FULL_MARKERS)
    )
    score = round(min(1.0, max(0.0, score)), 3)
    return Gate(_decision(facts, score), score)


def _decision(facts: PageFacts, score: float) -> GateDecision:
    if not facts.scripts:
        return "raw"  # a browser would show nothing more
    if facts.text_chars < (FEW_CHARS_OF_AN_APP if facts.app_markers else FEW_CHARS):
        return "headless"
    return "raw" if score >= RAW_SCORE else "probes_first"


def _share(value: float, full: float) -> float:
    return min(1.0, value / full)
