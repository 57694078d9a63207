"""ExtractPool: processes that extract pages, so that the loop never does.  A page that kills its worker, or keeps it
too long, costs itself and nothing else: the worker is replaced, and the pages that wait go on to the others."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable, Sequence

from fastmesh.crawl.extract.protocol import JobHead
from fastmesh.crawl.extract.spec import Extracted, ExtractSpec
from fastmesh.crawl.extract.standing import Standing
from fastmesh.crawl.extract.worker_process import Job, WorkerProcess
from fastmesh.crawl.extract.workers import COMMAND, Workers
from fastmesh.crawl.fairness.line import Owner, Rota
from fastmesh.errors import ExtractFailed, UrlError
from fastmesh.telemetry.bugs import Bugs

# Seconds of a core that a page may take, by its size (worker.py sets the timer): behind a small hostile page another
# client's waits 2 s, and not 10.
CORE_S, CORE_S_A_BYTE = 2.0, 1e-6


class ExtractPool:
    """*count* ``workers`` and the pages that wait for them.

    Clients take turns, and so do each one's owners (streams), so a thousand pages of one, or some that take their
    whole time, do not hold up three of another, in however many streams they are.  A page may keep a worker for
    *deadline_s* (worker_process.py kills it then), and waits as long while no worker is alive.  ``failed`` counts
    pages that failed through a worker's death or for want of workers.
    """

    def __init__(
        self,
        count: int,
        deadline_s: float = 10.0,
        command: Sequence[str] = COMMAND,
        bugs: Bugs | None = None,
        standing: Standing | None = None,
    ) -> None:
        self.workers = Workers(count, command, self, bugs or Bugs())
        self.failed = 0
        self._standing = standing or Standing()
        self.deadline_s = deadline_s
        self._jobs: Rota[Job] = Rota()
        self._free: deque[WorkerProcess] = deque()
        self._open = False
        self._none_since_s = 0.0  # since when no worker is alive
        self._failing: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        return self._jobs.waiting

    async def start(self) -> None:
        """Start the workers.  Raises WorkerUnavailable when one does not start; then none is left."""
        await self.workers.start()
        self._open = True

    async def extract(
        self,
        body: bytes,
        spec: ExtractSpec,
        *,
        url: str,
        content_type: str | None,
        owner: Owner,
        client: Hashable = None,
    ) -> Extracted:
        """extract.extract() in a worker, when it is *client*'s turn and of its owners *owner*'s.

        Raises its errors, and ExtractFailed when the worker dies or takes too long, or none comes alive.  When it is
        cancelled, its page leaves the queue; a worker that has it already finishes it for nobody.
        """
        if not self._open:
            raise ExtractFailed("the extraction workers do not run")
        core_s = CORE_S + CORE_S_A_BYTE * len(body)
        job = Job(client, owner, JobHead(url, content_type, spec, self.deadline_s * 2, core_s), body)
        self._jobs.join(client, owner, job)
        self._dispatch()
        try:
            extracted = await job.extracted
        except asyncio.CancelledError:
            self._jobs.leave(client, owner, job)
            raise
        if isinstance(extracted, UrlError):
            raise extracted
        return extracted

    async def close(self) -> None:
        """End all workers; pages that wait or run fail."""
        self._open = False
        self._stop_failing()
        for job in (*self._jobs, *(worker.job for worker in self.workers)):
            if job is not None:
                job.fail("the extraction workers were closed")
        self._jobs = Rota()
        await self.workers.close()

    def worker_free(self, worker: WorkerProcess) -> None:
        """*worker* is free, for its first page or the next; or it ends, so that one under SCHED_IDLE may follow."""
        self._stop_failing()
        now_s = asyncio.get_running_loop().time()
        if not worker.pages:
            worker.stands_back = self._standing.put_back(worker.pid, now_s)
        elif not worker.stands_back and not self._jobs.waiting and self._standing.may_stand_back(now_s):
            worker.retire()
            return
        self._free.append(worker)
        self._dispatch()

    def worker_starved(self, job: Job) -> None:
        """The worker that has *job* hardly had a core for it: it waits again, for one that does not stand back."""
        self._standing.starved(asyncio.get_running_loop().time())
        if not job.extracted.done():
            self._jobs.join(job.client, job.owner, job)

    def page_failed(self, job: Job, reason: str) -> None:
        self.failed += 1
        job.fail(reason)

    def worker_gone(self, worker: WorkerProcess) -> None:
        if worker in self._free:
            self._free.remove(worker)
        if not self.workers.alive:
            self._none_since_s = asyncio.get_running_loop().time()
        self._dispatch()

    def _dispatch(self) -> None:
        while self._free and (job := self._jobs.next()) is not None:
            self._free.popleft().give(job, self.deadline_s)
        if self._jobs.waiting and not self.workers.alive:
            self._plan_failing()

    def _plan_failing(self) -> None:
        """While no worker is alive, fail each page when it has waited for the deadline."""
        if self._failing is None:
            oldest_s = min(job.queued_s for job in self._jobs)
            at_s = max(self._none_since_s, oldest_s) + self.deadline_s
            self._failing = asyncio.get_running_loop().call_at(at_s, self._fail_overdue)

    def _stop_failing(self) -> None:
        if self._failing is not None:
            self._failing.cancel()
            self._failing = None

    def _fail_overdue(self) -> None:
        self._failing = None
        now_s = asyncio.get_running_loop().time()
        for job in [job for job in self._jobs if job.queued_s + self.deadline_s <= now_s]:
            self._jobs.leave(job.client, job.owner, job)
            self.page_failed(job, f"no extraction worker was alive for {self.deadline_s:g} s")
        if self._jobs.waiting:
            self._plan_failing()
