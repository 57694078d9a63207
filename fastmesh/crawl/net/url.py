"""Reading a URL: one parser for the check and for the connection.

Two parsers that disagree about the host are a way past every guard (``http://good.example\\@evil.example/``).  So the
string is read once, by the rules of browsers (WHATWG, in ada): they alone say that ``2130706433``, ``0x7f.1`` and
``127。0。0。1`` *are* 127.0.0.1, where the standard library sees names and the C library then resolves them to
loopback.  What differs between readers is refused on the raw string before; after it only the parts of ParsedUrl are
used, and nobody reads the string again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final

import ada_url

from fastmesh.crawl.net.addresses import Address
from fastmesh.errors import InvalidUrl

MAX_URL_CHARS: Final = 8192  # as read and as sent; origins commonly refuse more than 8 KiB
DEFAULT_PORTS: Final = {"http": 80, "https": 443}

# Refused anywhere.  Parsers drop TAB, CR and LF inside a host, take \ for / or not, or stop at NUL.
RAW_RULES: Final = (
    (re.compile(r"[\x00-\x20\x7f]"), "it holds a space or a control character"),
    (re.compile(r"\\"), "it holds a backslash"),
    (re.compile(r"[\ud800-\udfff]"), "it holds half a surrogate pair"),
)
RAW: Final = re.compile("|".join(pattern.pattern for pattern, _ in RAW_RULES))  # one class: one look for all of them

# In a redirect they are read as browsers do, before the rules have their say.
C0_AND_SPACE: Final = "".join(map(chr, range(0x21)))
ODD: Final = re.compile(r"[\x00-\x20\x7f\\]")
DROPPED: Final = dict.fromkeys(map(ord, "\t\n\r"))
ODD_AUTHORITY: Final = re.compile(r"(?:https?:/*|/{2,})([^/?#]*)", re.IGNORECASE)

# Refused between // and the path.  A browser takes an empty user name away, and what is long holds it up:
# the accents on one letter are sorted one by one.
LENIENT_RULES: Final = (
    (re.compile(r"@"), "a user name or password before the host is not taken"),
    (re.compile(r".{513}"), "its host is longer than any name"),
)
AUTHORITY_RULES: Final = (
    *LENIENT_RULES,
    (re.compile(r"%"), "there is a % in its host (a zone id or an escape)"),
    (re.compile(r"^(?::[^:]*)?$"), "it has no host"),
    (re.compile(r"^(?!(?:\[[^\[\]]*\]|[^:\[\]]*)(?::[0-9]{0,5})?$)"), "its host or its port is malformed"),
)
# Nearly all are like this, and no rule speaks of them.
ORDINARY_AUTHORITY: Final = re.compile(r"[A-Za-z0-9._-]{1,255}(?::[0-9]{1,5})?")

ABSOLUTE: Final = re.compile(r"(https?)://([^/?#]*)", re.IGNORECASE)
SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
PARTS: Final = ("protocol", "hostname", "host_type", "port", "pathname", "search", "hash")
# What DNS can carry; underscores are common although no host name should have them.
NAME: Final = re.compile(r"(?=.{1,254}$)(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?")
# What registries of many countries sell names below: ``example.co.uk`` is a domain as ``example.com`` is.
SECOND_LEVEL: Final = frozenset(
    "ac asso biz co com coop edu firm gen go gob gouv gov ind info int ltd mil ne net nom or org plc sch web".split()
)


@dataclass(frozen=True, slots=True)
class ParsedUrl:
    """A URL's parts, canonical and in ASCII.

    *host* has no brackets; *address* is what it says when it is an IP address in any spelling, else None.  *target* is
    what the origin is asked for: path and query.  *fragment* stays here, with its ``#`` or empty.  *authority* is host
    and port as a URL has them, a default port left out; *resource* the URL without its fragment: what is fetched.
    """

    scheme: str
    host: str
    port: int
    target: str
    fragment: str
    address: Address | None
    authority: str = field(init=False, repr=False, compare=False)
    resource: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        host = self._bracketed()
        authority = host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"
        object.__setattr__(self, "authority", authority)  # frozen, and put together once for all who ask
        object.__setattr__(self, "resource", f"{self.scheme}://{authority}{self.target}")

    @property
    def href(self) -> str:
        """The whole URL."""
        return self.resource + self.fragment

    @property
    def origin(self) -> tuple[str, str, int]:
        """What credentials are held to: scheme, host and port."""
        return self.scheme, self.host, self.port

    @property
    def host_key(self) -> str:
        """What per-host limits count by: ``host:port``, with either scheme, with or without the name's final dot."""
        return f"{self._bracketed().removesuffix('.')}:{self.port}"

    def _bracketed(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


def parse_url(text: str) -> ParsedUrl:
    """Read an absolute http or https URL.  Raises InvalidUrl with the reason, which never repeats the string: it may
    hold a password."""
    if len(text) > MAX_URL_CHARS:
        raise InvalidUrl(f"the URL is refused: it has more than {MAX_URL_CHARS} characters")
    if RAW.search(text):
        _refuse(RAW_RULES, text)
    absolute = ABSOLUTE.match(text)
    if absolute is None:
        raise InvalidUrl("the URL is refused: it does not begin with http:// or https://")
    if not ORDINARY_AUTHORITY.fullmatch(absolute[2]):
        _refuse(AUTHORITY_RULES, absolute[2])
    try:
        url = ada_url.parse_url(text, PARTS)
    except ValueError:
        raise InvalidUrl(
            "the URL is refused: its host is neither a name nor an address, or its port is over 65535"
        ) from None
    scheme, host = url["protocol"].removesuffix(":"), url["hostname"].strip("[]")
    address = None if url["host_type"] == ada_url.HostType.DEFAULT else ip_address(host)
    if address is None and not NAME.fullmatch(host):
        raise InvalidUrl("the URL is refused: its host is no name that DNS could hold")
    # ada says the same of an empty query and of none, which are two URLs.
    query = url["search"] or ("?" if "?" in text.partition("#")[0] else "")
    parsed = ParsedUrl(
        scheme, host, int(url["port"] or DEFAULT_PORTS[scheme]), url["pathname"] + query, url["hash"], address
    )
    if len(parsed.href) > MAX_URL_CHARS:
        raise InvalidUrl(f"the URL is refused: written in ASCII it has more than {MAX_URL_CHARS} characters")
    return parsed


def follow(base: ParsedUrl, location: str) -> ParsedUrl:
    """Where a redirect from *base* to *location* leads.

    Without a fragment of its own it keeps base's (RFC 9110, 10.2.2).  One that holds a backslash, a tab or a
    space, which are common, is read as browsers do, and what they make of it is read again here, by the
    rules for every URL.  Raises InvalidUrl as parse_url does, also for other schemes.
    """
    if len(location) > MAX_URL_CHARS:
        raise InvalidUrl(f"the URL is refused: it has more than {MAX_URL_CHARS} characters")
    if ODD.search(location):
        location = _as_browsers_read(base, location)
    elif location.startswith("//"):
        location = f"{base.scheme}:{location}"
    elif not SCHEME.match(location):
        _refuse(RAW_RULES, location)
        # Relative: it has no authority, so the host stays base's.
        location = _joined(base, location)
    found = parse_url(location)
    if found.fragment or not base.fragment:
        return found
    return parse_url(found.href + base.fragment)


def _as_browsers_read(base: ParsedUrl, location: str) -> str:
    bare = location.strip(C0_AND_SPACE).translate(DROPPED)
    # Those to whom a backslash is no slash see a user name where others see a path.
    for reading in (bare, bare.replace("\\", "/")):
        if authority := ODD_AUTHORITY.match(reading):
            _refuse(LENIENT_RULES, authority[1])
    # Only a query can have kept one, where it means nothing to anybody but the origin.
    return _joined(base, location).replace("\\", "%5C")


def _joined(base: ParsedUrl, location: str) -> str:
    try:
        return str(ada_url.URL(location, base=base.resource).href)
    except ValueError:
        raise InvalidUrl("the URL is refused: a browser would not follow it either") from None


def _refuse(rules: tuple[tuple[re.Pattern[str], str], ...], text: str) -> None:
    for pattern, reason in rules:
        if pattern.search(text):
            raise InvalidUrl(f"the URL is refused: {reason}")


def domain_of(host: str) -> str:
    """The domain of *host*, whose names one owner can make many of; an address, in any spelling, is its own.

    A guess without the public suffix list, of which a reader takes 120 ms at every start.  Where it is wrong,
    strangers share what a domain gets, as they do below ``github.io``.
    """
    name = host.removesuffix(".")
    labels = name.rsplit(".", 3)
    last = labels[-1]
    if name.startswith("[") or last[:1].isdigit():
        return name
    below_country = len(labels) > 2 and len(last) == 2 and labels[-2] in SECOND_LEVEL
    return ".".join(labels[-3:] if below_country else labels[-2:])
