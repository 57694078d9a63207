"""A stream's life, as one table of transitions."""

from __future__ import annotations

from enum import StrEnum

from fastmesh.errors import FastmeshError


class State(StrEnum):
    """Where a stream is in its life."""

    INITIALIZING = "initializing"  # opened, nothing appended yet
    ACTIVE = "active"  # URLs are started as the window has room
    FLUSHING = "flushing"  # no URL is started; what runs finishes and what is unread is read
    CLOSING = "closing"  # the summary is appended and is being read
    ERROR = "error"  # the stream as a whole failed; the error frame is appended, the summary follows
    CLOSED = "closed"  # all was read, or nobody is left to read it


class Step(StrEnum):
    """What happens to a stream."""

    START = "start"
    FLUSH = "flush"
    RESUME = "resume"
    FAIL = "fail"
    CLOSE = "close"
    DONE = "done"


NEXT: dict[tuple[State, Step], State] = {
    (State.INITIALIZING, Step.START): State.ACTIVE,
    (State.INITIALIZING, Step.FAIL): State.ERROR,
    (State.INITIALIZING, Step.CLOSE): State.CLOSING,
    (State.ACTIVE, Step.FLUSH): State.FLUSHING,
    (State.ACTIVE, Step.FAIL): State.ERROR,
    (State.ACTIVE, Step.CLOSE): State.CLOSING,
    (State.FLUSHING, Step.RESUME): State.ACTIVE,
    (State.FLUSHING, Step.FAIL): State.ERROR,
    (State.FLUSHING, Step.CLOSE): State.CLOSING,
    (State.ERROR, Step.CLOSE): State.CLOSING,
    (State.CLOSING, Step.DONE): State.CLOSED,
}


class IllegalStep(FastmeshError):
    """A step that the table does not have: a bug, not a client's fault."""


class Lifecycle:
    """A stream's state, and its way through the table."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = State.INITIALIZING

    def step(self, step: Step) -> State:
        """Go where the table says and return where it was; raise IllegalStep where it says nothing."""
        old = self.state
        new = NEXT.get((old, step))
        if new is None:
            raise IllegalStep(f"a stream that is {old} cannot {step}")
        self.state = new
        return old

    @property
    def closed(self) -> bool:
        """Whether the stream is over."""
        return self.state is State.CLOSED

    @property
    def open(self) -> bool:
        """Whether results may still be appended."""
        return self.state in (State.INITIALIZING, State.ACTIVE, State.FLUSHING)
