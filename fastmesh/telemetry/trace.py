"""Where a request belongs in a trace that its caller began (W3C Trace Context, level 1).

``traceparent`` is validated; a malformed one is ignored and a trace begun.
``tracestate`` is not passed on: it is its vendors' business, and origins are strangers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from secrets import token_hex
from typing import Final, Self

HEADER: Final = "traceparent"

# A later version may have more fields behind these (section 3.2.4 of the recommendation).
_PARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16
_SAMPLED: Final = 0x01


@dataclass(frozen=True, slots=True)
class Trace:
    """One span of a trace: this daemon's part of it, or one of its fetches."""

    trace_id: str
    span_id: str
    sampled: bool = False
    parent_id: str = ""  # the span above it, if there is one
    begun: bool = False  # here

    @classmethod
    def begin(cls) -> Self:
        """A trace of our own."""
        return cls(token_hex(16), _span_id(), begun=True)

    @classmethod
    def of(cls, traceparent: str | None) -> Self:
        """A span below the one that *traceparent* names; a trace of our own when that is none."""
        match = _PARENT.fullmatch(traceparent or "")
        if match is None:
            return cls.begin()
        version, trace_id, span_id, flags, more = match.groups()
        if version == "ff" or (version == "00" and more) or trace_id == _NO_TRACE or span_id == _NO_SPAN:
            return cls.begin()
        return cls(trace_id, _span_id(), bool(int(flags, 16) & _SAMPLED), span_id)

    def child(self) -> Trace:
        """A span below this one."""
        return Trace(self.trace_id, _span_id(), self.sampled, self.span_id, self.begun)

    @property
    def header(self) -> str:
        """As ``traceparent``, for the server that is asked in this span."""
        return f"00-{self.trace_id}-{self.span_id}-{int(self.sampled):02x}"


def _span_id() -> str:
    span_id = token_hex(8)
    return span_id if span_id != _NO_SPAN else _span_id()
