"""``fastmesh crawl --server``: the same frames and views, from a daemon that runs."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

from fastmesh.client import Client, ClientError, Frame, FrameStream, Refused
from fastmesh.client.stream import ProtocolName
from fastmesh.commands.crawl import ALL_SUCCEEDED, COULD_NOT_RUN, INTERRUPTED, SOME_FAILED, Frames, on_signals
from fastmesh.commands.progress import ProgressBar
from fastmesh.commands.table import ResultTable
from fastmesh.errors import ValidationError


@dataclass(frozen=True, slots=True)
class Server:
    """The daemon that is asked."""

    address: str
    token: str | None = None
    cacert: str | None = None


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
        interrupted = on_signals(cancelling.set, give_up)
        try:
            with ResultTable() if table else ProgressBar() as view:
                frames = Frames(view, None if table else sys.stdout.fileno())
                await _show(stream.batches(), frames, known)
        except OSError as error:
            if not isinstance(error, BrokenPipeError):  # who read us has seen enough
                print(f"fastmesh: standard output cannot be written: {error.strerror}", file=sys.stderr)
            return COULD_NOT_RUN
        except Refused as refused:
            if refused.type == "validation_error":
                raise ValidationError(refused.message, field=refused.field) from None
            raise
        except ClientError as error:
            if not interrupted():
                raise
            print(f"fastmesh: {error}", file=sys.stderr)
            return INTERRUPTED
        except asyncio.CancelledError:
            return INTERRUPTED
        finally:
            canceller.cancel()
            await asyncio.gather(canceller, return_exceptions=True)
    if interrupted():
        return INTERRUPTED
    summary = frames.summary
    assert summary is not None
    return ALL_SUCCEEDED if summary["successful"] == summary["total_urls"] else SOME_FAILED


async def _show(batches: AsyncGenerator[list[Frame], None], frames: Frames, known: asyncio.Event) -> None:
    async with aclosing(batches):
        async for batch in batches:
            known.set()
            lines = b"".join(_line(frame.json) for frame in batch)
            await _in_thread(lambda lines=lines: frames.take(lines))  # type: ignore[misc]


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


async def _in_thread(take: Callable[[], None]) -> None:
    """Run *take* beside the loop.

    A daemon thread: a pipe that nobody reads must not keep the process from ending.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def finish(failed: Exception | None) -> None:
        if done.done():
            return
        if failed is None:
            done.set_result(None)
        else:
            done.set_exception(failed)

    def run() -> None:
        failed: Exception | None = None
        try:
            take()
        except Exception as error:  # noqa: BLE001 - whatever it is, who awaits is told
            failed = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(finish, failed)

    threading.Thread(target=run, name="output", daemon=True).start()
    await done
