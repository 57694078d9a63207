"""What names resolve to: asked once, kept for a while, and never so many at once that others wait.

The lookup runs in c-ares, which sends its own queries and reads /etc/hosts: a name that never
answers costs no thread (``getaddrinfo`` would hold one of the pool's few).  All requests that need
a name at the same time wait for one lookup.  Names below one domain take turns, so that a dead
one, under however many names it is asked for, leaves the others their places.

Nothing here is judged: the guard sees every address each time that it is handed out.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

import aiodns

from fastmesh.crawl.net.addresses import Address
from fastmesh.crawl.net.url import domain_of
from fastmesh.errors import DnsFailed
from fastmesh.telemetry.rates import RecentShare

# A lookup, its turn included; c-ares doubles its timeout with every try and would take 15 s.
LOOKUP_LIMIT_S: Final = 5.0
# Round-robin names say 0 or 1 s and would be asked for at every page; a name that has moved is
# noticed in ten minutes, whatever it promised.
MIN_KEPT_S: Final = 5.0
MAX_KEPT_S: Final = 600.0
# That there is no such name, and that nobody could say: the second is often over in a moment.
ABSENT_KEPT_S: Final = 30.0
FAILED_KEPT_S: Final = 3.0
# For a page that is tried again after a failure: less than the shortest wait between two tries, so that each try
# asks anew, and long enough that those that failed together share what is found.
AGAIN_KEPT_S: Final = 0.1
MAX_NAMES: Final = 10_000
MAX_ADDRESSES: Final = 16  # of one name; none dials more, and an answer over TCP can hold four thousand
MAX_LOOKUPS: Final = 256
MAX_LOOKUPS_PER_DOMAIN: Final = 16

ABSENT: Final = frozenset({aiodns.error.ARES_ENOTFOUND, aiodns.error.ARES_ENODATA})

Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a name, *since* when and *until* when: addresses, or why there are none."""

    addresses: tuple[Address, ...]
    why: str
    since: float
    until: float

    def holds(self, now: float, *, again: bool) -> bool:
        """Whether nobody needs to be asked, for one who tries *again* or the first time."""
        if again and not self.addresses:
            return now < self.since + AGAIN_KEPT_S
        return now < self.until


class _Domain:
    """The turns of names below one domain, kept while anybody uses or awaits one."""

    __slots__ = ("turns", "users")

    def __init__(self) -> None:
        self.turns = asyncio.Semaphore(MAX_LOOKUPS_PER_DOMAIN)
        self.users = 0


class Names:
    """Looks names up.  *dns* is the client to ask, *clock* tells seconds that never go back."""

    def __init__(self, dns: aiodns.DNSResolver, clock: Callable[[], float] = time.monotonic) -> None:
        self._dns = dns
        self._clock = clock
        self._kept: OrderedDict[Key, Known] = OrderedDict()
        self._lookups: dict[Key, asyncio.Task[Known]] = {}
        self._domains: dict[str, _Domain] = {}
        self._total = asyncio.Semaphore(MAX_LOOKUPS)
        # Of lookups: found, no such name, and nobody said.
        self.outcomes: Counter[str] = Counter(dict.fromkeys(("found", "absent", "failed"), 0))
        self.unanswered = RecentShare()

    @property
    def pending(self) -> int:
        """Lookups that run or wait for their turn."""
        return len(self._lookups)

    def __len__(self) -> int:
        return len(self._kept)

    async def addresses(
        self, name: str, family: socket.AddressFamily = socket.AF_UNSPEC, *, again: bool = False
    ) -> tuple[Address, ...]:
        """The addresses of *name*, canonical, the one to dial first in front.  Raises DnsFailed.

        Asked *again*, after a failure, it does not give that failure once more.  The name is absolute, with or without
        its final dot, which /etc/hosts does not know.
        """
        key = (name.removesuffix("."), int(family))
        known = self._kept.get(key)
        if known is None or not known.holds(self._clock(), again=again):
            known = await self._asked(key)
        elif known.addresses:
            # Only names that exist: what is asked for without end must not push out what is used.
            self._kept.move_to_end(key)
        if not known.addresses:
            raise DnsFailed(known.why)
        return known.addresses

    async def close(self) -> None:
        """End the lookups that run: to those that wait for them that is DnsFailed."""
        for lookup in self._lookups.values():
            lookup.cancel()
        await asyncio.gather(*self._lookups.values(), return_exceptions=True)
        await self._dns.close()

    async def _asked(self, key: Key) -> Known:
        """Ask for *key*, or wait for the lookup that runs; when one that waits leaves, it runs on for the others."""
        lookup = self._lookups.get(key)
        if lookup is None:
            lookup = self._lookups[key] = asyncio.get_running_loop().create_task(self._look_up(key))
            lookup.add_done_callback(lambda _: self._lookups.pop(key))
        await asyncio.wait([lookup])
        if lookup.cancelled():
            raise DnsFailed(f"{key[0]} was not resolved: fastmesh is closing")
        return lookup.result()

    async def _look_up(self, key: Key) -> Known:
        name, family = key
        outcome = "failed"
        try:
            async with asyncio.timeout(LOOKUP_LIMIT_S):
                found = await self._in_turn(name, family)
        except TimeoutError:
            known = self._known((), f"{name} was not resolved within {LOOKUP_LIMIT_S:g} s", FAILED_KEPT_S)
        except aiodns.error.DNSError as error:
            outcome = "absent" if error.args[0] in ABSENT else "failed"
            kept_s = ABSENT_KEPT_S if outcome == "absent" else FAILED_KEPT_S
            known = self._known((), f"{name} was not resolved: {error.args[1]}", kept_s)
        else:
            outcome = "found" if found else "absent"
            known = found or self._known((), f"{name} has no address", ABSENT_KEPT_S)
        self.outcomes[outcome] += 1
        self.unanswered.count(self._clock(), outcome == "failed")
        self._keep(key, known)
        return known

    def _keep(self, key: Key, known: Known) -> None:
        kept = self._kept
        kept[key] = known
        if known.addresses:
            kept.move_to_end(key)
        # Of what is over the longest unused go with each new one, so that memory comes back.
        while kept and (len(kept) > MAX_NAMES or next(iter(kept.values())).until <= known.since):
            kept.popitem(last=False)

    async def _in_turn(self, name: str, family: int) -> Known | None:
        """Its domain's turn first and then a place of the total: a dead domain holds only its own."""
        key = domain_of(name)
        domain = self._domains.setdefault(key, _Domain())
        domain.users += 1
        try:
            async with domain.turns, self._total:
                found = await self._dns.getaddrinfo(name, family=socket.AddressFamily(family), type=socket.SOCK_STREAM)
        finally:
            domain.users -= 1
            if not domain.users:
                del self._domains[key]
        # IPv4 first is c-ares' business (RFC 6724); what is dialled when is aiohttp's (RFC 8305).
        nodes = found.nodes[:MAX_ADDRESSES]
        if not nodes:
            return None
        kept_s = min([node.ttl for node in nodes] + [alias.ttl for alias in found.cnames])
        addresses = tuple(ip_address(node.addr[0].decode()) for node in nodes)
        return self._known(addresses, "", min(max(kept_s, MIN_KEPT_S), MAX_KEPT_S))

    def _known(self, addresses: tuple[Address, ...], why: str, kept_s: float) -> Known:
        now = self._clock()
        return Known(addresses, why, now, now + kept_s)
