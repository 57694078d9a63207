"""``fastmesh crawl``: the daemon's pipeline without the daemon."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from secrets import token_hex
from typing import Any, Protocol, Self

import orjson

from fastmesh.api.engine import Engine
from fastmesh.api.requests.bodies import CrawlRequest
from fastmesh.commands.progress import ProgressBar
from fastmesh.commands.stdout import ThreadSink, write_all
from fastmesh.commands.table import ResultTable
from fastmesh.config import Settings
from fastmesh.wire.encoders import NdjsonEncoder

ALL_SUCCEEDED, COULD_NOT_RUN, SOME_FAILED, INTERRUPTED = 0, 1, 3, 130

Frame = dict[str, Any]


class View(Protocol):
    """What a person sees of the frames."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(self, *exc: object) -> None:
        """End."""
        ...

    def take(self, frame: Frame) -> None:
        """One more frame."""
        ...


class Frames:
    """Reads batches of lines for *view*, and keeps the summary."""

    def __init__(self, view: View, fd: int | None) -> None:
        self.summary: Frame | None = None
        self._view = view
        self._fd = fd

    def take(self, lines: bytes) -> None:
        """Write *lines* to the file, when there is one, and show them.  Raises OSError."""
        if self._fd is not None:
            write_all(self._fd, lines)
        for line in lines.splitlines():
            frame = orjson.loads(line)
            self._view.take(frame)
            if frame["type"] == "summary":
                self.summary = frame


async def crawl(settings: Settings, request: CrawlRequest, *, table: bool) -> int:
    """Crawl *request*, frames as NDJSON on stdout or as a table; return the exit status.

    The first SIGINT or SIGTERM ends the stream with its summary, a second one
    without.  Raises FastmeshError when it cannot start.
    """
    engine = Engine(settings)
    try:
        await engine.start()
        with ResultTable() if table else ProgressBar() as view:
            frames = Frames(view, None if table else sys.stdout.fileno())
            sink = ThreadSink(frames.take)
            plan = engine.plans.crawl(request, token_hex(16), None)
            pipeline = engine.module.registry.open(plan.opening, plan.make_processor)
            subscriber = engine.module.registry.attach(pipeline, NdjsonEncoder(chunked=False), sink)
            interrupted = on_signals(lambda: pipeline.stop("cancelled"), sink.done.cancel)
            sink.attach(subscriber)
            try:
                await sink.done
            except OSError as error:
                if not isinstance(error, BrokenPipeError):  # who read us has seen enough
                    print(f"fastmesh: standard output cannot be written: {error.strerror}", file=sys.stderr)
                return COULD_NOT_RUN
            except asyncio.CancelledError:
                return INTERRUPTED
        if interrupted():
            return INTERRUPTED
        summary = frames.summary
        assert summary is not None
        return ALL_SUCCEEDED if summary["successful"] == summary["total_urls"] else SOME_FAILED
    finally:
        await engine.close()


def on_signals(stop: Callable[[], object], give_up: Callable[[], object]) -> Callable[[], bool]:
    """Call *stop* at the first signal, *give_up* at the second; return what says whether there was one."""
    signals: list[None] = []

    def signalled() -> None:
        signals.append(None)
        if len(signals) == 1:
            stop()
        else:
            give_up()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled)
    return lambda: bool(signals)
