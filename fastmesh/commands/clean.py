"""Text of strangers, made fit for a terminal.  Titles and URLs are what anybody wrote: whatever a terminal would obey,
or what turns or hides the text around it, is taken out before anything is measured."""

from __future__ import annotations

import unicodedata
from typing import Final

# Controls, halves of surrogate pairs, private use, what is no character: each shown as U+FFFD.
REPLACED: Final = frozenset({"Cc", "Cs", "Co", "Cn"})
# Marks that turn the direction, soft hyphens, joiners; variation selectors, which change a width that was measured.
DROPPED: Final = "Cf"
SELECTORS: Final = frozenset(map(chr, range(0xFE00, 0xFE10)))
MARKS: Final = frozenset({"Mn", "Me"})
MAX_CHARS: Final = 500  # of a title or a URL; what is longer than a line is cut by its width anyway
MAX_MARKS: Final = 2  # on one character: more of them grow over the lines above and below


def clean(text: str) -> str:
    """*text* as one line that a terminal shows and does not obey."""
    shown: list[str] = []
    marks = 0
    for character in text[:MAX_CHARS]:
        category = unicodedata.category(character)
        if category == DROPPED or character in SELECTORS:
            continue
        marks = marks + 1 if category in MARKS else 0
        if character.isspace():
            shown.append(" ")
        elif category in REPLACED:
            shown.append("\ufffd")
        elif marks <= MAX_MARKS:
            shown.append(character)
    return "".join(shown)
