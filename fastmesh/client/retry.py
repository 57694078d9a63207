"""How often and after how long a broken connection is tried again.  A policy: it is told what happened and answers with
seconds.  It never waits itself, and chance is handed to it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retry:
    """Waits of *base_s* × 2ⁿ, *cap_s* at most, each shortened by up to a half by chance.

    *attempts* is how many tries may fail in a row, without a frame between them; one is no retry at all.  A server that
    asks to wait longer than *max_wait_s* is not waited for.
    """

    attempts: int = 8
    base_s: float = 0.25
    cap_s: float = 10.0
    max_wait_s: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or min(self.base_s, self.cap_s, self.max_wait_s) < 0:
            raise ValueError(f"want attempts of at least 1 and no negative seconds, got {self}")

    def wait_s(self, failures: int, chance: float, asked_s: float = 0.0) -> float | None:
        """How long to wait after *failures* in a row, or None: give up.  *chance* is between 0 and 1; *asked_s* is what
        the server asked for, which is the least."""
        if failures >= self.attempts or asked_s > self.max_wait_s:
            return None
        # Beyond 2^60 nothing doubles visibly, and a float would overflow at last.
        backoff_s = min(self.cap_s, self.base_s * 2.0 ** min(failures - 1, 60))
        return max(asked_s, backoff_s * (1 - chance / 2))
