"""Workers: so many processes are kept alive, each replaced as soon as it ends."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence
from typing import Final

from fastmesh.crawl.extract.worker_process import Dispatcher, WorkerProcess, WorkerUnavailable
from fastmesh.telemetry.bugs import Bugs
from fastmesh.telemetry.log import get_logger
from fastmesh.telemetry.rates import RecentShare

COMMAND: Final = (sys.executable, "-m", "fastmesh.crawl.extract.worker")
START_TIMEOUT_S: Final = 30.0  # a worker takes 0.1 s; a machine that is busy starting takes longer
FIRST_BACKOFF_S, MAX_BACKOFF_S = 0.1, 5.0
SHORT_LIFE_S: Final = 1.0  # with no page in it, a worker died at once

log = get_logger()


class Workers:
    """*count* processes of *command*, for *dispatcher*.  ``deaths`` counts those that ended by themselves or took too
    long for a page, ``retired`` those that made room for another."""

    def __init__(self, count: int, command: Sequence[str], dispatcher: Dispatcher, bugs: Bugs) -> None:
        self.count = count
        self.deaths = 0
        self.retired = 0
        self.died = RecentShare()
        self._command = tuple(command)
        self._dispatcher = dispatcher
        self._bugs = bugs
        self._processes: set[WorkerProcess] = set()
        self._keepers: list[asyncio.Task[None]] = []

    def __iter__(self) -> Iterator[WorkerProcess]:
        """All that have not ended, also those that start."""
        return iter(self._processes)

    @property
    def alive(self) -> int:
        return sum(worker.alive for worker in self._processes)

    @property
    def busy(self) -> int:
        return sum(worker.job is not None for worker in self._processes)

    @property
    def pids(self) -> list[int]:
        """The processes of those that are alive."""
        return [worker.pid for worker in self._processes if worker.alive]

    async def start(self) -> None:
        """Start them.  Raises WorkerUnavailable when one does not start; then none is left."""
        try:
            async with asyncio.TaskGroup() as starting:
                starts = [starting.create_task(self._start()) for _ in range(self.count)]
            self._keepers = [asyncio.create_task(self._keep(start.result())) for start in starts]
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        finally:
            if not self._keepers:  # one did not start, or nobody waits for them any more
                await self._end_all()

    async def close(self) -> None:
        """End all, and replace none."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._keepers.clear()
        await self._end_all()

    async def _keep(self, worker: WorkerProcess | None) -> None:
        """Replace *worker* whenever it ends: at once, unless it died of itself as soon as it was there.  A page that
        kills its worker is no reason to wait: the next page is not to blame."""
        loop = asyncio.get_running_loop()
        backoff_s = 0.0
        while True:
            try:
                if worker is not None:
                    await worker.gone
                    if worker.pages or loop.time() - worker.ready_s >= SHORT_LIFE_S:
                        backoff_s = 0.0
                    await self._bury(worker, backoff_s)
                    worker = None
                await asyncio.sleep(backoff_s)
                backoff_s = min(max(FIRST_BACKOFF_S, backoff_s * 2), MAX_BACKOFF_S)
                worker = await self._start()
            except WorkerUnavailable as error:
                log.error("extract.worker_unavailable", reason=str(error), retry_in_s=backoff_s)
            except Exception as error:  # noqa: BLE001 - whatever it is, this place has a worker again
                worker = None
                self._bugs.met("workers", error)

    async def _bury(self, worker: WorkerProcess, backoff_s: float) -> None:
        status = await self._end(worker)
        if worker.retired:
            self.retired += 1
            log.info("extract.worker_retired", pid=worker.pid, pages=worker.pages)
        else:
            self.deaths += 1
            self.died.count(asyncio.get_running_loop().time(), 1)
            log.warning("extract.worker_died", pid=worker.pid, status=status, retry_in_s=backoff_s)

    async def _start(self) -> WorkerProcess:
        worker = WorkerProcess.spawn(self._dispatcher, self._command)
        self._processes.add(worker)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                if await worker.connect():
                    return worker
        except TimeoutError:
            await self._end(worker)
            raise WorkerUnavailable(f"an extraction worker was not ready within {START_TIMEOUT_S:g} s") from None
        except BaseException:
            await self._end(worker)
            raise
        status = await self._end(worker)
        raise WorkerUnavailable(f"an extraction worker ended before it was ready, with status {status}")

    async def _end(self, worker: WorkerProcess) -> int:
        status = await worker.end()
        self._processes.discard(worker)  # only now: an end that is cancelled is repeated by close()
        return status

    async def _end_all(self) -> None:
        await asyncio.gather(*map(self._end, list(self._processes)))
