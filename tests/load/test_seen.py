"""What the load test calls a hole, a gap and a whole stream."""

from __future__ import annotations

from typing import Any

import pytest

from loadtest.streams import Hole, Seen, StreamFailed


def result(seq: int) -> dict[str, Any]:
    return {"type": "result", "seq": seq, "index": seq - 2}


def gap(first: int, last: int) -> dict[str, Any]:
    return {"type": "gap", "from_seq": first, "to_seq": last}


def summary(seq: int, results: int) -> dict[str, Any]:
    return {"type": "summary", "seq": seq, "status": "completed", "successful": results, "failed": 0}


METADATA = {"type": "metadata", "seq": 1}
BEAT = {"type": "heartbeat"}


def seen(*frames: dict[str, Any]) -> Seen:
    found = Seen()
    for frame in frames:
        found.take(frame)
    return found


def test_a_whole_stream_ends_well():
    found = seen(METADATA, result(2), BEAT, result(3), summary(4, 2))
    assert found.ended() == summary(4, 2)
    assert (found.frames, found.position, found.gaps, found.results) == (4, 4, [], {0, 1})


def test_what_a_gap_names_is_counted_and_no_hole():
    found = seen(METADATA, gap(2, 4), result(5), gap(6, 6), summary(7, 5))
    assert found.ended() == summary(7, 5)
    assert (found.frames, found.position, found.gaps, found.results) == (3, 7, [3, 1], {3})


@pytest.mark.parametrize(
    "frames",
    [
        (result(2),),
        (METADATA, result(3)),
        (METADATA, METADATA),
        (METADATA, result(2), gap(2, 3)),
        (METADATA, gap(2, 3), result(5)),
        (METADATA, summary(3, 1)),
    ],
)
def test_frames_that_are_missing_or_come_twice_are_a_hole(frames: tuple[dict[str, Any], ...]):
    with pytest.raises(Hole):
        seen(*frames)


@pytest.mark.parametrize(
    "frames",
    [
        (),
        (METADATA, result(2)),
        (METADATA, result(2), summary(3, 2)),
        (METADATA, summary(2, 0) | {"status": "cancelled"}),
    ],
)
def test_a_stream_without_a_summary_that_adds_up_has_failed(frames: tuple[dict[str, Any], ...]):
    with pytest.raises(StreamFailed):
        seen(*frames).ended()


def test_nothing_may_follow_the_summary():
    with pytest.raises(StreamFailed):
        seen(METADATA, summary(2, 0), result(3))
