"""Tickets: one stream each, for a short time, and no more than so many."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmesh.api.access.tickets import MAX_UNUSED, MAX_USED, TICKET_S, Tickets
from fastmesh.errors import RateLimited

STREAM, OTHER = "00000-" + "a" * 32, "00000-" + "b" * 32


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_ticket_is_good_for_so_long() -> None:
    clock = Clock()
    tickets = Tickets(clock)
    text = tickets.issue("a")
    clock.now += TICKET_S - 0.001
    ticket = tickets.find(text, None)
    assert ticket is not None
    assert (ticket.client, ticket.stream_id) == ("a", None)
    clock.now += 0.001
    assert tickets.find(text, None) is None
    clock.now -= 1
    assert tickets.find(text, None) is None
    assert len(tickets) == 0


def test_a_used_one_is_good_for_its_stream_alone() -> None:
    clock = Clock()
    tickets = Tickets(clock)
    text = tickets.issue("a")
    ticket = tickets.find(text, None)
    assert ticket is not None
    ticket.use(STREAM, b"digest")
    ticket.use(OTHER, b"other")
    assert (ticket.stream_id, ticket.request) == (STREAM, b"digest")
    assert tickets.find(text, None) is ticket  # a connection that broke before its first event
    clock.now += TICKET_S
    assert tickets.find(text, None) is None
    assert tickets.find(text, f"{OTHER}:3") is None
    assert tickets.find(text, STREAM) is None
    clock.now += 1000
    assert tickets.find(text, f"{STREAM}:3") is ticket


def test_a_spent_one_is_good_for_nothing() -> None:
    tickets = Tickets(Clock())
    text = tickets.issue("a")
    ticket = tickets.find(text, None)
    assert ticket is not None
    ticket.spend()
    assert tickets.find(text, None) is None
    assert len(tickets) == 0


def test_what_is_no_ticket() -> None:
    tickets = Tickets(Clock())
    text = tickets.issue("a")
    for wrong in ("", text[:-1], text + "A", text.swapcase(), "\udcff", "é"):
        assert tickets.find(wrong, None) is None


def test_a_client_has_so_many_unused_ones() -> None:
    clock = Clock()
    tickets = Tickets(clock)
    for _ in range(MAX_UNUSED):
        tickets.issue("a")
    with pytest.raises(RateLimited) as error:
        tickets.issue("a")
    assert error.value.retry_after_s == TICKET_S + 1
    tickets.issue("b")
    clock.now += TICKET_S
    tickets.issue("a")
    assert len(tickets) == 2


@given(st.lists(st.sampled_from(["issue", "use", "spend", "wait", "find"]), max_size=60), st.data())
def test_all_books_agree_whatever_happens(steps: list[str], data: st.DataObject) -> None:
    clock = Clock()
    tickets = Tickets(clock)
    texts: list[str] = []
    for step in steps:
        if step == "issue":
            texts.append(tickets.issue(data.draw(st.sampled_from("ab"))))
        elif step == "wait":
            clock.now += TICKET_S / 2
        elif texts:
            found = tickets.find(data.draw(st.sampled_from(texts)), f"{STREAM}:1")
            if found is not None and step == "use":
                found.use(STREAM)
            elif found is not None and step == "spend":
                found.spend()
        books = [*tickets._unused.values(), *tickets._used.values()]
        assert sum(map(len, books)) == len(tickets)


def test_so_many_used_ones_are_kept() -> None:
    tickets = Tickets(Clock())
    for _ in range(MAX_USED + 5):
        ticket = tickets.find(tickets.issue("a"), None)
        assert ticket is not None
        ticket.use(STREAM)
    assert len(tickets) == MAX_USED
