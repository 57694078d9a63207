"""Cookies within one URL's redirects.

Many a page comes only when the cookie is given back that its first answer sets, with a redirect.  Cookies
are read as RFC 6265 (5.2) has it, given back to the scheme, host and port that set them, and forgotten with
the last hop.  Domain is ignored: nobody else is given one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, NamedTuple

from fastmesh.crawl.net.url import ParsedUrl

MAX_COOKIES: Final = 50
MAX_BYTES: Final = 8_192  # as they would stand in one field
MAX_ATTRIBUTES: Final = 16  # of one cookie; what follows is not read
MAX_ATTRIBUTE_CHARS: Final = 1_024

# What is in a field of ours: no control character, and nothing that was no UTF-8.
_SENDABLE: Final = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]*")
_MAX_AGE: Final = re.compile(r"(-?)([0-9]*)")
_FOREVER_S: Final = 1e9

# A date is the first of each that stands between two delimiters (5.1.1).
_DATE_TOKENS: Final = re.compile(r"[^\t\x20-\x2f\x3b-\x40\x5b-\x60\x7b-\x7e]+")
_TIME: Final = re.compile(r"([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?![0-9])")
_DAY: Final = re.compile(r"([0-9]{1,2})(?![0-9])")
_YEAR: Final = re.compile(r"([0-9]{2,4})(?![0-9])")
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


class _Place(NamedTuple):
    """What a cookie is known by: a newer one of the same place takes it."""

    origin: tuple[str, str, int]
    path: str
    name: str


class _Cookie(NamedTuple):
    pair: str
    bytes: int
    expires_at_s: float | None


class Cookies:
    """Those of one URL.  Times are in seconds since the epoch; over a bound the oldest leaves."""

    __slots__ = ("_bytes", "_kept")

    def __init__(self) -> None:
        self._kept: dict[_Place, _Cookie] = {}
        self._bytes = 0

    def take(self, url: ParsedUrl, lines: Iterable[str], now_s: float) -> None:
        """The answer of *url* had these Set-Cookie *lines*."""
        for line in lines:
            self._take(url, line, now_s)

    def header(self, url: ParsedUrl, now_s: float) -> str | None:
        """What *url* is sent as Cookie; None when it is sent none."""
        path = url.target.partition("?")[0]
        fitting = [
            (place, cookie)
            for place, cookie in self._kept.items()
            if place.origin == url.origin and _is_below(path, place.path) and not _is_over(cookie.expires_at_s, now_s)
        ]
        fitting.sort(key=lambda found: -len(found[0].path))  # the rest as they came (5.4)
        return "; ".join(cookie.pair for _, cookie in fitting) or None

    def _take(self, url: ParsedUrl, line: str, now_s: float) -> None:
        pair, *attributes = line.split(";", MAX_ATTRIBUTES + 1)
        name, sign, value = (part.strip(" \t") for part in pair.partition("="))
        if not sign or not name or not _SENDABLE.fullmatch(pair):
            return
        said = _attributes(attributes[:MAX_ATTRIBUTES])
        if "secure" in said and url.scheme != "https":
            return
        path = said.get("path", "")
        place = _Place(url.origin, path if path.startswith("/") else _default_path(url), name)
        self._forget(place)
        expires_at_s = _expires_at_s(said, now_s)
        cookie = _Cookie(f"{name}={value}", len(f"{name}={value}; ".encode()), expires_at_s)
        if _is_over(expires_at_s, now_s) or cookie.bytes > MAX_BYTES:
            return
        while len(self._kept) >= MAX_COOKIES or self._bytes + cookie.bytes > MAX_BYTES:
            self._forget(next(iter(self._kept)))
        self._kept[place] = cookie
        self._bytes += cookie.bytes

    def _forget(self, place: _Place) -> None:
        cookie = self._kept.pop(place, None)
        if cookie is not None:
            self._bytes -= cookie.bytes


def _attributes(parts: list[str]) -> dict[str, str]:
    """By their names in lower case; of one that is repeated the last counts."""
    said = {}
    for part in parts:
        name, _, value = part[:MAX_ATTRIBUTE_CHARS].partition("=")
        said[name.strip(" \t").lower()] = value.strip(" \t")
    return said


def _default_path(url: ParsedUrl) -> str:
    """Of a cookie that names none (5.1.4): the folder of what set it."""
    return url.target.partition("?")[0].rpartition("/")[0] or "/"


def _is_below(path: str, folder: str) -> bool:
    return path == folder or (path.startswith(folder) and (folder.endswith("/") or path[len(folder)] == "/"))


def _is_over(expires_at_s: float | None, now_s: float) -> bool:
    return expires_at_s is not None and expires_at_s <= now_s


def _expires_at_s(said: dict[str, str], now_s: float) -> float | None:
    """When a cookie with these attributes ends; None when it does not, within one URL's time."""
    age = _MAX_AGE.fullmatch(said.get("max-age", ""))
    if age is not None and age[0] not in ("", "-"):
        seconds = age[2].lstrip("0")
        return now_s if age[1] or not seconds else now_s + min(float(seconds[:10]), _FOREVER_S)
    return cookie_date_s(said.get("expires", ""))


def cookie_date_s(text: str) -> float | None:
    """A cookie's date in seconds since the epoch, however it is written (RFC 6265, 5.1.1); None when it is none."""
    at = day = month = year = None
    for token in _DATE_TOKENS.findall(text):
        if at is None and (found := _TIME.match(token)):
            at = found
        elif day is None and (found := _DAY.match(token)):
            day = int(found[1])
        elif month is None and token[:3].lower() in _MONTHS:
            month = _MONTHS.index(token[:3].lower()) + 1
        elif year is None and (found := _YEAR.match(token)):
            year = int(found[1])
    if at is None or day is None or month is None or year is None:
        return None
    if year < 100:
        year += 1900 if year >= 70 else 2000
    try:
        return datetime(year, month, day, int(at[1]), int(at[2]), int(at[3]), tzinfo=UTC).timestamp()
    except ValueError:
        return None
