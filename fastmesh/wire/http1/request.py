"""A request as routes and handlers know it."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastmesh.errors import ApiError


@dataclass(slots=True)
class Request:
    """A whole request; or, with a *fault*, as much of one as came before it was refused."""

    method: str = ""
    path: str = ""
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)  # names in lower case, values latin-1
    body: bytes = b""
    minor: int = 1  # HTTP/1.minor
    keep_alive: bool = False
    fault: ApiError | None = None

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for status 100 before it sends the body (RFC 9110, section 10.1.1)."""
        return self.minor == 1 and self.headers.get("expect", "").lower() == "100-continue"
