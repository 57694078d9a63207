"""What the kernel knows of a client whose socket is not read."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from fastmesh.server.stall import Presence, presence

Pair = tuple[socket.socket, socket.socket]


def seen(sock: socket.socket | None) -> Presence:
    return presence(SimpleNamespace(get_extra_info=lambda name: sock))  # type: ignore[arg-type]


@pytest.fixture(params=["tcp", "unix"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """The daemon's side of a connection, and the client's."""
    if request.param == "unix":
        ours, theirs = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            theirs = socket.create_connection(listener.getsockname())
            ours = listener.accept()[0]
    with ours, theirs:
        yield ours, theirs


def test_a_client_that_may_send_more_is_there_whatever_it_sent(pair: Pair) -> None:
    ours, theirs = pair
    assert seen(ours) is Presence.THERE
    theirs.sendall(b"x" * 10_000)
    assert seen(ours) is Presence.THERE


def test_one_that_sends_no_more_has_ended_its_side_also_behind_bytes_that_are_not_read(pair: Pair) -> None:
    ours, theirs = pair
    theirs.sendall(b"x" * 10_000)
    theirs.shutdown(socket.SHUT_WR)
    assert seen(ours) is Presence.ENDED


def test_one_that_is_gone_is_gone_when_it_was_written_to(pair: Pair) -> None:
    ours, theirs = pair
    theirs.close()
    # Over TCP a close looks like the end of one side, until what is written is reset.
    assert seen(ours) is (Presence.GONE if ours.family == socket.AF_UNIX else Presence.ENDED)
    if ours.family != socket.AF_UNIX:
        ours.sendall(b"x")
        assert seen(ours) is Presence.GONE


def test_one_that_reset_the_connection_is_gone(pair: Pair) -> None:
    ours, theirs = pair
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    theirs.close()
    assert seen(ours) is Presence.GONE


def test_of_a_transport_without_a_socket_nothing_is_known() -> None:
    assert seen(None) is Presence.THERE
