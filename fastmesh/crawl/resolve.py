"""From a host name to addresses that may be dialled.

The lookup runs in c-ares, which sends its own queries and reads /etc/hosts: a
name that never answers costs no thread (``getaddrinfo`` would hold one of the
pool's few), and answers are kept by c-ares for as long as their TTL says.
"""

from __future__ import annotations

import socket
import time
from ipaddress import IPv4Address, IPv6Address, ip_address

import aiodns
from aiohttp.abc import AbstractResolver, ResolveResult

from fastmesh.crawl.addresses import Address
from fastmesh.crawl.guard import AddressGuard
from fastmesh.errors import DnsFailed

# A lost packet is asked for again while the default connect timeout of 3 s still runs.
QUERY_TIMEOUT_S = 1.0
QUERY_TRIES = 4

LOOPBACK: tuple[Address, ...] = (IPv4Address("127.0.0.1"), IPv6Address("::1"))


class GuardedResolver(AbstractResolver):
    """aiohttp's resolver: it hands out only addresses that the guard permits.

    One address that is refused refuses the whole name.  A name with a public
    and a private address is how rebinding works, and none that is honest needs it.
    *dns* is the client to ask; None makes one of the system's settings.
    """

    def __init__(self, guard: AddressGuard, dns: aiodns.DNSResolver | None = None) -> None:
        self._guard = guard
        self._dns = dns or aiodns.DNSResolver(timeout=QUERY_TIMEOUT_S, tries=QUERY_TRIES)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Addresses of *host* for *port*, each judged.  Raises DnsFailed and BlockedAddress."""
        if is_loopback_name(host):
            addresses = self._permitted_loopback(host, port)
        else:
            addresses = await self._lookup(host, family)
            for address in addresses:
                self._guard.check(address, port, host)
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """End the lookups that run."""
        await self._dns.close()

    def _permitted_loopback(self, host: str, port: int) -> list[Address]:
        """Both are this machine, so one that is permitted is enough: 127.0.0.0/8 allows localhost without ::1/128."""
        permitted = [address for address in LOOPBACK if self._guard.permits(address)]
        for address in permitted or LOOPBACK:
            self._guard.check(address, port, host)
        return permitted

    async def _lookup(self, host: str, family: socket.AddressFamily) -> list[Address]:
        try:
            found = await self._dns.getaddrinfo(host, family=family, type=socket.SOCK_STREAM)
        except aiodns.error.DNSError as error:
            raise DnsFailed(f"{host} was not resolved: {error.args[1]}") from None
        # IPv4 first is c-ares' business (RFC 6724); what is dialled when is aiohttp's (RFC 8305).
        addresses = [ip_address(node.addr[0].decode()) for node in found.nodes]
        if not addresses:
            raise DnsFailed(f"{host} has no address")
        return addresses


def is_loopback_name(host: str) -> bool:
    """Whether *host*, canonical, is ``localhost`` or below it: loopback without a lookup (RFC 6761, 6.3)."""
    name = host.removesuffix(".")
    return name == "localhost" or name.endswith(".localhost")


class Lookup:
    """How long one fetch waited for names, over all its redirects; literals and kept connections need none."""

    __slots__ = ("_ended_s", "_started_s")

    def __init__(self) -> None:
        self._ended_s = 0.0
        self._started_s: float | None = None

    def start(self) -> None:
        """A name is asked for."""
        self._started_s = time.monotonic()

    def end(self) -> None:
        """It was answered."""
        self._ended_s, self._started_s = self.took_s, None

    @property
    def pending(self) -> bool:
        """Asked and not answered."""
        return self._started_s is not None

    @property
    def took_s(self) -> float:
        """Seconds so far."""
        return self._ended_s + (time.monotonic() - self._started_s if self._started_s is not None else 0.0)
