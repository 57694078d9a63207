"""Whose reading a stream waits for: the table of places."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from fastmesh.streaming.pacer import PacerPlace, Place


@dataclass(eq=False)
class Reader:
    returning: bool = False


class Stream:
    """A place, and who is attached, as the pipeline tells it."""

    def __init__(self, *, detached: bool = False) -> None:
        self.pacer: PacerPlace[Reader] = PacerPlace(0.0, detached=detached)
        self.readers: list[Reader] = []

    def attach(self, *, returning: bool = False) -> Reader:
        reader = Reader(returning)
        self.readers.append(reader)
        self.pacer.attached(reader)
        return reader

    def leave(self, reader: Reader, now: float = 1.0) -> None:
        self.readers.remove(reader)
        self.pacer.left(reader, self.readers, now)


def test_the_first_takes_a_place_that_nobody_has_held() -> None:
    stream = Stream()
    assert (stream.pacer.place, stream.pacer.vacant) == (Place.UNCLAIMED, True)
    first = stream.attach()
    stream.attach()
    assert (stream.pacer.place, stream.pacer.holder, stream.pacer.vacant) == (Place.HELD, first, False)


def test_a_place_that_was_left_stays_at_its_position_and_waits_since_then() -> None:
    stream = Stream()
    first = stream.attach()
    stream.leave(first, now=7.0)
    assert (stream.pacer.place, stream.pacer.holder, stream.pacer.since) == (Place.LEFT, first, 7.0)


def test_who_comes_without_a_position_takes_no_left_place() -> None:
    stream = Stream()
    first = stream.attach()
    stream.leave(first)
    stream.attach()
    assert (stream.pacer.place, stream.pacer.holder) == (Place.LEFT, first)
    back = stream.attach(returning=True)
    assert (stream.pacer.place, stream.pacer.holder) == (Place.HELD, back)


def test_who_returned_while_the_old_connection_was_not_known_to_be_dead_takes_it_over() -> None:
    stream = Stream()
    old, other, back, later = (
        stream.attach(),
        stream.attach(),
        stream.attach(returning=True),
        stream.attach(returning=True),
    )
    assert stream.pacer.holder is old
    stream.leave(other)
    stream.leave(old)
    assert (stream.pacer.place, stream.pacer.holder) == (Place.HELD, back)
    stream.leave(back)
    assert stream.pacer.holder is later


def test_who_does_not_hold_it_changes_nothing_by_leaving() -> None:
    stream = Stream()
    first, other = stream.attach(), stream.attach()
    stream.leave(other)
    assert (stream.pacer.place, stream.pacer.holder) == (Place.HELD, first)


def test_after_the_window_the_longest_attached_takes_it() -> None:
    stream = Stream()
    first, second, _ = stream.attach(), stream.attach(), stream.attach()
    stream.leave(first)
    assert stream.pacer.window_over(stream.readers)
    assert (stream.pacer.place, stream.pacer.holder) == (Place.HELD, second)


@pytest.mark.parametrize("claimed", [False, True])
def test_after_the_window_with_nobody_there_it_is_over(claimed: bool) -> None:
    stream = Stream()
    if claimed:
        stream.leave(stream.attach())
    assert not stream.pacer.window_over(stream.readers)


def test_a_detached_stream_waits_for_nobody() -> None:
    stream = Stream(detached=True)
    reader = stream.attach(returning=True)
    assert (stream.pacer.place, stream.pacer.holder, stream.pacer.vacant) == (Place.NOBODY, None, False)
    stream.leave(reader)
    assert stream.pacer.place is Place.NOBODY
