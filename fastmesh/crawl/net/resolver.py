"""From a host name to addresses that may be dialled: what Names knows, judged by the guard."""

from __future__ import annotations

import socket
import time
from contextvars import ContextVar
from typing import Final

import aiodns
from aiohttp.abc import AbstractResolver, ResolveResult

from fastmesh.crawl.net.addresses import Address
from fastmesh.crawl.net.dns import make_dns
from fastmesh.crawl.net.guard import AddressGuard, is_loopback_name
from fastmesh.crawl.net.names import Names


class GuardedResolver(AbstractResolver):
    """aiohttp's resolver: it hands out only addresses that the guard permits.

    One address that is refused refuses the whole name.  A name with a public and a private address is how rebinding
    works, and none that is honest needs it.  *dns* is the client to ask; None makes one of the system's settings.
    """

    def __init__(self, guard: AddressGuard, dns: aiodns.DNSResolver | None = None) -> None:
        self._guard = guard
        self.names = Names(dns or make_dns())

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Addresses of *host* for *port*, each judged.  Raises DnsFailed and BlockedAddress."""
        addresses: tuple[Address, ...]
        if is_loopback_name(host):
            addresses = self._guard.loopback(host, port)
        else:
            lookup = LOOKUP.get(None) or Lookup()
            lookup.start()
            addresses = await self.names.addresses(host, family, again=lookup.again)
            lookup.end()
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
        await self.names.close()


class Lookup:
    """How long one request waited for names; literals and kept connections need none.  *again* is that its URL failed
    before: what it failed with then is no answer."""

    __slots__ = ("_ended_s", "_started_s", "again")

    def __init__(self, *, again: bool = False) -> None:
        self.again = again
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


# Of the request that this task sends: aiohttp resolves in it, and its own tracing costs every request, whoever listens.
LOOKUP: Final[ContextVar[Lookup]] = ContextVar("LOOKUP")
