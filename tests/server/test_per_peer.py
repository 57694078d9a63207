"""Connections counted by where they come from."""

from __future__ import annotations

import pytest

from fastmesh.server.per_peer import REFUSALS_A_PEER, PerPeer


def test_over_the_limit_some_are_told_and_the_others_are_not() -> None:
    peers = PerPeer()
    places = [peers.come("192.0.2.1", 2) for _ in range(2 + REFUSALS_A_PEER)]
    assert [place and place.refused for place in places] == [False, False] + [True] * REFUSALS_A_PEER
    with pytest.raises(ConnectionRefusedError):
        peers.come("192.0.2.1", 2)
    other = peers.come("192.0.2.2", 2)
    assert other is not None
    assert not other.refused


def test_a_place_is_given_back_once() -> None:
    peers = PerPeer()
    first, second = peers.come("192.0.2.1", 2), peers.come("192.0.2.1", 2)
    assert first is not None
    assert second is not None
    first.give_back()
    first.give_back()
    third, fourth = peers.come("192.0.2.1", 2), peers.come("192.0.2.1", 2)
    assert third is not None
    assert fourth is not None
    assert (third.refused, fourth.refused) == (False, True)
    for place in (second, third, fourth):
        place.give_back()
    assert len(peers) == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
def test_loopback_is_counted_for_nobody(host: str) -> None:
    assert PerPeer().come(host, 1) is None


def test_without_a_limit_nobody_is_counted() -> None:
    assert PerPeer().come("192.0.2.1", 0) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:0:0:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_who_has_a_network_is_one_peer(one: str, other: str, same: bool) -> None:
    peers = PerPeer()
    peers.come(one, 1)
    second = peers.come(other, 1)
    assert second is not None
    assert second.refused == same
