"""Errors of one URL: what its result says, and what the daemon concludes from them."""

from __future__ import annotations

from enum import Enum
from typing import Any, ClassVar

from fastmesh.errors.base import TypedError


class Reach(Enum):
    """How far a failed fetch came; for robots.txt it decides which rules hold (RFC 9309, section 2.3.1)."""

    UNREACHED = "no whole answer came: in a moment there may be one"
    ABSENT = "there is no page, or it is where nobody may fetch it"
    BROKEN = "there is an answer, but no page can be made of it"


class UrlError(TypedError):
    """One URL failed; its result says so and the stream goes on.

    A *fault* counts in the daemon's health: nobody answered, or not in time, or nothing could be made of the page;
    any other error is an answer.  *answered* is the URL, status and content type of the answer whose body failed.
    """

    type = "internal"
    fault: ClassVar[bool] = False
    reach: Reach = Reach.BROKEN
    answered: tuple[str, int, str | None] | None = None

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s

    def as_json(self) -> dict[str, Any]:
        """The ``error`` of a result."""
        error = super().as_json()
        if self.retry_after_s is not None:
            error["retry_after_s"] = self.retry_after_s
        return error


class UrlInternal(UrlError):
    """A fault of fastmesh itself, at this URL."""

    fault = True


class InvalidUrl(UrlError):
    """Not an http or https URL that can be fetched as written."""

    type, reach = "invalid_url", Reach.ABSENT


class BlockedAddress(UrlError):
    """The address guard refuses the address; one that was found *by_name* may be another in a moment."""

    type = "blocked_address"

    def __init__(self, message: str, *, by_name: bool = False) -> None:
        super().__init__(message)
        self.reach = Reach.UNREACHED if by_name else Reach.ABSENT


class RobotsDisallowed(UrlError):
    """The origin's robots.txt disallows the path, or cannot be read and so allows nothing."""

    type = "robots"


class DnsFailed(UrlError):
    """The name was not resolved."""

    type, retryable, fault, reach = "dns", True, True, Reach.UNREACHED


class ConnectFailed(UrlError):
    """No connection, or one that broke before the page was whole."""

    type, retryable, fault, reach = "connect", True, True, Reach.UNREACHED


class BadResponse(UrlError):
    """An answer that is not HTTP/1.1, or that two readers would read differently."""

    type, reach = "bad_response", Reach.UNREACHED


class TlsFailed(UrlError):
    """No TLS session, or none with a certificate that is trusted."""

    type, fault, reach = "tls", True, Reach.UNREACHED


class FetchTimeout(UrlError):
    """The page did not arrive in time."""

    type, retryable, fault, reach = "timeout", True, True, Reach.UNREACHED


class HttpStatus(UrlError):
    """The origin answered with a status that is no success."""

    type = "http_status"
    RETRYABLE: ClassVar[frozenset[int]] = frozenset({408, 425, 429})

    def __init__(self, status: int, *, retry_after_s: float | None = None) -> None:
        super().__init__(f"the origin answered with status {status}", retry_after_s=retry_after_s)
        self.retryable = status in self.RETRYABLE or 500 <= status <= 599
        self.reach = Reach.BROKEN if status >= 500 else Reach.ABSENT


class TooManyRedirects(UrlError):
    """More redirects than are followed, or a loop."""

    type, reach = "too_many_redirects", Reach.ABSENT


class TooLarge(UrlError):
    """The body, decompressed, is over the limit."""

    type = "too_large"


class UnsupportedContent(UrlError):
    """No document can be made of this kind of content."""

    type = "unsupported_content"


class DecodeFailed(UrlError):
    """The body's content coding is broken, or was not asked for."""

    type = "decode"


class CacheMiss(UrlError):
    """Only the cache may be asked, and it has no fresh answer."""

    type = "cache_miss"


class ExtractFailed(UrlError):
    """The page arrived, but its extraction failed, died or took too long."""

    type, fault = "extract", True
