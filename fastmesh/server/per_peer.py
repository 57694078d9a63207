"""How many connections each peer has, where there is a limit: those of one must not be all that there may be."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv6Address, ip_address
from typing import Final

# So many connections over the limit are answered 429; the others are closed without a word.
REFUSALS_A_PEER: Final = 8
IPV6_NETWORK_BITS: Final = 64  # that a peer has for itself


class Place:
    """One connection's place among its peer's, until it is given back; again is nothing."""

    __slots__ = ("_peers", "_whose", "refused")

    def __init__(self, peers: PerPeer, whose: str, *, refused: bool) -> None:
        self._peers: PerPeer | None = peers
        self._whose = whose
        self.refused = refused

    def give_back(self) -> None:
        """The connection is gone."""
        peers, self._peers = self._peers, None
        if peers is not None:
            peers._left(self._whose)


class PerPeer:
    """Counts connections by where they come from: an IPv4 address, or an IPv6 network of 64 bits.  Loopback is counted
    for nobody, nor is a Unix socket: behind them stand this machine's own, and proxies."""

    def __init__(self) -> None:
        self._connections: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._connections)

    def come(self, host: str, limit: int) -> Place | None:
        """One more from the address *host*, of which *limit* are served (0: any number); None: it is not counted.
        Raises ConnectionRefusedError when it is not even to be told."""
        whose = _counted_as(host) if limit else None
        if whose is None:
            return None
        if self._connections[whose] >= limit + REFUSALS_A_PEER:
            raise ConnectionRefusedError(whose)
        self._connections[whose] += 1
        return Place(self, whose, refused=self._connections[whose] > limit)

    def _left(self, whose: str) -> None:
        self._connections[whose] -= 1
        if not self._connections[whose]:
            del self._connections[whose]


def _counted_as(host: str) -> str | None:
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None:
            if address.is_loopback:
                return None
            bits = int(address) >> (128 - IPV6_NETWORK_BITS)
            return f"{bits:x}/{IPV6_NETWORK_BITS}"
        address = address.ipv4_mapped
    return None if address.is_loopback else str(address)
