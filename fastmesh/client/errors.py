"""What a client of the daemon can run into."""

from __future__ import annotations

from typing import Final

from fastmesh.errors import FastmeshError


class ClientError(FastmeshError):
    """The root of the client's errors."""


class ConnectionLost(ClientError):
    """The connection broke, or brought nothing for too long, and did not come back."""


class Unreachable(ConnectionLost):
    """Nobody answers at the address."""


class ProtocolViolation(ClientError):
    """What was received is not what the daemon promises; nothing after it can be trusted."""


class FrameTooLarge(ProtocolViolation):
    """A frame is over the limit of what is held in memory."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"a frame is over the limit of {limit_bytes} bytes")


class StreamLost(ClientError):
    """After a break the daemon does not know the stream any more: what came after *position* cannot be had."""

    def __init__(self, stream_id: str, position: int) -> None:
        super().__init__(f"the stream {stream_id} cannot be resumed after frame {position}: it is not known any more")
        self.stream_id = stream_id
        self.position = position


PASSING: Final = frozenset({429, 502, 503, 504})


class Refused(ClientError):
    """The daemon refused a request.  *type* is one of the daemon's error types, or ``http`` when something else
    answered in its place."""

    def __init__(
        self,
        status: int,
        type_: str,
        message: str,
        *,
        retryable: bool = False,
        request_id: str | None = None,
        field: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"refused with {status} {type_}: {message}")
        self.status = status
        self.type = type_
        self.message = message
        self.retryable = retryable
        self.request_id = request_id
        self.field = field
        self.retry_after_s = retry_after_s

    @property
    def passing(self) -> bool:
        """Whether the same request may be granted later."""
        return self.retryable or self.status in PASSING
