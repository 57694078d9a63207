"""The client for programs without asyncio.

    with SyncClient("http://127.0.0.1:8080") as client:
        for frame in client.crawl(["https://example.com/"]):
            ...

A background thread runs the loop.  Nothing is read ahead: the loop is asked for the next batch when the last one is
used up, so a slow program holds its stream as a slow reader does.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from functools import wraps
from inspect import signature
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar
from weakref import finalize

from fastmesh.client.client import Client
from fastmesh.client.frames import Frame
from fastmesh.client.loop_thread import LoopThread
from fastmesh.client.stream import FrameStream

P = ParamSpec("P")
T = TypeVar("T")


def _parameters_of(
    init: Callable[Concatenate[Client, P], None],
) -> Callable[[Callable[..., None]], Callable[Concatenate[SyncClient, P], None]]:
    return wraps(init)


def _iterated(
    method: Callable[Concatenate[Client, P], FrameStream],
) -> Callable[Concatenate[SyncClient, P], SyncFrames]:
    """*method* with a plain iterator for its frames."""

    @wraps(method)
    def call(self: SyncClient, /, *args: P.args, **kwargs: P.kwargs) -> SyncFrames:
        return SyncFrames(self, self._loop, method(self._client, *args, **kwargs))

    call.__dict__["__signature__"] = signature(method).replace(return_annotation="SyncFrames")
    return call


def _waited_for(
    method: Callable[Concatenate[Client, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SyncClient, P], T]:
    """*method* as a plain call."""

    @wraps(method)
    def call(self: SyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        async def work() -> T:  # so that a call with wrong arguments raises here too, and not in the loop
            return await method(self._client, *args, **kwargs)

        return self._loop.call(work)

    return call


class SyncClient:
    """Client, with plain iterators and calls; all parameters are Client's.  To be used in ``with``, or closed."""

    @_parameters_of(Client.__init__)
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._client = Client(*args, **kwargs)
        self._loop = LoopThread()
        # Also at the interpreter's exit: a thread that is killed there leaves connections half closed.
        self._close = finalize(self, self._loop.end, self._client.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End all iterations as if they were left, close all connections, end the thread."""
        self._close()

    crawl = _iterated(Client.crawl)
    deepsearch = _iterated(Client.deepsearch)
    firehose = _iterated(Client.firehose)
    subscribe = _iterated(Client.subscribe)
    open = _waited_for(Client.open)
    cancel = _waited_for(Client.cancel)
    streams = _waited_for(Client.streams)
    stream = _waited_for(Client.stream)


class SyncFrames:
    """The frames of one stream: a plain iterator.  Leaving its loop early closes the connection as soon as nothing
    refers to it; ``with`` or close() do so at a certain time."""

    def __init__(self, owner: SyncClient, loop: LoopThread, stream: FrameStream) -> None:
        self._owner = owner  # lives as long as its iterators do
        self._loop = loop
        self._stream = stream
        self._batches = _Batches(stream)
        self._ready: Iterator[Frame] = iter(())
        self._close = finalize(self, loop.leave, stream.aclose)
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
