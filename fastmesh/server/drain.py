"""How a daemon ends within one deadline: streams may finish, then be read to their ends, then are cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from fastmesh.server.context import Context
from fastmesh.telemetry.log import get_logger

log = get_logger()

# Of the deadline: running streams may finish for the first part; told to end, they are read in the second; in the rest
# connections that still deliver are cut off, and the daemon closes.
FINISH_SHARE: Final = 0.8
READ_SHARE: Final = 0.95


class Drain:
    """The end of a daemon that has *deadline_s* seconds left, from now on."""

    def __init__(self, shared: Context, deadline_s: float) -> None:
        self._shared = shared
        self._deadline_s = deadline_s
        self._began = shared.clock()

    def left_s(self, share: float = 1.0) -> float:
        """Seconds until *share* of the deadline is over, less than none when it took longer."""
        return self._began + share * self._deadline_s - self._shared.clock()

    async def run(self, hurry: asyncio.Event) -> None:
        """Admit no new streams and end those that run; when *hurry* is set, without waiting for their readers.

        A stream that does not finish in its share gets a summary that says
        ``shutdown``, and what is not read by then is cut off.
        """
        shared, module = self._shared, self._shared.module
        log.info("daemon.draining", deadline_s=self._deadline_s, connections=len(shared.connections))
        shared.draining = True
        module.stop_admitting()
        shared.each_connection(lambda connection: connection.drain())
        await _either(hurry, module.wait_closed(max(0.0, self.left_s(FINISH_SHARE))))
        module.stop_all("shutdown")
        await _either(hurry, self._delivered())
        shared.each_connection(lambda connection: connection.abort())

    async def _delivered(self) -> None:
        """Wait until each stream is read and each connection closed: no slow client delays another's goodbye."""
        shared = self._shared
        while (shared.connections or shared.module.registry.active) and self.left_s(READ_SHARE) > 0:
            shared.each_connection(lambda connection: connection.drain())
            await asyncio.sleep(shared.wheel.step_s)


async def _either(hurry: asyncio.Event, waiting: Coroutine[Any, Any, object]) -> None:
    """Wait for *waiting*, but no longer than until *hurry*."""
    tasks = [asyncio.ensure_future(waiting), asyncio.ensure_future(hurry.wait())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
