"""W3C Trace Context: which traceparent is one, and what goes on from it."""

from __future__ import annotations

import re

import pytest

from fastmesh.telemetry.trace import Trace

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADER = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]")


@pytest.mark.parametrize(
    ("given", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-ff", True),  # flags that are not known yet
        (f"00-{TRACE}-{SPAN}-02", False),
        (f"cc-{TRACE}-{SPAN}-01", True),  # a later version
        (f"cc-{TRACE}-{SPAN}-01-what-comes-then", True),
    ],
)
def test_a_valid_one_is_gone_on_with_in_a_span_of_our_own(given: str, sampled: bool) -> None:
    trace = Trace.of(given)
    assert (trace.trace_id, trace.sampled) == (TRACE, sampled)
    assert trace.span_id != SPAN
    child = trace.child()
    assert (child.trace_id, child.sampled) == (TRACE, sampled)
    assert len({SPAN, trace.span_id, child.span_id}) == 3
    assert child.header == f"00-{TRACE}-{child.span_id}-{'01' if sampled else '00'}"
    assert HEADER.fullmatch(child.header)


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01-",
        f"cc-{TRACE}-{SPAN}-01more",
        f"00-{TRACE}-{SPAN}-01 ",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE}-{SPAN}-01, 00-{TRACE}-{SPAN}-01",
        f"00_{TRACE}_{SPAN}_01",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE[1:]}٣-{SPAN}-01",
    ],
)
def test_what_is_malformed_begins_a_trace(given: str | None) -> None:
    first, second = Trace.of(given), Trace.of(given)
    assert TRACE not in (first.trace_id, second.trace_id)
    assert first.trace_id != second.trace_id
    assert HEADER.fullmatch(first.header)
