"""The one tree of errors.

Each error knows what to tell a client: ``type``, ``message`` and ``retryable``
(contract sections 3 and 4).  ``ApiError`` refuses a request, ``UrlError`` fails
one URL of a stream, ``ConfigError`` stops the start.
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

E = TypeVar("E", bound=BaseException)


class FastmeshError(Exception):
    """The root: everything that fastmesh raises on purpose."""


class ConfigError(FastmeshError):
    """A setting is unknown or not allowed; the message names it, its value and its source."""


# ── a request that is refused ────────────────────────────────────────────────────────────


class ApiError(FastmeshError):
    """A request is refused before its stream starts."""

    type: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        stream_id: str | None = None,
        retry_after_s: int | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.stream_id = stream_id
        self.retry_after_s = retry_after_s
        self.headers = headers

    def envelope(self, request_id: str) -> dict[str, Any]:
        """The body of the refusal."""
        error: dict[str, Any] = {
            "type": self.type,
            "message": self.message,
            "retryable": self.retryable,
            "status": self.status,
            "request_id": request_id,
        }
        if self.field is not None:
            error["field"] = self.field
        if self.stream_id is not None:
            error["stream_id"] = self.stream_id
        return {"error": error}


class InternalError(ApiError):
    """A fault of our own."""


class ValidationError(ApiError):
    """The body or the query is not what the endpoint takes."""

    type, status = "validation_error", 400


class BadRequest(ApiError):
    """Not HTTP as RFC 9112 has it, or HTTP that two readers could read differently."""

    type, status = "bad_request", 400


class Unauthorized(ApiError):
    """No token was shown, or none that is let in."""

    type, status = "unauthorized", 401

    def __init__(self, message: str) -> None:
        super().__init__(message, headers=(("WWW-Authenticate", 'Bearer realm="fastmesh"'),))


class Forbidden(ApiError):
    """A page of another origin asks."""

    type, status = "forbidden", 403


class NotFound(ApiError):
    """No such path."""

    type, status = "not_found", 404


class MethodNotAllowed(ApiError):
    """The path is there, the method is not."""

    type, status = "method_not_allowed", 405

    def __init__(self, method: str, allowed: tuple[str, ...]) -> None:
        allow = ", ".join(allowed)
        super().__init__(f"{method} is not allowed here; allowed: {allow}", headers=(("Allow", allow),))


class Conflict(ApiError):
    """The request does not fit what is there already."""

    type, status = "conflict", 409


class RequestTimeout(ApiError):
    """The head or the body did not arrive in time."""

    type, status, retryable = "request_timeout", 408, True


class PayloadTooLarge(ApiError):
    """The body is over the limit."""

    type, status = "payload_too_large", 413


class UnsupportedMediaType(ApiError):
    """The body is not application/json."""

    type, status = "unsupported_media_type", 415


class MisdirectedRequest(ApiError):
    """The Host is none that this daemon serves."""

    type, status = "misdirected_request", 421


class UpgradeRequired(ApiError):
    """A WebSocket stands at this path."""

    type, status = "upgrade_required", 426

    def __init__(self, message: str) -> None:
        super().__init__(
            message,
            headers=(("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")),
        )


class RateLimited(ApiError):
    """This client has as many streams as it may have, or opens them too fast."""

    type, status, retryable = "rate_limited", 429, True


class HeaderTooLarge(ApiError):
    """The head is over the limit."""

    type, status = "header_too_large", 431


class Overloaded(ApiError):
    """The daemon has as much to do as it may have."""

    type, status, retryable = "overloaded", 503, True


class SearchUnavailable(ApiError):
    """No search provider is set, or it does not answer as one."""

    type, status, retryable = "search_unavailable", 503, True

    def __init__(self, message: str, *, retry_after_s: int = 10) -> None:
        super().__init__(message, retry_after_s=retry_after_s)


class TooManyErrors(ApiError):
    """As many URLs of a stream failed as its request allowed."""

    type = "too_many_errors"


class ShuttingDown(ApiError):
    """The daemon drains and takes no new streams."""

    type, status, retryable = "shutting_down", 503, True


# ── a URL that fails ─────────────────────────────────────────────────────────────────────


class UrlError(FastmeshError):
    """One URL failed; its result says so and the stream goes on.

    *answered* is the URL, status and content type of the answer whose body failed.
    """

    type: ClassVar[str] = "internal"
    retryable: bool = False
    answered: tuple[str, int, str | None] | None = None

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s

    def as_json(self) -> dict[str, Any]:
        """The ``error`` of a result."""
        error: dict[str, Any] = {"type": self.type, "message": self.message, "retryable": self.retryable}
        if self.retry_after_s is not None:
            error["retry_after_s"] = self.retry_after_s
        return error


class UrlInternal(UrlError):
    """A fault of our own, at this URL."""


class InvalidUrl(UrlError):
    """Not an http or https URL that can be fetched as written."""

    type = "invalid_url"


class BlockedAddress(UrlError):
    """The address guard refuses where this leads; *by_name*: to where a name leads now."""

    type = "blocked_address"

    def __init__(self, message: str, *, by_name: bool = False) -> None:
        super().__init__(message)
        self.by_name = by_name


class RobotsDisallowed(UrlError):
    """The origin's robots.txt says no, or cannot say anything."""

    type = "robots"


class DnsFailed(UrlError):
    """The name was not resolved."""

    type, retryable = "dns", True


class ConnectFailed(UrlError):
    """No connection, or one that broke before the page was whole."""

    type, retryable = "connect", True


class BadResponse(UrlError):
    """An answer that is no HTTP, or that two readers would read differently."""

    type = "bad_response"


class TlsFailed(UrlError):
    """No trusted TLS session."""

    type = "tls"


class FetchTimeout(UrlError):
    """The page did not arrive in time."""

    type, retryable = "timeout", True


class HttpStatus(UrlError):
    """The origin answered, but not with the page."""

    type = "http_status"
    RETRYABLE: ClassVar[frozenset[int]] = frozenset({408, 425, 429})

    def __init__(self, status: int, *, retry_after_s: float | None = None) -> None:
        super().__init__(f"the origin answered with status {status}", retry_after_s=retry_after_s)
        self.retryable = status in self.RETRYABLE or 500 <= status <= 599


class TooManyRedirects(UrlError):
    """More redirects than are followed, or a loop."""

    type = "too_many_redirects"


class TooLarge(UrlError):
    """The body, decompressed, is over the limit."""

    type = "too_large"


class UnsupportedContent(UrlError):
    """A kind of content that no document is made of."""

    type = "unsupported_content"


class DecodeFailed(UrlError):
    """The content coding is broken."""

    type = "decode"


class CacheMiss(UrlError):
    """Only the cache may be asked, and it has no fresh answer."""

    type = "cache_miss"


class ExtractFailed(UrlError):
    """The page arrived, but its extraction failed, died or took too long."""

    type = "extract"


def bare(error: E) -> E:
    """*error* without its frames, its cause and its context; all of these let go of theirs, too.

    For every place where an error comes to rest: in a result, in a task that several wait for, in a
    connection.  Its traceback holds all that was at hand where it was raised, a body and its decoder among that,
    and often whoever keeps the error: then it would stay until the collector of cycles looks for it.
    """
    linked: list[BaseException | None] = [error]
    while linked:
        one = linked.pop()
        if one is None:
            continue
        linked += (one.__cause__, one.__context__)
        if isinstance(one, BaseExceptionGroup):
            linked += one.exceptions
        one.__traceback__ = one.__cause__ = one.__context__ = None
    return error


def types_of(root: type[ApiError] | type[UrlError]) -> list[str]:
    """The types that *root* and the errors below it have, each once."""
    types = {root.type}
    for error in root.__subclasses__():
        types.update(types_of(error))
    return sorted(types)
