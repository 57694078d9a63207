"""One connection to an origin: the same answer wherever its bytes are cut, in so many steps and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from fuzz.origins import asked
from origins import chunk
from steps import steps

from fastmesh.crawl.fetch.connector import MAX_CHUNKS_A_TURN, MAX_FRAMING_BYTES, BoundedResponses
from fastmesh.crawl.fetch.head import MAX_FIELDS
from fastmesh.errors import BadResponse

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
SOCKET_READ = 262_144

# What may be called at most, by what was sent: a segment, a line (of a head, a chunk's size or a trailer), an end.
STEPS_A_SEGMENT, STEPS_A_LINE, STEPS_AN_END = 60, 20, 200


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


Outcome = tuple[int, bytes | str] | str


def outcome(loop: asyncio.AbstractEventLoop, *parts: bytes) -> Outcome:
    """What the client has when *parts* came and the connection ended: status and body, or what went wrong in either."""

    async def read() -> Outcome:
        try:
            head, payload = await connection.read()
        except Exception as fault:  # noqa: BLE001 - whatever it is, it must not depend on the cuts
            return type(fault).__name__
        try:
            body = b""
            while data := await payload.readany():
                body += data
        except Exception as fault:  # noqa: BLE001
            return head.code, type(fault).__name__
        return head.code, body

    def feed() -> None:
        for part in parts:
            if not connection.transport.closed:  # type: ignore[union-attr]
                connection.data_received(part)
        connection.connection_lost(None)

    connection = asked(loop)
    lines = sum(part.count(b"\n") for part in parts)
    steps(feed, STEPS_AN_END + STEPS_A_SEGMENT * len(parts) + STEPS_A_LINE * lines)
    return loop.run_until_complete(read())


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"\n\nx", "BadResponse"),
        (b"\n\n" + OK + b"Content-Length: 1\r\n\r\nx", (200, b"x")),
        (b"\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\nx", (200, b"x")),
        (b"HTTP/1.1 100 C\n\nHTTP/1.1 200 OK\nContent-Length: 1\n\nx", (200, b"x")),
        (b"HTTP/1.1 103 C\r\n\n\n\nHTTP/1.1 200 OK\nContent-Length: 1\n\nx", (200, b"x")),
        (OK + b"\r\nto the end\r\n\r\n", (200, b"to the end\r\n\r\n")),
        (OK + b"Content-Length: 9\r\n\r\ncut", (200, "ClientPayloadError")),
        (OK + b"Content-Length: 1\r\n\r\nx" + OK + b"\r\n", (200, b"x")),
        (b"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nhello", (204, b"")),
        (b"HTTP/1.1 000 X\r\nContent-Length: 0\r\n\r\n", "BadResponse"),
        (OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxy", "HttpProcessingError"),
        (OK + b"Content-Length: +1\r\n\r\nx", "HttpProcessingError"),
        (OK + b"Content-Length: 99999999999999999999999\r\n\r\nx", "HttpProcessingError"),
        (OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HttpProcessingError"),
        (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "BadResponse"),
        (OK + b"Transfer-Encoding: identity\r\n\r\nx", "BadResponse"),
        (OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "BadResponse"),
        (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "BadResponse"),
        (OK + b"Content_Length: 9\r\nTransfer_Encoding: chunked\r\nContent-Length: 1\r\n\r\nx", (200, b"x")),
        (CHUNKED + chunk(b"a") + b'2;x="y"\r\nbc\r\n0\r\nX-T: 1\r\n\r\n', (200, b"abc")),
        (CHUNKED + chunk(b"a") + b"zz\r\nb\r\n0\r\n\r\n", (200, "BadResponse")),
        (CHUNKED + chunk(b"a") + b"1\r\nbb\r\n0\r\n\r\n", (200, "BadResponse")),
        (CHUNKED + chunk(b"a"), (200, "ClientPayloadError")),
        (b"", "ServerDisconnectedError"),
        (b"HTTP/1.1 200 OK\r\nA: b", "ServerDisconnectedError"),
    ],
)
def test_an_answer_is_the_same_wherever_it_is_cut(loop: asyncio.AbstractEventLoop, sent: bytes, expected: Outcome):
    assert outcome(loop, sent) == expected
    for cut in range(len(sent) + 1):
        assert outcome(loop, sent[:cut], sent[cut:]) == expected
    assert outcome(loop, *(bytes([byte]) for byte in sent)) == expected


# ── its bounds, each where all others hold ──────────────────────────────────────────────


@pytest.mark.parametrize(
    ("sent", "enough"),
    [
        (b"X-T: 1\r\n" * (MAX_FIELDS - 1) + b"\r\n", True),
        (b"X-T: 1\r\n" * (MAX_FIELDS + 2) + b"\r\n", False),
    ],
)
def test_so_many_trailers_are_read_and_no_more(loop: asyncio.AbstractEventLoop, sent: bytes, enough: bool):
    found = outcome(loop, CHUNKED + chunk(b"a") + b"0\r\n", sent)
    assert found == (200, b"a" if enough else "BadResponse")


@pytest.mark.parametrize(("size", "enough"), [(MAX_FRAMING_BYTES - 100, True), (MAX_FRAMING_BYTES + 100, False)])
def test_so_much_framing_is_read_and_no_more(loop: asyncio.AbstractEventLoop, size: int, enough: bool):
    extension = [b"x" * min(SOCKET_READ, size - at) for at in range(0, size, SOCKET_READ)]
    found = outcome(loop, CHUNKED, b"1;", *extension, b"\r\na\r\n0\r\n\r\n")
    assert found == (200, b"a" if enough else "BadResponse")


@pytest.mark.parametrize(("content", "enough"), [(300, True), (30, False)])
def test_past_that_framing_may_be_as_long_as_content(loop: asyncio.AbstractEventLoop, content: int, enough: bool):
    one = b"%x;%s\r\n%s\r\n" % (content, b"y" * 280, b"x" * content)
    chunks = 5_000
    whole = CHUNKED + one * chunks + b"0\r\n\r\n"
    connection = asked(loop)

    async def read() -> int:
        _, payload = await connection.read()
        size = 0
        while data := await payload.readany():
            size += len(data)
        return size

    async def main() -> int:
        reading = asyncio.create_task(read())
        for at in range(0, len(whole), SOCKET_READ):
            connection.data_received(whole[at : at + SOCKET_READ])
            while connection.transport.paused and not reading.done():  # type: ignore[union-attr]  # noqa: ASYNC110
                await asyncio.sleep(0)
        return await reading

    if enough:
        assert loop.run_until_complete(main()) == chunks * content
    else:
        with pytest.raises(BadResponse, match="framing without content"):
            loop.run_until_complete(main())


# ── and what a turn of the loop costs ───────────────────────────────────────────────────


def test_one_byte_chunks_take_turns_with_the_rest_of_the_loop(loop: asyncio.AbstractEventLoop):
    chunks = SOCKET_READ // 6
    most = 0

    async def main() -> None:
        nonlocal most
        connection = asked(loop)
        connection.data_received(CHUNKED)
        _, payload = await connection.read()
        turns = [lambda: connection.data_received(chunk(b"x") * chunks + b"0\r\n\r\n")]
        resume = BoundedResponses._go_on

        def counted(self: BoundedResponses) -> None:
            turns.append(lambda: resume(self))

        monkeypatch.setattr(BoundedResponses, "_go_on", counted)
        body = b""
        while not payload.at_eof():
            while turns:
                most = max(most, steps(turns.pop()))
            body += payload.read_nowait()
            await asyncio.sleep(0)
        assert body == b"x" * chunks

    with pytest.MonkeyPatch.context() as monkeypatch:
        loop.run_until_complete(main())
    assert most <= 200 + 20 * MAX_CHUNKS_A_TURN


def test_a_reader_of_one_byte_chunks_lets_the_loop_turn(loop: asyncio.AbstractEventLoop):
    chunks, turns = SOCKET_READ // 6, 0

    async def main() -> None:
        nonlocal turns
        connection = asked(loop)
        connection.data_received(CHUNKED + chunk(b"x") * chunks + b"0\r\n\r\n")
        _, payload = await connection.read()

        async def read() -> bytes:
            body = b""
            while data := await payload.readany():
                body += data
            return body

        reading: asyncio.Task[Any] = asyncio.create_task(read())
        while not reading.done():
            turns += 1
            await asyncio.sleep(0)
        assert await reading == b"x" * chunks

    loop.run_until_complete(main())
    assert turns >= chunks // MAX_CHUNKS_A_TURN
