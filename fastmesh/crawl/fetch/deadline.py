"""The time that one page has, and what spends it.  It runs where a page is asked for, in waits that are handed it, and
nowhere else: waiting for leave to ask a host costs a page none of its time, nor does waiting for room in memory."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from fastmesh.crawl.single_flight import Flight


class Deadline:
    """*left_s* of *limit_s*.  Within ``async with`` the time runs, and its end is a TimeoutError there."""

    __slots__ = ("_since", "_timeout", "left_s", "limit_s")

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.left_s = limit_s
        self._since = 0.0
        self._timeout: asyncio.Timeout | None = None  # while it runs; it knows the task

    async def __aenter__(self) -> None:
        self._since = asyncio.get_running_loop().time()
        self._timeout = asyncio.timeout(self.left_s)
        await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        timeout, self._timeout = self._timeout, None
        assert timeout is not None, "it runs in one place at a time"
        self.left_s -= asyncio.get_running_loop().time() - self._since
        await timeout.__aexit__(kind, error, trace)

    def freeze(self) -> None:
        """It stands still until ``thaw``."""
        if self._timeout is not None:
            self.left_s -= asyncio.get_running_loop().time() - self._since
            self._timeout.reschedule(None)

    def thaw(self) -> None:
        """It runs on."""
        if self._timeout is not None:
            self._since = asyncio.get_running_loop().time()
            self._timeout.reschedule(self._since + self.left_s)

    def end(self) -> None:
        """It is over now, where it runs."""
        if self._timeout is not None:
            self._timeout.reschedule(0.0)

    async def wait(self, flight: Flight[Any]) -> bool:
        """Wait for *flight* as long as there is time; whether it has landed."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            return await flight.wait(max(0.0, self.left_s))
        finally:
            self.left_s -= loop.time() - begun

    async def sleep(self, seconds: float) -> None:
        """Let so much of it pass."""
        self.left_s -= seconds
        await asyncio.sleep(seconds)
