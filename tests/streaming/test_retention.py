"""What is kept, by mode and by what moved a position: one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from fastmesh import config
from fastmesh._core import Journal
from fastmesh.streaming.memory import BufferManager
from fastmesh.streaming.pacer import PacerPlace
from fastmesh.streaming.ports import JournalBounds
from fastmesh.streaming.retention import CuttingOff, Detached, DetachedDropping, Dropping, Paced, Retention

FRAMES = 8  # of one size, as long as their numbers have one digit
AHEAD, DETACHED = 2, 3  # frames


@dataclass
class Port:
    paused: bool = False


@dataclass(eq=False)
class Reader:
    """A reader, as far as retention knows one; when it lags it passes all but the last frame."""

    stream: Stream
    next_seq: int = 1
    returning: bool = False
    waited_for: bool = False
    lags: bool = False
    sink: Port = field(default_factory=Port)

    @property
    def offset(self) -> int:
        return (self.next_seq - 1) * self.stream.size

    @property
    def unread_bytes(self) -> int:
        return self.stream.journal.ring.appended_bytes - self.offset

    def would_leave_out(self) -> bool:
        return self.lags

    def leave_out(self) -> None:
        self.next_seq = self.stream.journal.last_seq


class Stream:
    """A journal of FRAMES frames that nobody has read, in a mode, and the verbs by which positions move."""

    def __init__(self, mode: type[Retention], behind: int = 0) -> None:
        loaded = config.load({}, environ={}).values
        buffers = BufferManager(loaded.buffer, lambda call: None)
        self.journal = Journal(buffers.total, lambda: 0.0, b"id")
        self.pacer: PacerPlace[Reader] = PacerPlace(0.0, detached=issubclass(mode, Detached))
        self.attached: list[Reader] = []
        self.journal.append({"type": "r"})
        self.size = self.journal.ring.length(1)
        bounds = JournalBounds(behind * self.size, DETACHED * self.size, AHEAD * self.size)
        self.retention = mode(self.journal, self.pacer, self.attached, bounds, buffers)  # type: ignore[arg-type]
        self.cut_off: list[Reader] = []
        for _ in range(FRAMES - 1):
            self.journal.append({"type": "r"})

    def come(self, seq: int = 1, *, returning: bool = False) -> Reader:
        reader = Reader(self, seq, returning)
        self.attached.append(reader)
        self.pacer.attached(reader)
        self.retention.moved()
        return reader

    def read(self, reader: Reader, end: int) -> None:
        seq, reader.next_seq = reader.next_seq, end
        if reader.waited_for:
            self.retention.read(seq, end, reader.offset)

    def leave(self, reader: Reader) -> None:
        self.attached.remove(reader)
        self.pacer.left(reader, self.attached, 0.0)
        self.retention.moved()

    def append(self, *, result: bool = True) -> None:
        self.journal.append({"type": "r"})
        if (slow := self.retention.appended(result=result)) is not None:
            self.cut_off.append(slow)  # type: ignore[arg-type]

    @property
    def first(self) -> int:
        return self.journal.ring.first


def comes(stream: Stream) -> None:
    stream.come()


def comes_with_a_position(stream: Stream) -> None:
    stream.come(4)


def reads(stream: Stream) -> None:
    stream.read(stream.come(), 5)


def another_reads(stream: Stream) -> None:
    stream.come()
    stream.read(stream.come(), 5)


def reads_from_the_middle(stream: Stream) -> None:
    stream.read(stream.come(3), 6)


def reads_and_a_frame_comes(stream: Stream) -> None:
    reads(stream)
    stream.append()


def lags_and_a_result_comes(stream: Stream) -> None:
    stream.come().lags = True
    stream.append()


def lags_and_an_error_comes(stream: Stream) -> None:
    stream.come().lags = True
    stream.append(result=False)


def is_found_to_lag(stream: Stream) -> None:
    stream.come().sink.paused = True
    slow = stream.retention.look_at_lag()
    stream.cut_off += [] if slow is None else [slow]  # type: ignore[list-item]


def reads_and_leaves(stream: Stream) -> None:
    reader = stream.come()
    stream.read(reader, 3)
    stream.leave(reader)


def leaves_after_the_summary(stream: Stream) -> None:
    reader = stream.come()
    stream.read(reader, 3)
    stream.journal.seal()
    stream.leave(reader)


def leaves_and_a_result_comes(stream: Stream) -> None:
    reads_and_leaves(stream)
    stream.append()


def leaves_an_heir(stream: Stream) -> None:
    reader = stream.come()
    stream.come(4, returning=True)
    stream.leave(reader)


def leaves_and_one_returns(stream: Stream) -> None:
    reads_and_leaves(stream)
    stream.come(7, returning=True)


def leaves_and_its_window_is_over(stream: Stream) -> None:
    reader = stream.come()
    stream.come(4)
    stream.leave(reader)
    assert stream.pacer.window_over(stream.attached)
    stream.retention.moved()


MODES: tuple[type[Retention], ...] = (Paced, Dropping, CuttingOff, Detached, DetachedDropping)
# The first frame that is kept, by mode; of FRAMES frames, or of one more.
TABLE: dict[Callable[[Stream], None], tuple[int, int, int, int, int]] = {
    comes: (1, 1, 1, 1, 1),
    comes_with_a_position: (4, 4, 4, 1, 1),
    reads: (5, 5, 5, 1, 1),
    another_reads: (1, 1, 1, 1, 1),
    reads_from_the_middle: (6, 6, 6, 1, 1),
    reads_and_a_frame_comes: (5, 5, 5, 5, 7),  # of a detached stream what was sent, or as much as is too much
    lags_and_a_result_comes: (1, 9, 1, 1, 7),
    lags_and_an_error_comes: (1, 1, 1, 1, 7),
    is_found_to_lag: (1, 8, 1, 1, 1),
    reads_and_leaves: (3, 6, 6, 1, 1),  # where nobody is held, AHEAD frames before the last
    leaves_after_the_summary: (3, 3, 3, 1, 1),
    leaves_and_a_result_comes: (3, 7, 7, 3, 7),
    leaves_an_heir: (4, 4, 4, 1, 1),
    leaves_and_one_returns: (7, 7, 7, 1, 1),
    leaves_and_its_window_is_over: (4, 6, 6, 1, 1),
}


@pytest.mark.parametrize("moved", TABLE, ids=lambda moved: moved.__name__)
@pytest.mark.parametrize("mode", MODES)
def test_so_much_is_kept(mode: type[Retention], moved: Callable[[Stream], None]) -> None:
    stream = Stream(mode)
    moved(stream)
    assert stream.first == TABLE[moved][MODES.index(mode)]
    stuck = moved in (lags_and_a_result_comes, is_found_to_lag)
    assert len(stream.cut_off) == (mode is CuttingOff and stuck)


@pytest.mark.parametrize("mode", MODES)
def test_behind_a_reader_that_is_waited_for_so_much_is_kept_too(mode: type[Retention]) -> None:
    stream = Stream(mode, behind=2)
    reads(stream)
    assert stream.first == (1 if issubclass(mode, Detached) else 3)


@pytest.mark.parametrize("mode", MODES)
def test_of_a_closed_stream_all_is_kept_until_memory_is_short(mode: type[Retention]) -> None:
    stream = Stream(mode)
    stream.journal.seal()
    stream.retention.close()
    assert stream.retention.kept_from() == (FRAMES + 1, FRAMES * stream.size)
    stream.pacer.holder = None
    others = [Reader(stream, seq) for seq in (6, 3)]
    stream.attached += others
    stream.retention.moved()
    assert (stream.first, stream.retention.kept_from()) == (1, (3, 2 * stream.size))
    assert stream.retention.behind_bytes == 2 * stream.size
    stream.retention.let_go_behind(stream.size)
    assert stream.first == 2
    stream.retention.let_go_behind(0)
    assert stream.first == 3  # and no reader loses what it has not read
    stream.retention.let_go_beyond_window(0)
    assert stream.first == FRAMES + 1 - AHEAD  # unless there is no other way


@pytest.mark.parametrize("mode", [Paced, Dropping, CuttingOff])
def test_a_closed_stream_lets_go_behind_who_has_taken_its_place_and_takes_nothing_from_others(
    mode: type[Retention],
) -> None:
    stream = Stream(mode)
    stream.leave(stream.come())
    stream.journal.seal()
    stream.pacer.holder = None
    stream.retention.close()
    other = stream.come(2)
    back = stream.come(2, returning=True)
    stream.read(back, 7)
    assert stream.first == (other.next_seq if mode is Paced else FRAMES - AHEAD)  # what went when the place was left
    stream.leave(other)
    assert stream.first == 7
