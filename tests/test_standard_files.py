"""Who writes to a file that nobody reads goes on, and what is lost is counted and told."""

from __future__ import annotations

import gc
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastmesh.telemetry.standard_files import Unblocked


@pytest.fixture(params=["pipe", "socket"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """What is read and what is written, of a pipe and of a socket such as journald's."""
    if request.param == "pipe":
        reader, writer = os.pipe()
    else:
        reader, writer = (sock.detach() for sock in socket.socketpair())
    yield reader, writer
    os.close(reader)
    os.close(writer)


def all_of(fd: int, until: bytes) -> list[str]:
    """The lines of *fd*, to the one that is *until*."""
    data = b""
    while not data.endswith(until + b"\n"):
        data += os.read(fd, 1 << 20)
    return data.decode().splitlines()


def filled(file: Unblocked, reader: int) -> int:
    """Write numbered lines until some are lost; how many were written."""
    at = 0
    while file.lost < 5:
        file.write(f"{at:099}\n")
        at += 1
    return at


def test_what_nobody_reads_is_lost_counted_and_told_where_it_is_missing(ends: tuple[int, int]) -> None:
    reader, writer = ends
    told: list[int] = []

    def tell(lines: int) -> None:
        told.append(lines)
        file.write("lost\n")

    file = Unblocked(writer, tell, 300_000)
    written = filled(file, reader)  # this thread is here again, although nothing was read
    assert not file.drain(0)
    numbers = [f"{at:099}" for at in range(written - file.lost)]
    assert all_of(reader, b"lost") == [*numbers, "lost"]
    file.write("after\n")
    assert all_of(reader, b"after") == ["after"]
    assert told == [file.lost]
    assert file.drain(30)


def test_lines_are_whole_and_in_their_order_whoever_writes_them(ends: tuple[int, int]) -> None:
    reader, writer = ends
    file = Unblocked(writer, lambda lines: None)
    print("a", "b", file=file)  # writes piece by piece
    file.write("one\ntwo\nthr")
    file.write("ee")
    file.write("\n\udc80é\n")
    assert all_of(reader, "\\udc80é".encode()) == ["a b", "one", "two", "three", "\\udc80é"]
    writers = [
        threading.Thread(target=lambda at=at: [print(at, line, file=file) for line in range(200)]) for at in range(4)
    ]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    file.write("end\n")
    assert sorted(all_of(reader, b"end")[:-1]) == sorted(f"{at} {line}" for at in range(4) for line in range(200))


def test_a_reader_that_is_gone_costs_lines_and_is_told_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    told: list[int] = []
    file = Unblocked(writer, told.append)
    for _ in range(3):
        file.write("line\n")
        assert file.drain(30)
    assert (file.lost, told) == (3, [])
    os.close(writer)


def test_a_file_is_written_to_at_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    before = threading.active_count()
    with path.open("wb") as opened:
        file = Unblocked(opened.fileno(), lambda lines: None)
        file.write("line\n")
        assert path.read_text() == "line\n"
        assert threading.active_count() == before
        assert file.drain(0)
    full = os.open("/dev/full", os.O_WRONLY)
    file = Unblocked(full, lambda lines: None)
    file.write("one\ntwo\n")
    assert file.lost == 2
    os.close(full)


def test_a_collection_of_garbage_may_log_in_the_middle_of_a_line() -> None:
    reader, writer = os.pipe()
    file = Unblocked(writer, lambda lines: None)

    class Noisy:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            file.write("gone\n")

    def collected(write: Callable[[str], object]) -> None:
        Noisy()
        with file._lock:  # as if it came while a line is put
            gc.collect()
            write("line\n")

    collected(file.write)
    assert all_of(reader, b"line") == ["gone", "line"]
    os.close(reader)
    os.close(writer)
