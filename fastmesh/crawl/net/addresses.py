"""Which IP addresses are public: tables, no settings, no I/O.

The tables are our own because the standard library's ``is_global`` changes with Python's patch releases and says yes to
``64:ff9b::7f00:1``, ``fec0::1``, ``5f00::1``, 224.0.0.0/4 and 168.63.129.16 on 3.11.7.  Their source are IANA's
registries of special-purpose addresses.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

Address = IPv4Address | IPv6Address

SPECIAL_V4: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # "this network": Linux connects 0.0.0.0 to loopback
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; a cloud's metadata at 100.100.100.200
        "127.0.0.0/8",
        "168.63.129.16/32",  # public by its number, but inside Azure the host's own services
        "169.254.0.0/16",  # link-local, and the clouds' metadata
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; a cloud's metadata at 192.0.0.192
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays of 6to4, withdrawn
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and the broadcast address
    )
)

# Global unicast is 2000::/3 and nothing else: loopback, link-local, unique local, site-local, multicast, 5f00::/16,
# 100::/64 and 64:ff9b:1::/48 all lie outside.  (The last is a network's own NAT64; where it holds the IPv4 address
# depends on a prefix that only that network knows, so it cannot be unwrapped and is refused.)
GLOBAL_V6: Final = IPv6Network("2000::/3")
SPECIAL_V6: Final = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: benchmarks, ORCHID, anycast of protocols
        "2001:db8::/32",  # documentation
        "3fff::/20",  # documentation
    )
)


def _bits(shift: int, flip: int = 0) -> Callable[[int], IPv4Address]:
    """Reads the 32 bits that stand *shift* bits above the end, inverted by the mask *flip*."""
    return lambda number: IPv4Address((number >> shift & 0xFFFF_FFFF) ^ flip)


LAST: Final = _bits(0)

# IPv6 networks that are another way to write IPv4 addresses, and where those stand.
WRAPPED: Final = (
    (IPv6Network("::/96"), (LAST,)),  # IPv4-compatible
    (IPv6Network("::ffff:0:0/96"), (LAST,)),  # IPv4-mapped
    (IPv6Network("::ffff:0:0:0/96"), (LAST,)),  # SIIT
    (IPv6Network("64:ff9b::/96"), (LAST,)),  # NAT64
    (IPv6Network("2001::/32"), (_bits(64), _bits(0, flip=0xFFFF_FFFF))),  # Teredo: its server, and the client inverted
    (IPv6Network("2002::/16"), (_bits(80),)),  # 6to4
)

# ISATAP stands in any network: its interface id is 0:5efe or 200:5efe and the IPv4 address.
ISATAP_IDS: Final = frozenset({0x0000_5EFE, 0x0200_5EFE})


def wrapped(address: Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses that an IPv6 address of a transition network stands for; empty for all others."""
    if address.version == 4:
        return ()
    number = int(address)
    if number < 2:  # :: and ::1 lie in ::/96 but are the unspecified and the loopback address
        return ()
    for network, places in WRAPPED:
        if address in network:
            return tuple(place(number) for place in places)
    return ()


def is_public(address: Address) -> bool:
    """Whether the address, and every address wrapped in it, is one host's of the public internet."""
    if address.version == 4:
        return not any(address in network for network in SPECIAL_V4)
    inner = wrapped(address)
    if inner:
        return all(map(is_public, inner))
    if address not in GLOBAL_V6 or any(address in network for network in SPECIAL_V6):
        return False
    number = int(address)
    return (number >> 32 & 0xFFFF_FFFF) not in ISATAP_IDS or is_public(LAST(number))
