"""What one of many raises is logged and counted, and the others have their slot."""

from __future__ import annotations

import asyncio
from typing import NoReturn

import pytest
from structlog.testing import capture_logs

from fastmesh.crawl.schedule.slots import Slots
from fastmesh.telemetry.bugs import LINES_A_MINUTE, Bugs
from fastmesh.telemetry.metrics import Metrics
from fastmesh.telemetry.spans import Spans
from fastmesh.telemetry.trace import Trace


def test_each_has_its_turn_and_the_log_says_which_raised() -> None:
    bugs, done = Bugs(), []

    def do(number: int) -> None:
        if number % 2:
            raise ValueError(number)
        done.append(number)

    with capture_logs() as lines:
        bugs.each("numbers", range(5), do, lambda number: {"number": number})
    assert done == [0, 2, 4]
    assert bugs.counts == {"numbers": 2}
    assert bugs.recent == 2
    assert [(line["event"], line["task"], line["number"], line["bugs"]) for line in lines] == [
        ("daemon.bug", "numbers", 1, 1),
        ("daemon.bug", "numbers", 3, 2),
    ]
    assert isinstance(lines[0]["exc_info"], ValueError)


def test_what_cannot_be_named_is_survived_too() -> None:
    bugs = Bugs()

    def broken(*_: object) -> NoReturn:
        raise KeyError("broken")

    with capture_logs() as lines:
        bugs.each("numbers", [7], broken, broken)
        assert not bugs.survive("alone", broken, name="x")
    assert [(line["task"], line.get("unnamed"), line.get("name")) for line in lines] == [
        ("numbers", "int", None),
        ("alone", None, "x"),
    ]


def test_an_end_that_was_asked_for_is_no_bug() -> None:
    def cancelled() -> NoReturn:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        Bugs().survive("alone", cancelled)


def test_what_raises_in_every_round_is_counted_always_and_told_so_often_a_minute() -> None:
    now = 60.0
    bugs = Bugs(lambda: now)
    with capture_logs() as lines:
        for _ in range(1000):
            bugs.met("rounds", ValueError("x"))
        bugs.met("others", ValueError("x"))
    assert len(lines) == LINES_A_MINUTE + 1
    assert bugs.counts == {"rounds": 1000, "others": 1}
    assert bugs.recent == 1001
    now = 121.0
    with capture_logs() as lines:
        bugs.met("rounds", ValueError("x"))
    assert [line["bugs"] for line in lines] == [1001]
    assert bugs.recent == 1


# ── who looks after many ─────────────────────────────────────────────────────────────────


def test_a_figure_that_raises_is_missing_and_all_others_are_said() -> None:
    metrics = Metrics()

    def broken() -> NoReturn:
        raise KeyError("broken")

    metrics.register("before", "x", lambda: 1)
    metrics.register("broken", "x", broken)
    metrics.register("after", "x", lambda: 2)
    said = {sample.name: sample.value for family in metrics.registry.collect() for sample in family.samples}
    assert (said["fastmesh_before"], said["fastmesh_after"]) == (1, 2)
    assert "fastmesh_broken" not in said
    assert said["fastmesh_survived_bugs_total"] == 1


def test_who_raises_at_its_turn_takes_it_from_nobody() -> None:
    async def run() -> None:
        bugs = Bugs()
        slots = Slots(8, 1, starts_per_s=50.0, bugs=bugs)

        def ask(host: str) -> None:
            slot = slots.take(host)
            slot.give_back(asked=True)

        for host in ("a", "b"):
            slots.meet(host, None)
            ask(host)
        began: list[str] = []
        done = asyncio.Event()

        def begin(name: str, host: str) -> None:
            if name == "broken":
                raise KeyError(name)
            began.append(name)
            ask(host)
            if len(began) == 4:
                done.set()

        for host in ("a", "b"):
            for name in ("broken", f"{host}1", f"{host}2"):
                slots.wait(host, name, lambda name=name, host=host: begin(name, host))  # type: ignore[misc]
        await asyncio.wait_for(done.wait(), 30)
        assert sorted(began) == ["a1", "a2", "b1", "b2"]
        assert bugs.counts == {"turns": 2}

    asyncio.run(run())


def test_a_span_that_cannot_be_told_costs_its_page_nothing() -> None:
    class Broken:
        def on_end(self, _span: object) -> NoReturn:
            raise KeyError("broken")

    bugs = Bugs()
    spans = Spans(Broken(), bugs)  # type: ignore[arg-type]
    with spans.request("http://a.test/", Trace.begin()) as attributes:
        attributes["http.response.status_code"] = 200
    assert bugs.counts == {"spans": 1}
