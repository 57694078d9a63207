"""The address guard: what may be fetched at all.

A daemon that fetches what strangers name can be turned on the machines beside it.  So only public addresses are
fetched, unless the operator named a network, and the judgement falls on the address that is really dialled: the guard
is asked about the URL (port, literal address, names of loopback), about every address that a name resolved to, and once
more about each socket address right before it is connected; for each redirect anew.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

from fastmesh.config import FetchSettings
from fastmesh.crawl.net.addresses import Address, is_public, wrapped
from fastmesh.crawl.net.url import ParsedUrl, follow, parse_url
from fastmesh.errors import BlockedAddress

# Any port does: connecting a datagram socket sends nothing, it only chooses a route.
_DISCARD_PORT = 9

LOOPBACK: tuple[Address, ...] = (IPv4Address("127.0.0.1"), IPv6Address("::1"))


class AddressGuard:
    """Judges URLs and addresses by the FETCH settings.  *own* holds the daemon's sockets as (address, port); whoever
    binds them adds them, and they are never fetched, whatever the settings allow."""

    def __init__(self, settings: FetchSettings) -> None:
        self.own: set[tuple[str, int]] = set()
        self._allow_networks = settings.allow_networks
        self._allow_ports = settings.allow_ports

    def parse(self, url: str) -> ParsedUrl:
        """Read *url* and judge what can be judged without a lookup.  Raises InvalidUrl and BlockedAddress."""
        return self._admitted(parse_url(url))

    def follow(self, base: ParsedUrl, location: str) -> ParsedUrl:
        """Read and judge where a redirect from *base* to *location* leads, as ``parse`` does."""
        return self._admitted(follow(base, location))

    def permits(self, address: Address) -> bool:
        """Whether *address* is public or in a network of FETCH__ALLOW_NETWORKS, as it is or unwrapped to IPv4."""
        if is_public(address) or any(address in network for network in self._allow_networks):
            return True
        inner = wrapped(address)
        return bool(inner) and all(map(self.permits, inner))

    def check(self, address: Address, port: int, name: str | None = None) -> None:
        """Judge the address about to be dialled; *name* is what was resolved to it.  Raises BlockedAddress."""
        if refusal := self._refusal(address, port, name):
            raise BlockedAddress(refusal, by_name=name is not None)

    def loopback(self, name: str, port: int) -> tuple[Address, ...]:
        """Where *name*, a name of loopback, leads.  Raises BlockedAddress.  Both addresses are this machine, so one
        that is permitted is enough: 127.0.0.0/8 allows localhost without ::1/128."""
        permitted = tuple(address for address in LOOPBACK if self.permits(address))
        for address in permitted or LOOPBACK:
            if refusal := self._refusal(address, port, name):
                raise BlockedAddress(refusal)
        return permitted

    def _admitted(self, url: ParsedUrl) -> ParsedUrl:
        if not any(low <= url.port <= high for low, high in self._allow_ports):
            raise BlockedAddress(f"port {url.port} is not among FETCH__ALLOW_PORTS")
        if url.address is not None:
            self.check(url.address, url.port)
        elif is_loopback_name(url.host):
            self.loopback(url.host, url.port)
        return url

    def _refusal(self, address: Address, port: int, name: str | None) -> str | None:
        """Why *address*, where *name* leads if there is one, is not dialled; None when it may be."""
        if not self.permits(address):
            why = "is not a public address, and FETCH__ALLOW_NETWORKS does not name it"
        elif self._is_own(address, port):
            why = f"with port {port} is this daemon itself"
        else:
            return None
        return f"{name} leads to {address}, which {why}" if name else f"{address} {why}"

    def _is_own(self, address: Address, port: int) -> bool:
        """Whether a socket of the daemon answers there; one bound to loopback is taken to answer on all of loopback."""
        bound = [ip_address(host) for host, own_port in self.own if own_port == port]
        dialled = (address, *wrapped(address))
        return any(
            target == host
            or (_is_loopback(target) and (host.is_loopback or host.is_unspecified))
            or (host.is_unspecified and _is_this_machine(target))
            for host in bound
            for target in dialled
        )


def is_loopback_name(host: str) -> bool:
    """Whether *host*, canonical, is ``localhost`` or below it: loopback without a lookup (RFC 6761, 6.3)."""
    name = host.removesuffix(".")
    return name == "localhost" or name.endswith(".localhost")


def _is_loopback(address: Address) -> bool:
    return address.is_loopback or address.is_unspecified  # Linux connects 0.0.0.0 and :: to loopback


def _is_this_machine(address: Address) -> bool:
    """Whether *address* is one of this machine's: the kernel then also chooses it as the sender's."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), _DISCARD_PORT))
        except OSError:  # no route there, so it is not here either
            return False
        return ip_address(probe.getsockname()[0]) == address
