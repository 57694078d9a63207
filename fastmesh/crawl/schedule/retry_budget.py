"""How often a stream may try again at one host."""

from __future__ import annotations

from typing import Final

BUDGET_AT_LEAST: Final = 10
BUDGET_SHARE: Final = 5  # one retry for so many URLs


class RetryBudget:
    """How many retries a stream has left at one host: where all fails, trying again is no help to anybody."""

    __slots__ = ("urls", "used")

    def __init__(self, urls: int = 0) -> None:
        self.urls = urls  # of the stream, at this host
        self.used = 0

    def take(self) -> bool:
        """Use one; False when there is none."""
        if self.used >= max(BUDGET_AT_LEAST, self.urls // BUDGET_SHARE):
            return False
        self.used += 1
        return True
