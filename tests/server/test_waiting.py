"""A handler that has to wait for its answer, over real connections: nobody else waits, and its client may leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop
from daemons import PATIENCE_S

from fastmesh.api.access.tokens import line_of, new_token
from fastmesh.api.calls import Answer, Call, Handler, Reply, Route
from fastmesh.config import load
from fastmesh.errors import Conflict
from fastmesh.server.daemon import Daemon
from fastmesh.server.http.connection import MAX_BEHIND_BYTES, Connection

GET = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n"
WAIT, LIVEZ = GET % b"/wait", GET % b"/livez"


class Waiting:
    """A handler that waits until it is released, and notes how its waits ended."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.released = asyncio.Event()
        self.ended: list[str] = []
        self.answer: Callable[[Call], Answer] = lambda call: Reply(b'{"waited":true}')

    def __call__(self, call: Call) -> Awaitable[Answer]:
        return self._wait(call)

    async def _wait(self, call: Call) -> Answer:
        self.begun.set()
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        self.ended.append("answered")
        return self.answer(call)


class Client:
    """One connection to the daemon."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next whole answer: status, fields and body."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in head[1:-2])
        return int(head[0].split()[1]), fields, await self.reader.readexactly(int(fields["content-length"]))


class House:
    """A daemon in this process with a route /wait."""

    def __init__(self, **settings: str) -> None:
        flags = {"SERVER__PORT": "0", "FIREHOSE__ENABLED": "true", "WORKERS__EXTRACT": "1"} | settings
        self.daemon = Daemon(load(flags, environ={}).values)
        self.shared = self.daemon._shared
        self.address = ""
        self.clients: list[Client] = []

    async def connect(self) -> Client:
        _, _, port = self.address.rpartition(":")
        self.clients.append(Client(*await asyncio.open_connection("127.0.0.1", int(port))))
        return self.clients[-1]

    @property
    def connection(self) -> Connection:
        """The daemon's side of the only connection."""
        (connection,) = self.shared.connections
        assert isinstance(connection, Connection)
        return connection

    def answered(self, status: int) -> float:
        """How often /wait was, as the metrics have it."""
        return self.shared.metrics.requests["/wait", "GET", status]


@asynccontextmanager
async def house(handler: Handler, **settings: str) -> AsyncIterator[House]:
    made = House(**settings)
    try:
        made.address = await made.daemon.start()
        made.shared.router.add(Route("/wait", "GET", handler))
        async with asyncio.timeout(PATIENCE_S):
            yield made
    finally:
        await made.daemon.close()
        for client in made.clients:
            client.writer.close()
            with suppress(ConnectionError):
                await client.writer.wait_closed()
    assert not made.shared.waiting


def play(run: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run)


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for is no event
        await asyncio.sleep(0.005)


def test_it_is_answered_in_its_turn_and_nobody_else_waits() -> None:
    async def run() -> None:
        waiting = Waiting()
        async with house(waiting) as here:
            client, other = await here.connect(), await here.connect()
            client.writer.write(LIVEZ + WAIT + LIVEZ)
            assert (await client.answer())[2] == b'{"status":"alive"}'
            await waiting.begun.wait()
            other.writer.write(LIVEZ * 3)
            for _ in range(3):
                assert (await other.answer())[0] == 200
            assert not client.reader._buffer  # type: ignore[attr-defined]  # what is behind it waits
            waiting.released.set()
            assert (await client.answer())[2] == b'{"waited":true}'
            assert (await client.answer())[2] == b'{"status":"alive"}'
            client.writer.write(WAIT)
            status, fields, _ = await client.answer()
            assert (status, "connection" in fields) == (200, False)
            assert here.answered(200) == 2

    play(run())


def test_no_deadline_of_the_request_holds_while_it_waits_and_afterwards_that_of_an_idle_connection() -> None:
    async def run() -> None:
        waiting = Waiting()
        async with house(waiting) as here:
            client = await here.connect()
            client.writer.write(WAIT + b"GET /livez HTT")
            await waiting.begun.wait()
            assert here.connection.deadline == float("inf")
            assert not here.connection.idle
            waiting.released.set()
            assert (await client.answer())[0] == 200
            now, settings = here.shared.clock(), here.shared.settings
            await until(lambda: here.connection.deadline <= now + settings.header_timeout_s + 1)  # of what is behind it
            client.writer.write(b"P/1.1\r\nHost: localhost\r\n\r\n")
            assert (await client.answer())[0] == 200
            await until(lambda: here.connection.idle)
            assert here.connection.deadline <= here.shared.clock() + settings.keepalive_timeout_s

    play(run())


@pytest.mark.parametrize("how", ["close", "half", "reset"])
def test_who_leaves_is_not_waited_for(how: str) -> None:
    async def run() -> None:
        waiting = Waiting()
        async with house(waiting) as here:
            client = await here.connect()
            client.writer.write(WAIT + LIVEZ)
            await waiting.begun.wait()
            if how == "half":
                client.writer.write_eof()
            elif how == "reset":
                client.writer.transport.abort()
            else:
                client.writer.close()
            await until(lambda: waiting.ended)
            await until(lambda: not here.shared.connections and not here.shared.waiting)
            assert waiting.ended == ["cancelled"]
            assert here.answered(200) == 0

    play(run())


def test_a_client_whose_token_is_taken_away_meanwhile_is_not_answered(tmp_path: Path) -> None:
    tokens, token = tmp_path / "tokens", new_token()
    tokens.write_text(f"{line_of(token, 'alice')}\n{line_of(new_token(), 'bob')}\n")

    async def run() -> None:
        waiting = Waiting()
        async with house(waiting, AUTH__TOKENS_FILE=str(tokens)) as here:
            client = await here.connect()
            client.writer.write(WAIT[:-2] + f"Authorization: Bearer {token}\r\n\r\n".encode())
            await waiting.begun.wait()
            tokens.write_text(f"{line_of(new_token(), 'bob')}\n")
            assert here.daemon.reload_access() == []
            await until(lambda: waiting.ended)
            assert waiting.ended == ["cancelled"]
            with suppress(ConnectionError):
                assert await client.reader.read() == b""

    play(run())


def test_what_it_raises_is_answered_as_of_any_other() -> None:
    def refuse(call: Call) -> Answer:
        raise Conflict("it is loaded already", field="stream_id")

    def broken(call: Call) -> Answer:
        raise ZeroDivisionError("secret")

    async def run() -> None:
        waiting = Waiting()
        waiting.released.set()
        async with house(waiting) as here:
            client = await here.connect()
            for answer, status, type_ in ((refuse, 409, "conflict"), (broken, 500, "internal_error")):
                waiting.answer = answer
                client.writer.write(WAIT)
                told, _, body = await client.answer()
                assert (told, json.loads(body)["error"]["type"], b"secret" in body) == (status, type_, False)
                assert here.answered(status) == 1
            client.writer.write(LIVEZ)
            assert (await client.answer())[0] == 200

    play(run())


def test_what_comes_behind_it_is_bounded_and_answered_afterwards() -> None:
    count = 20_000

    async def run() -> None:
        waiting = Waiting()
        async with house(waiting) as here:
            client = await here.connect()
            client.writer.write(WAIT + LIVEZ * count)
            await waiting.begun.wait()
            transport = here.connection.transport
            assert transport is not None
            await until(lambda: not transport.is_reading())
            parser = here.connection._parser
            assert parser is not None
            assert MAX_BEHIND_BYTES < parser.held <= MAX_BEHIND_BYTES + 262_144  # what one read brings
            waiting.released.set()
            assert (await client.answer())[2] == b'{"waited":true}'
            for _ in range(count):
                assert (await client.answer())[2] == b'{"status":"alive"}'

    play(run())


def test_a_stream_that_had_to_be_waited_for_is_like_any_other() -> None:
    async def run() -> None:
        waiting = Waiting()
        async with house(waiting) as here:
            (firehose,) = (route for route in here.shared.router.routes if route.name == "/firehose/stream")
            waiting.answer = firehose.handler  # type: ignore[assignment]
            client = await here.connect()
            client.writer.write(GET % b"/wait?frames=3" + LIVEZ)
            await waiting.begun.wait()
            waiting.released.set()
            frames = await client.reader.readuntil(b"\r\n0\r\n\r\n")
            assert [frames.count(b'"type":"%b"' % type_) for type_ in (b"metadata", b"result", b"summary")] == [1, 3, 1]
            assert (await client.answer())[2] == b'{"status":"alive"}'
            client.writer.write(b"HEAD" + (GET % b"/wait?frames=3")[3:] + LIVEZ)
            assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            assert (await client.answer())[2] == b'{"status":"alive"}'

    play(run())


def test_so_is_a_websocket() -> None:
    async def run() -> None:
        waiting = Waiting()
        async with house(waiting) as here:
            (socket,) = (route for route in here.shared.router.routes if route.name == "/crawl/ws")
            waiting.answer = socket.handler  # type: ignore[assignment]
            client = await here.connect()
            upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            client.writer.write(WAIT[:-2] + upgrade + b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
            await waiting.begun.wait()
            waiting.released.set()
            assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
            assert b'"type":"welcome"' in await client.reader.readuntil(b"}")
            assert here.answered(101) == 1
            assert not here.shared.waiting

    play(run())


def test_a_handler_that_is_not_cancelled_opens_nothing_for_who_left() -> None:
    opened = []

    async def stubborn(call: Call) -> Answer:
        begun.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        (firehose,) = (route for route in routes if route.name == "/firehose/stream")
        answer = firehose.handler(call)
        opened.append(answer)
        return answer  # type: ignore[return-value]

    async def run() -> None:
        nonlocal routes
        async with house(stubborn) as here:
            routes = here.shared.router.routes
            client = await here.connect()
            client.writer.write(WAIT)
            await begun.wait()
            client.writer.close()
            await until(lambda: opened and not here.shared.waiting)
            assert here.shared.module.registry.active == {}
            assert not here.shared.connections

    routes: list[Route] = []
    begun = asyncio.Event()
    play(run())


def test_what_is_cancelled_by_others_ends_the_connection_and_is_a_bug() -> None:
    async def cancelled(call: Call) -> Answer:
        raise asyncio.CancelledError

    async def run() -> None:
        async with house(cancelled) as here:
            client = await here.connect()
            client.writer.write(WAIT)
            with suppress(ConnectionError):
                assert await client.reader.read() == b""
            assert here.daemon.bugs.counts == {"answers": 1}

    play(run())


def test_a_drain_waits_for_it() -> None:
    async def run() -> None:
        waiting = Waiting()
        async with house(waiting) as here:
            client = await here.connect()
            client.writer.write(WAIT)
            await waiting.begun.wait()
            drain = asyncio.create_task(here.daemon.drain(asyncio.Event()))
            await until(lambda: here.shared.draining)
            waiting.released.set()
            status, fields, _ = await client.answer()
            assert (status, fields["connection"]) == (200, "close")
            assert await client.reader.read() == b""
            client.writer.close()
            await drain

    play(run())


def test_a_drain_waits_no_longer_than_its_deadline() -> None:
    async def run() -> None:
        waiting = Waiting()
        async with house(waiting, SERVER__DRAIN_TIMEOUT_S="0.2") as here:
            client = await here.connect()
            client.writer.write(WAIT)
            await waiting.begun.wait()
            await here.daemon.drain(asyncio.Event())
        assert waiting.ended == ["cancelled"]

    play(run())
