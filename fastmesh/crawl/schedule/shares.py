"""Which of a stream's hosts is next: of the domain with the fewest URLs under way, the host with the fewest.

By domain first, because one owner has as many names as are asked for: two hundred dead ones would be two hundred
hosts with nothing under way, each before all that have something.  Among equals the input's order decides.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any, Generic, Protocol, TypeVar


class Host(Protocol):
    """The URLs of one host, of which *running* are under way; *indexes* of the others, the smallest first."""

    domain: Domain
    running: int
    open: bool
    indexes: list[int]


H = TypeVar("H", bound=Host)


class Domain:
    """The hosts of one domain that have something to start, and what stands for them in the order of all."""

    __slots__ = ("hosts", "running", "stands")

    def __init__(self) -> None:
        self.running = 0
        # (weight, first index, host); an entry that is not true any more is passed over.
        self.hosts: list[tuple[int, int, Any]] = []
        self.stands: tuple[int, int] | None = None

    def __lt__(self, other: Domain) -> bool:
        """Never asked of two that are true: no URL is of two domains, but it may have been thought to be of another."""
        return False


class Shares(Generic[H]):
    """The order.  With *in_order* only the input's counts."""

    def __init__(self, *, in_order: bool) -> None:
        self._in_order = in_order
        # (weight, first index, domain); only what its domain stands as is true.
        self._domains: list[tuple[int, int, Domain]] = []

    def first(self) -> H | None:
        """The host that is next; None when none has anything to start."""
        while self._domains:
            weight, index, domain = self._domains[0]
            if domain.stands == (weight, index):
                host: H = domain.hosts[0][2]
                return host
            heappop(self._domains)
        return None

    def changed(self, host: H, more: int = 0) -> None:
        """*host* may be started or not, has another first index, or so many *more* URLs under way."""
        domain, weight = host.domain, 0
        if more:
            host.running += more
            domain.running += more
        if host.open and host.indexes:
            if not self._in_order:
                weight = host.running
            heappush(domain.hosts, (weight, host.indexes[0], host))
        self._stand(domain)

    def clear(self) -> None:
        """Nothing is next.  Hosts know their domain, so it may know none of them any more."""
        for *_, domain in self._domains:
            domain.hosts.clear()
            domain.stands = None
        self._domains.clear()

    def _stand(self, domain: Domain) -> None:
        hosts, in_order = domain.hosts, self._in_order
        while hosts:
            weight, index, host = hosts[0]
            if host.open and (in_order or host.running == weight) and host.indexes and host.indexes[0] == index:
                stands = (0 if in_order else domain.running, index)
                if stands != domain.stands:
                    domain.stands = stands
                    heappush(self._domains, (*stands, domain))
                return
            heappop(hosts)
        domain.stands = None
