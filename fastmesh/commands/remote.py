"""``fastmesh crawl --server``: the frames and views of ``fastmesh crawl``, from a daemon that runs."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from typing import Any

from fastmesh.client import Client, ClientError, FrameStream, Refused
from fastmesh.client.stream import ProtocolName
from fastmesh.commands.arguments import Server
from fastmesh.commands.outcome import outcome
from fastmesh.commands.output import OutputThread, output
from fastmesh.errors import ValidationError


async def crawl_at(server: Server, protocol: ProtocolName, request: dict[str, Any], *, table: bool) -> int:
    """Have the daemon at *server* crawl *request*, frames as NDJSON on stdout or as a table; return the exit status.

    The first SIGINT or SIGTERM cancels the stream, whose summary still comes, a second
    one waits for nothing.  Raises FastmeshError when it cannot run or the stream is lost.
    """
    try:
        client = Client(server.address, token=server.token, cacert=server.cacert)
    except ValueError as error:
        raise ValidationError(f"--server: {error}") from None
    this = asyncio.current_task()
    assert this is not None
    async with client:
        # Nobody else knows the stream: when it is not read to its end, it shall not go on.
        stream = client.crawl(
            request["urls"],
            protocol=protocol,
            options=request["options"],
            stream=request["stream"],
            cancel_on_exit=True,
        )

        def give_up() -> None:
            stream.cancel_on_exit = False  # that would wait for an answer
            this.cancel()

        known, cancelling = asyncio.Event(), asyncio.Event()
        canceller = asyncio.create_task(_cancel(client, stream, known, cancelling))
        try:
            return await outcome(_shown(stream, known, table=table), cancelling.set, give_up)
        finally:
            canceller.cancel()
            await asyncio.gather(canceller, return_exceptions=True)


async def _shown(stream: FrameStream, known: asyncio.Event, *, table: bool) -> dict[str, Any]:
    """Show *stream* to its summary, and return that; *known* is set once the stream's id is."""
    with output(table=table) as out:
        thread = OutputThread(out.take)
        try:
            async with aclosing(stream.batches()) as batches:
                async for batch in batches:
                    known.set()
                    await thread.put(b"".join(_line(frame.json) for frame in batch))
        except Refused as refused:
            if refused.type == "validation_error":
                raise ValidationError(refused.message, field=refused.field) from None
            raise
        return out.summary


async def _cancel(client: Client, stream: FrameStream, known: asyncio.Event, cancelling: asyncio.Event) -> None:
    """Cancel *stream* once that is asked for and its id is known."""
    await cancelling.wait()
    await known.wait()
    assert stream.stream_id is not None
    try:
        await client.cancel(stream.stream_id)
    except ClientError as error:
        if not (isinstance(error, Refused) and error.status in (404, 409)):  # it is over already
            print(f"fastmesh: the stream cannot be cancelled: {error}", file=sys.stderr)


def _line(json: bytes) -> bytes:
    """A frame on one line: line ends between the tokens of JSON mean nothing, and within strings there are none."""
    return json.translate(None, b"\r\n") + b"\n"
