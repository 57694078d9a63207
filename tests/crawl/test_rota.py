"""Turns by client first: who opens more streams gets no more of them."""

from __future__ import annotations

from collections import Counter, defaultdict

from hypothesis import given
from hypothesis import strategies as st

from fastmesh.crawl.fairness.line import Rota

Waiter = tuple[str, str, int]


@given(st.dictionaries(st.tuples(st.sampled_from("abc"), st.sampled_from("uvwx")), st.integers(1, 20), min_size=1))
def test_clients_take_turns_and_so_do_the_streams_of_each(waiting: dict[tuple[str, str], int]) -> None:
    rota: Rota[Waiter] = Rota()
    for (client, stream), count in waiting.items():
        for number in range(count):
            rota.join(client, stream, (client, stream, number))
    assert rota.waiting == len(list(rota)) == sum(waiting.values())
    of_clients: Counter[str] = Counter()
    of_streams: defaultdict[str, Counter[str]] = defaultdict(Counter)
    left = Counter(waiting)
    while (waiter := rota.next()) is not None:
        client, stream, number = waiter
        assert number == of_streams[client][stream]  # each stream's in its own order
        of_clients[client] += 1
        of_streams[client][stream] += 1
        left[client, stream] -= 1
        # Nobody is two turns ahead of somebody who still waits.
        for behind in {whose for whose, _ in +left}:
            assert max(of_clients.values()) <= of_clients[behind] + 1
        for whose, behind in +left:
            assert max(of_streams[whose].values(), default=0) <= of_streams[whose][behind] + 1
    assert not +left
    assert rota.waiting == 0


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("uv"), st.integers(0, 3), st.booleans()), max_size=40))
def test_who_leaves_is_not_called_and_nothing_of_it_is_kept(script: list[tuple[str, str, int, bool]]) -> None:
    rota: Rota[Waiter] = Rota()
    there: set[Waiter] = set()
    for client, stream, number, joins in script:
        waiter = client, stream, number
        if joins and waiter not in there:
            rota.join(client, stream, waiter)
            there.add(waiter)
        elif not joins:
            assert rota.leave(client, stream, waiter) == (waiter in there)
            there.discard(waiter)
        assert rota.waiting == len(there)
        assert set(rota) == there
    called = [rota.next() for _ in range(len(there))]
    assert set(called) == there
    assert rota.next() is None
