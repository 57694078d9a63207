"""Errors that refuse a request, or end a stream: what their client is told, with which status."""

from __future__ import annotations

from typing import Any, ClassVar

from fastmesh.errors.base import TypedError


class ApiError(TypedError):
    """A request is refused before its stream starts, or its stream ends as failed."""

    type = "internal_error"
    status: ClassVar[int] = 500
    asked_for: ClassVar[bool] = False  # by the request itself: no sign that the daemon is ill

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
        self.field = field
        self.stream_id = stream_id
        self.retry_after_s = retry_after_s
        self.headers = headers

    def envelope(self, request_id: str) -> dict[str, Any]:
        """The body of the refusal."""
        error = self.as_json() | {"status": self.status, "request_id": request_id}
        if self.field is not None:
            error["field"] = self.field
        if self.stream_id is not None:
            error["stream_id"] = self.stream_id
        return {"error": error}


class InternalError(ApiError):
    """A fault of fastmesh itself."""


class ValidationError(ApiError):
    """The body or the query is not what the endpoint takes."""

    type, status = "validation_error", 400


class BadRequest(ApiError):
    """Not HTTP as RFC 9112 has it, or HTTP that two readers could read differently."""

    type, status = "bad_request", 400


class Unauthorized(ApiError):
    """No token was sent, or an unknown one."""

    type, status = "unauthorized", 401

    def __init__(self, message: str) -> None:
        super().__init__(message, headers=(("WWW-Authenticate", 'Bearer realm="fastmesh"'),))


class Forbidden(ApiError):
    """A page of another origin asks."""

    type, status = "forbidden", 403


class NotFound(ApiError):
    """There is nothing at this path, or no such stream."""

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
    """Only a WebSocket is served at this path."""

    type, status = "upgrade_required", 426

    def __init__(self, message: str) -> None:
        super().__init__(message, headers=(("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")))


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
    """As many URLs of a stream failed as its request allowed (``stop_after_errors``)."""

    type, asked_for = "too_many_errors", True


class ShuttingDown(ApiError):
    """The daemon drains and takes no new streams."""

    type, status, retryable = "shutting_down", 503, True
