"""What is known of the robots.txt of origins: for how long, and within a bound in bytes.  Nothing is asked for here."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from fastmesh.crawl.fairness.steps import Steps
from fastmesh.crawl.net.url import ParsedUrl
from fastmesh.crawl.robots.rules import Rules, product_token
from fastmesh.errors import RobotsDisallowed, UrlError

FORGOTTEN_S: Final = 3_600.0  # after its time, in which what it said last may still be needed
# All that is kept together, by the share of an origin and of a name or a rule, beside their characters.
MAX_KEPT_BYTES: Final = 33_554_432
PART_BYTES: Final = 300
ORIGIN_BYTES: Final = 1_000

Origin = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an origin's robots.txt, and until when.

    *why* says what is wrong when it is not its rules that decide; *fault* is that it could
    not be reached at all, after so many *tries*, and then its pages fail like itself.
    """

    rules: Rules
    until: float
    why: str | None = None
    fault: type[UrlError] | None = None
    tries: int = 0
    steps: Steps = field(default_factory=Steps, compare=False)  # what judging by it takes its turns in

    @property
    def bytes(self) -> int:
        """What it takes in memory, roughly."""
        return ORIGIN_BYTES + PART_BYTES * self.rules.size + self.rules.chars

    async def check(self, url: ParsedUrl, user_agent: str) -> float | None:
        """The delay that is asked of *user_agent*, when it may fetch *url*.  Raises RobotsDisallowed, and the origin's
        own fault when it cannot be reached."""
        if self.fault is not None:
            raise self.fault(f"{url.host}: {self.why}")
        token = product_token(user_agent)
        if not await self.steps.run(self.rules.judge(token, url.target)):
            raise RobotsDisallowed(f"{url.host}: {self.why or f'robots.txt disallows this path for {token}'}")
        return self.rules.crawl_delay_s(token)


class KnownOrigins:
    """What is known of each origin; the longest unused is forgotten first.  *clock* tells seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.bytes = 0
        self._now = clock
        self._kept: OrderedDict[Origin, Known] = OrderedDict()

    def find(self, origin: Origin) -> Known | None:
        """What is known of *origin*; None when nothing is, or not any more."""
        known = self._kept.get(origin)
        if known is None or known.until <= self._now():
            return None
        self._kept.move_to_end(origin)
        return known

    def keep(self, origin: Origin, known: Known) -> Known:
        """Keep *known*; while the origin cannot say anything, what it said last holds on (RFC 9309, 2.4)."""
        before = self._kept.pop(origin, None)
        if before is not None:
            self.bytes -= before.bytes
            if known.why is not None and before.why is None:
                known = replace(before, until=known.until)
        self._kept[origin] = known
        self.bytes += known.bytes
        while len(self._kept) > 1:
            oldest = next(iter(self._kept.values()))
            if self.bytes <= MAX_KEPT_BYTES and oldest.until + FORGOTTEN_S > self._now():
                break
            self._kept.popitem(last=False)
            self.bytes -= oldest.bytes
        return known
