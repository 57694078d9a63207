"""The same client for programs without asyncio.

    with SyncClient("http://127.0.0.1:8080") as client:
        for frame in client.crawl(["https://example.com/"]):
            ...

A background thread runs the loop.  Nothing is read ahead: the loop is asked for the
next batch when the last one is used up, so a slow program holds its stream as a
slow reader does.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar
from weakref import finalize

from fastmesh.client.client import Client, Json
from fastmesh.client.frames import Frame
from fastmesh.client.retry import Retry
from fastmesh.client.stream import FrameStream, ProtocolName

T = TypeVar("T")

CLOSE_TIMEOUT_S: Final = 10.0  # a program's end is not held longer than this


class SyncClient:
    """Client, with plain iterators and calls; the parameters are the same.  To be used in ``with``, or closed."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8080",
        *,
        token: str | None = None,
        cacert: str | None = None,
        retry: Retry | None = None,
        idle_timeout_s: float = 60.0,
        connect_timeout_s: float = 10.0,
    ) -> None:
        self._client = Client(
            url,
            token=token,
            cacert=cacert,
            retry=retry,
            idle_timeout_s=idle_timeout_s,
            connect_timeout_s=connect_timeout_s,
        )
        self._loop = _LoopThread()
        # Also at the interpreter's exit: a thread that is killed there leaves connections half closed.
        self._close = finalize(self, _close, self._loop, self._client)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End all iterations as if they were left, close all connections, end the thread."""
        self._close()

    def crawl(
        self,
        urls: Iterable[str | Json],
        *,
        protocol: ProtocolName = "ndjson",
        options: Json | None = None,
        stream: Json | None = None,
        heartbeats: bool = False,
        cancel_on_exit: bool = False,
    ) -> SyncFrames:
        """See Client.crawl."""
        return self._frames(
            self._client.crawl(
                urls,
                protocol=protocol,
                options=options,
                stream=stream,
                heartbeats=heartbeats,
                cancel_on_exit=cancel_on_exit,
            )
        )

    def deepsearch(
        self,
        query: str,
        *,
        limit: int | None = None,
        include_content: bool | None = None,
        options: Json | None = None,
        heartbeats: bool = False,
        cancel_on_exit: bool = False,
    ) -> SyncFrames:
        """See Client.deepsearch."""
        return self._frames(
            self._client.deepsearch(
                query,
                limit=limit,
                include_content=include_content,
                options=options,
                heartbeats=heartbeats,
                cancel_on_exit=cancel_on_exit,
            )
        )

    def firehose(
        self,
        *,
        frames: int | None = None,
        frame_bytes: int | None = None,
        rate: float | None = None,
        protocol: ProtocolName = "ndjson",
        heartbeats: bool = False,
        cancel_on_exit: bool = False,
    ) -> SyncFrames:
        """See Client.firehose."""
        return self._frames(
            self._client.firehose(
                frames=frames,
                frame_bytes=frame_bytes,
                rate=rate,
                protocol=protocol,
                heartbeats=heartbeats,
                cancel_on_exit=cancel_on_exit,
            )
        )

    def subscribe(
        self,
        stream_id: str,
        after: int | None = 0,
        *,
        protocol: ProtocolName = "ndjson",
        heartbeats: bool = False,
        cancel_on_exit: bool = False,
    ) -> SyncFrames:
        """See Client.subscribe."""
        return self._frames(
            self._client.subscribe(
                stream_id, after, protocol=protocol, heartbeats=heartbeats, cancel_on_exit=cancel_on_exit
            )
        )

    def open(self, urls: Iterable[str | Json], *, options: Json | None = None, stream: Json | None = None) -> str:
        """See Client.open."""
        return self._loop.call(lambda: self._client.open(urls, options=options, stream=stream))

    def cancel(self, stream_id: str) -> dict[str, Any]:
        """See Client.cancel."""
        return self._loop.call(lambda: self._client.cancel(stream_id))

    def streams(self) -> dict[str, Any]:
        """See Client.streams."""
        return self._loop.call(self._client.streams)

    def stream(self, stream_id: str) -> dict[str, Any]:
        """See Client.stream."""
        return self._loop.call(lambda: self._client.stream(stream_id))

    def _frames(self, stream: FrameStream) -> SyncFrames:
        return SyncFrames(self, self._loop, stream)


class SyncFrames:
    """The frames of one stream: a plain iterator.

    Leaving its loop early closes the connection as soon as nothing refers to it;
    ``with`` or close() do so at a certain time.
    """

    def __init__(self, owner: SyncClient, loop: _LoopThread, stream: FrameStream) -> None:
        self._owner = owner  # lives as long as its iterators do
        self._loop = loop
        self._stream = stream
        self._batches = _Batches(stream)
        self._ready: Iterator[Frame] = iter(())
        self._close = finalize(self, _leave, loop, stream)
        self._close.atexit = False  # the client's own end does it

    @property
    def stream_id(self) -> str | None:
        """The stream's id, as soon as it is known."""
        return self._stream.stream_id

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Frame:
        while True:
            for frame in self._ready:
                return frame
            batch = self._loop.call(self._batches.next)
            if batch is None:
                raise StopIteration
            self._ready = iter(batch)

    def close(self) -> None:
        """Close the connection; no frame follows."""
        self._ready = iter(())
        self._close()


class _Batches:
    """What the loop's thread holds of an iterator; the last reference to the iterator itself shall be its user's."""

    def __init__(self, stream: FrameStream) -> None:
        self._stream = stream
        self._batches: AsyncGenerator[list[Frame], None] | None = None

    async def next(self) -> list[Frame] | None:
        """The next batch, None at the end."""
        if self._batches is None:
            self._batches = self._stream.batches()
        return await anext(self._batches, None)


class _Work(Generic[T]):
    """A task of the loop's thread that another one waits for.

    Its coroutine is made where it runs.  An interrupt may come at any place of the
    waiting thread, and between making and scheduling it would leave one that never runs.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, make: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self.done: Future[T] = Future()
        self._loop = loop
        self._make = make
        self._task: asyncio.Task[T] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = self._loop.create_task(self._make())
        self._task.add_done_callback(self._finish)

    def stop(self) -> None:
        """Cancel it; nobody waits any more."""
        if self._task is not None:
            self._task.cancel()

    def _finish(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self.done.cancel()
        elif (error := task.exception()) is not None:
            self.done.set_exception(error)
        else:
            self.done.set_result(task.result())


class _LoopThread:
    """A loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fastmesh-client", daemon=True)
        self._thread.start()

    def call(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What the work of *make* returns or raises; when the wait is interrupted, it is cancelled."""
        if self._loop.is_closed():
            raise RuntimeError("the client is closed")
        if threading.current_thread() is self._thread:
            raise RuntimeError("called from the client's own thread")
        work = _Work(self._loop, make)
        try:
            self._loop.call_soon_threadsafe(work.start)
            return work.done.result()
        except BaseException:
            with suppress(RuntimeError):  # the loop was closed meanwhile, and has cancelled all that ran
                self._loop.call_soon_threadsafe(work.stop)
            raise

    def leave(self, stream: FrameStream) -> None:
        """Close *stream*, and wait for it unless it is this thread that asks."""
        with suppress(RuntimeError):  # the loop is closed, and the stream with it
            self._last(stream.aclose)

    def end(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do the work of *last*, then end the thread."""
        work = self._last(last)
        if threading.current_thread() is self._thread:  # a collection of garbage that runs here
            work.done.add_done_callback(lambda _: self._loop.stop())
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_TIMEOUT_S)

    def _last(self, make: Callable[[], Coroutine[Any, Any, None]]) -> _Work[None]:
        work = _Work(self._loop, make)
        self._loop.call_soon_threadsafe(work.start)
        if threading.current_thread() is not self._thread:
            with suppress(TimeoutError):
                work.done.result(CLOSE_TIMEOUT_S)
        return work

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            # The runner cancels what is left and closes the loop, when stop() ends it.
            runner.get_loop().run_forever()


def _leave(loop: _LoopThread, stream: FrameStream) -> None:
    loop.leave(stream)


def _close(loop: _LoopThread, client: Client) -> None:
    loop.end(client.close)
