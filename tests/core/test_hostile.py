"""Nothing that Python does crashes the C code: each kind of it in a process of its own, which a crash would end.

PYTHONMALLOC=debug fills what is freed, so that what is still read of it is seen.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path
from textwrap import indent

import pytest
from test_reader_model import ENCODER, Telling, Told

from fastmesh._core import BackpressureHandler, Journal, MemoryTotal, Outlet, Pump, RingBuffer, SentCounts, wake

HERE = Path(__file__).parent


def run(*arguments: str) -> None:
    """Run Python with *arguments*, which must say at last that it is done."""
    whole = [sys.executable, "-X", "faulthandler", "-W", "error", *arguments]
    environment = {**os.environ, "PYTHONMALLOC": "debug", "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run(whole, env=environment, capture_output=True, text=True, check=False)
    tried = ran.stdout.splitlines()
    assert tried, ran.stderr
    assert (ran.returncode, tried[-1]) == (0, "done"), "\n".join([*tried[-3:], ran.stderr])


def test_whatever_is_given_to_whatever_the_stub_names() -> None:
    run(str(HERE / "hostile.py"))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 22))
def test_whatever_is_given_in_whatever_order(seed: int) -> None:
    run(str(HERE / "hostile.py"), str(seed))


def test_whatever_is_done_by_whom_a_delivery_calls() -> None:
    run(str(HERE / "reentry.py"))


SMALL_STACK = """
import gc, threading
from fastmesh._core import Batch, Outlet, Pump

def snippet():
{}
    print("done")

threading.stack_size(1 << 17)
thread = threading.Thread(target=snippet)
thread.start()
thread.join()
"""
SNIPPETS = {
    "a long queue is freed without a deep stack": """
pump = Pump(lambda _: None, quantum_bytes=1, turn_bytes=1, least_bytes=1)
gc.disable()
for _ in range(30_000): Outlet(pump).ready()
del pump
gc.collect()
""",
    "a long chain is freed without a deep stack": """
pump, chain = Pump(print, quantum_bytes=1, turn_bytes=1, least_bytes=1), None
for _ in range(30_000):
    new = Outlet(pump)
    new.transport, chain = chain, new
del chain, new
""",
    "a batch keeps its frames alive, whatever becomes of its list": """
frames = [b"%d" % number * 100 for number in range(50)]
batch, whole = Batch(frames), b"".join(frames)
frames.clear()
assert b"".join(batch) == whole
""",
}


@pytest.mark.parametrize("snippet", SNIPPETS.values(), ids=SNIPPETS)
def test_what_is_freed_is_freed_in_order(snippet: str) -> None:
    run("-c", SMALL_STACK.format(indent(snippet, "    ")))


def test_a_queue_that_lost_its_callback_once_is_served_later() -> None:
    calls: list[object] = []

    def call_soon(call: object) -> None:
        calls.append(call)
        if len(calls) == 1:
            raise RuntimeError("the loop is closed")

    pump = Pump(call_soon, quantum_bytes=1, turn_bytes=100, least_bytes=1)
    first, second = Outlet(pump), Outlet(pump)
    with pytest.raises(RuntimeError):
        first.ready()
    second.ready()
    assert len(calls) == 2


def test_a_turn_that_would_move_nothing_is_refused() -> None:
    for numbers in ((0, 1, 1), (1, 0, 1), (1, 1, -1)):
        with pytest.raises(ValueError, match="must move something"):
            Pump(print, **dict(zip(("quantum_bytes", "turn_bytes", "least_bytes"), numbers, strict=True)))


def test_what_a_collected_cycle_held_is_given_back() -> None:
    total = MemoryTotal(1 << 20, print, print)
    ring = RingBuffer(total)
    ring.append(b"x" * 500, 0.0)
    cycle: list[object] = [ring]
    cycle.append(cycle)
    assert total.held > 500
    del ring, cycle
    gc.collect()
    assert total.held == 0


def test_who_calls_a_method_of_another_is_refused() -> None:
    for method in (RingBuffer.read, Journal.seal, Outlet.ready):
        with pytest.raises(TypeError, match="doesn't apply"):
            method(object())  # type: ignore[arg-type, call-arg]


def test_all_readers_are_told_whoever_raises() -> None:
    class Sink(Told):
        def ready(self) -> None:
            super().ready()
            if self.holds == 0:
                raise ZeroDivisionError

    journal = Journal(MemoryTotal(1 << 20, print, print), lambda: 1.0, b"id")
    sinks = [Sink(holds) for holds in (1, 0, 1, 0, 1)]
    readers = [
        Telling(sink, journal, ENCODER, BackpressureHandler(1.0), sink, SentCounts((1.0,)), None, None)
        for sink in sinks
    ]
    with pytest.raises(ZeroDivisionError):
        wake(readers)
    assert [sink.said for sink in sinks] == [["ready"]] * 5
