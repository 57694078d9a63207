"""The DNS client that URLs' names are looked up with: c-ares, set up so that no name's answers touch another's lookup.

Names of URLs are absolute.  Below the machine's own search domains ``no-such-shop.example`` would be
found wherever a company has a wildcard, and HOSTALIASES could lead any name elsewhere; /etc/hosts holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import aiodns
import pycares

# A lost packet is asked for again while the default connect timeout of 3 s still runs.
QUERY_TIMEOUT_S: Final = 1.0
QUERY_TRIES: Final = 4

# EDNS is c-ares' own default, which naming any flag would turn off.
FLAGS: Final = pycares.ARES_FLAG_EDNS | pycares.ARES_FLAG_NOSEARCH | pycares.ARES_FLAG_NOALIASES

# Of ares.h; pycares has no words for them.
OPT_UDP_MAX_QUERIES: Final = 1 << 19
OPT_QUERY_CACHE: Final = 1 << 21


def make_dns(
    nameservers: Sequence[str] = (), *, timeout_s: float = QUERY_TIMEOUT_S, tries: int = QUERY_TRIES
) -> aiodns.DNSResolver:
    """A client that asks *nameservers*, by default the system's.  Needs a running loop."""
    with _lone_queries():
        return aiodns.DNSResolver(list(nameservers), timeout=timeout_s, tries=tries, flags=FLAGS)


@contextmanager
def _lone_queries() -> Iterator[None]:
    """Channels that are opened in here use a socket for each query over UDP, and keep no answers.

    On a shared socket one malformed reply fails every query that waits there, with each of its tries, so whoever can
    name a host could keep all names from being resolved.  And c-ares' cache has no bound; that of ``Names`` has.  A
    pycares that opens its channels in another way would not be reached by this and share sockets again; a test says so.
    """
    module: Any = pycares
    library = module._lib
    module._lib = _Library(library)
    try:
        yield
    finally:
        module._lib = library


class _Library:
    """pycares' *library*, which opens channels with two options more."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, name)

    def ares_init_options(self, channel: Any, options: Any, chosen: int) -> Any:
        options.udp_max_queries = 1
        options.qcache_max_ttl = 0
        return self._library.ares_init_options(channel, options, chosen | OPT_UDP_MAX_QUERIES | OPT_QUERY_CACHE)
