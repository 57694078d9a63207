"""The simulation that compares rules for windows."""

from __future__ import annotations

import pytest

from loadtest.sizing import READERS, RULES, Connection, Stream


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_costs_a_fast_reader_anything(rule: str):
    outcome = Stream(RULES[rule](), READERS["fast: 100 MB/s"]).run()
    assert (max(outcome.unread_bytes), outcome.pauses) == (0, 0)


@pytest.mark.parametrize("reader", READERS)
def test_the_same_run_has_the_same_outcome(reader: str):
    assert Stream(RULES["seed"](), READERS[reader]).run() == Stream(RULES["seed"](), READERS[reader]).run()


def test_a_connection_gives_what_it_was_given_and_pauses_between_its_marks():
    connection = Connection()
    written = read = 0.0
    while not connection.paused:
        connection.write(10_000)
        written += 10_000
    while not connection.empty:
        read += connection.read(30_000)
    assert (read, connection.paused) == (written, False)
    assert 262_144 + 65_536 < written <= 262_144 + 65_536 + 10_000
