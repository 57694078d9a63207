"""What the parts of a stream know of each other: what it was opened with, and protocols.

A stream knows what fills it as a Processor and where its text lies as a Store; a processor knows its input as a
Backlog; a reader knows its stream as a Source and where its bytes go as a Sink.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

from fastmesh._core import Journal
from fastmesh.events import PageResult
from fastmesh.telemetry.trace import Trace


@dataclass(frozen=True, slots=True)
class Opening:
    """What is known of a stream when it is opened."""

    stream_type: str
    request_id: str
    client: str | None  # whose it is, and whom it is counted for; None: this machine's, and nobody
    total_urls: int | None
    deadline_s: float
    detached: bool = False  # nobody is waited for
    on_slow: Literal["block", "drop", "disconnect"] = "block"  # what a slow reader in the pacer's place means
    progress: bool = False  # now and then its readers get news of how far it is
    kept: bool = True  # its journal can be read after its end
    connection: int = 0  # the number of the one that it was asked for on; 0: none
    trace: Trace = field(default_factory=Trace.begin)

    @property
    def asker(self) -> Hashable:
        """Whom its turns count for: its client; of this machine's, who have no token, each connection is one."""
        return self.connection if self.client is None else self.client


@dataclass(frozen=True, slots=True)
class JournalBounds:
    """How much of its text a stream keeps, in bytes."""

    behind: int  # behind who has the pacer's place
    detached: int  # in all, when it is detached
    ahead: int  # of a place that it does not wait for, or whose holder has left


R = TypeVar("R", contravariant=True)


class Processor(Protocol):
    """What fills a stream: a crawl, a deep search or the firehose."""

    @property
    def results(self) -> tuple[int, int]:
        """How many URLs succeeded and failed so far."""

    def start(self) -> None:
        """Begin; results are appended as the stream has room."""

    def room(self) -> None:
        """A reader took something: there may be room for more."""

    def stop(self, status: str) -> None:
        """End early; the summary says *status*."""

    async def join(self) -> None:
        """Wait until nothing of it runs any more."""


class Sink(Protocol):
    """Where a subscriber's bytes go: a connection, a part of one, or standard output."""

    @property
    def paused(self) -> bool:
        """Whether nothing may be written now."""

    def write(self, data: bytes) -> None:
        """Take *data*; may be paused when it returns."""

    def beat(self, data: bytes) -> None:
        """Take a heartbeat."""

    def ready(self) -> None:
        """There is something to serve."""

    def end(self) -> None:
        """The last byte of the stream was written."""

    def give_up(self) -> None:
        """Its reader is too slow and asked to be cut off then; the stream can be resumed."""


class Source(Protocol[R]):
    """A stream as its readers, which are R, know it."""

    id: str
    opening: Opening
    journal: Journal
    others: tuple[tuple[int, str], ...]  # the frames that are no results: seq and type, in their order
    now: Callable[[], float]  # its clock, in seconds
    cut_off: str | None  # why a reader was cut off that does not know it yet

    @property
    def named(self) -> dict[str, str]:
        """What every log line about the stream has."""

    @property
    def state(self) -> str:
        """Where the stream is in its life, for people."""

    def read(self, seq: int, end: int, offset: int) -> None:
        """A reader that is waited for took the frames *seq* to *end* (excluded), whose text ends at *offset*."""

    def room(self) -> None:
        """A reader that is waited for was served: there may be room for more."""

    def load(self, seq: int) -> Loading | None:
        """Frames from *seq* on, which the journal has let go of, as Store.read() has them."""

    def detach(self, reader: R) -> None:
        """*reader* is gone, or has read all."""


class Loading(Protocol):
    """Frames on their way from a store: an asyncio.Future is such a thing."""

    def add_done_callback(self, call: Callable[[Any], object], /) -> object:
        """Have *call* called with this, in a turn of its own, once the frames are there or cannot be had."""

    def result(self) -> Sequence[bytes]:
        """The frames' text; none when the store has let go of them meanwhile.  Raises what kept it from reading."""

    def cancel(self) -> object:
        """Nobody waits for the frames any more."""


class Store(Protocol):
    """Where the text of all streams lies: in journals, and behind them.

    Order: a stream's frames are numbered from 1 without a hole, and no number is given twice.  Shown: once a journal
    has a frame for its readers, that frame is as safe as the store promises, and is not taken back; a store that needs
    time for that makes journals that show a frame later than it was appended.  Let go: text that a journal has let
    go of lies in the store until that has let go of all of the stream's.
    """

    def open(self, stream_id: str) -> Journal:
        """The journal of a new stream."""

    def read(self, journal: Journal, seq: int) -> Loading | None:
        """The frames from *seq* on, of which *journal* has let go: one at least, as many as the store sees fit.  None
        when the store has let go of *seq*, too."""

    def forget(self, journal: Journal) -> None:
        """The stream can be read no more: let go of all of it."""


class Job(Protocol):
    """One URL that was started."""

    @property
    def index(self) -> int:
        """Its place in the input."""

    @property
    def repeats(self) -> Sequence[tuple[int, str, str | None]]:
        """Where the same URL stands again, whose result is this one's: index, URL and id."""

    def run(self) -> Coroutine[Any, Any, PageResult]:
        """Fetch and extract it.  It does not raise: a failed page is a result."""

    def close(self) -> None:
        """It has ended, or never began: it holds nothing any more.  Once or more."""


class Backlog(Protocol):
    """A stream's input as its processor sees it: the URLs that are not started yet.  Two facts are apart: whether a URL
    is left, and whether the input has ended.  While it has not, others may be added."""

    @property
    def left(self) -> int:
        """How many these are."""

    @property
    def ended(self) -> bool:
        """Whether the input has ended: no URL is added any more."""

    @property
    def total(self) -> int:
        """How many URLs the input has so far: those that were started and those that repeat another too."""

    @property
    def memory(self) -> int:
        """The bytes of all these; they stay until the stream ends."""

    def add(self, inputs: Sequence[Any]) -> None:
        """The input has grown: its owner is woken."""

    def end_of_input(self) -> None:
        """The input has ended: its owner is woken."""

    def ready(self) -> bool:
        """Whether one of them may be started now.  After a no, its owner is woken when that changes."""

    @property
    def first(self) -> int:
        """The index that ``take`` would start, right after ``ready`` said yes."""

    def take(self) -> Job:
        """Start one, right after ``ready`` said yes."""

    def close(self) -> None:
        """None is started any more."""


MakeBacklog = Callable[[Callable[[], None]], Backlog]  # empty; given what wakes its owner
