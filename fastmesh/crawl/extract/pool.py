"""ExtractPool: processes that extract pages, so that the loop never does.

A page that kills its worker, or keeps it too long, costs itself and nothing
else: the worker is replaced, and what waits goes on to the others.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Hashable, Sequence
from typing import Final, cast

import orjson

from fastmesh.crawl.extract.gate import Extracted, Gate
from fastmesh.crawl.extract.spec import ExtractSpec
from fastmesh.crawl.extract.standing import CoreTime, Standing, core_time, starves
from fastmesh.crawl.extract.worker import ANSWER, DONE, FAILED, JOB, LAST, gate_of, ready
from fastmesh.crawl.fairness.line import Owner
from fastmesh.crawl.fairness.rota import Rota
from fastmesh.errors import DecodeFailed, ExtractFailed, FastmeshError, UnsupportedContent, UrlError
from fastmesh.telemetry.bugs import Bugs
from fastmesh.telemetry.log import get_logger
from fastmesh.telemetry.rates import RecentShare

COMMAND: Final = (sys.executable, "-m", "fastmesh.crawl.extract.worker")
START_TIMEOUT_S: Final = 30.0  # a worker takes 0.1 s; a machine that is busy starting takes longer
FIRST_BACKOFF_S, MAX_BACKOFF_S = 0.1, 5.0
SHORT_LIFE_S: Final = 1.0  # with no page in it, a worker died at once
LOOK_S: Final = 0.2  # a page that takes so long is looked at: whether its worker has a core at all
# What a page may use of a core, by its size: another client's waits 2 s and not 10 behind a small one that is hostile.
CORE_S, CORE_S_A_BYTE = 2.0, 1e-6
MAX_ERROR_BYTES: Final = 65_536
PIECE_BYTES: Final = 131_072

ERRORS: Final[dict[str, type[UrlError]]] = {
    error.type: error for error in (UnsupportedContent, ExtractFailed, DecodeFailed)
}

log = get_logger()


class WorkerUnavailable(FastmeshError):
    """An extraction worker does not start."""


class ExtractPool:
    """*count* worker processes and the pages that wait for them.

    Clients take turns, and so do each one's owners (streams), so a thousand pages of one, or some that take their
    whole time, do not hold up three of another, in however many streams they are.  A page may keep a worker for
    *deadline_s*; while no worker is alive, it waits as long for one.  Figures: ``alive`` and ``busy`` workers,
    ``waiting`` pages, ``deaths`` of workers (those that took too long included), ``retired`` ones
    (which held too much memory after a page) and ``failed`` pages, through a
    worker's death or for want of workers.
    """

    def __init__(
        self,
        count: int,
        deadline_s: float = 10.0,
        command: Sequence[str] = COMMAND,
        bugs: Bugs | None = None,
        standing: Standing | None = None,
    ) -> None:
        self.count = count
        self._bugs = bugs or Bugs()
        self.deaths = 0
        self.retired = 0
        self.failed = 0
        self.died = RecentShare()
        self._standing = standing or Standing()
        self._deadline_s = deadline_s
        self._command = tuple(command)
        self._jobs: Rota[_Job] = Rota()
        self._workers: set[_Worker] = set()
        self._idle: deque[_Worker] = deque()
        self._keepers: list[asyncio.Task[None]] = []
        self._open = False
        self._none_since_s = 0.0  # since when no worker is alive
        self._rescue: asyncio.TimerHandle | None = None

    @property
    def alive(self) -> int:
        return sum(worker.alive for worker in self._workers)

    @property
    def busy(self) -> int:
        return sum(worker.job is not None for worker in self._workers)

    @property
    def waiting(self) -> int:
        return self._jobs.waiting

    @property
    def pids(self) -> list[int]:
        """The processes of the workers that are alive."""
        return [worker.pid for worker in self._workers if worker.alive]

    async def start(self) -> None:
        """Start the workers.  Raises WorkerUnavailable when one does not start; then none is left."""
        starts = [asyncio.create_task(self._start_worker()) for _ in range(self.count)]
        try:
            await asyncio.wait(starts, return_when=asyncio.FIRST_EXCEPTION)
            for start in starts:
                if start.done():  # all of them, unless one failed: that one raises here
                    start.result()
            workers = [start.result() for start in starts]
        except BaseException:
            for start in starts:
                start.cancel()  # once: a second time would interrupt its cleaning up
            await asyncio.gather(*starts, return_exceptions=True)
            await self._end_workers()
            raise
        self._open = True
        self._keepers = [asyncio.create_task(self._keep(worker)) for worker in workers]

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

        Raises its errors, and ExtractFailed when the worker dies or takes too
        long, or none comes alive.  When it is cancelled, its page leaves the queue;
        a worker that has it already finishes it for nobody.
        """
        if not self._open:
            raise ExtractFailed("the extraction workers do not run")
        head = {
            "url": url.encode(errors="replace").decode(),
            "content_type": content_type and content_type.encode(errors="replace").decode(),
            "spec": spec.written(),
            "limit_s": self._deadline_s * 2,
            "core_s": CORE_S + CORE_S_A_BYTE * len(body),
        }
        job = _Job(client, owner, orjson.dumps(head), body, spec.max_bytes)
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
        self._stop_rescue()
        for job in (*self._jobs, *(worker.job for worker in self._workers)):
            if job is not None:
                job.fail("the extraction workers were closed")
        self._jobs = Rota()
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._keepers.clear()
        await self._end_workers()

    # ── pages to workers ─────────────────────────────────────────────────────────────────

    def _dispatch(self) -> None:
        while self._idle and (job := self._jobs.next()) is not None:
            self._idle.popleft().give(job, self._deadline_s)
        if self._jobs.waiting and not self.alive:
            self._plan_rescue()

    def worker_idle(self, worker: _Worker) -> None:
        """*worker* can take a page."""
        self._stop_rescue()
        now_s = asyncio.get_running_loop().time()
        if not worker.pages:
            worker.idle = self._standing.put_back(worker.pid, now_s)
        elif not worker.idle and not self._jobs.waiting and self._standing.may_be_idle(now_s):
            worker.retire()  # the next one may stand back
            return
        self._idle.append(worker)
        self._dispatch()

    def worker_starved(self, job: _Job) -> None:
        """A worker hardly had a core for *job*, which waits again, for one that does not stand back so far."""
        self._standing.starved(asyncio.get_running_loop().time())
        if not job.extracted.done():
            self._jobs.join(job.client, job.owner, job)

    def worker_gone(self, worker: _Worker) -> None:
        """*worker* will answer no more; its page, if it had one, failed with it."""
        if worker in self._idle:
            self._idle.remove(worker)
        if not self.alive:
            self._none_since_s = asyncio.get_running_loop().time()
        self._dispatch()

    def _plan_rescue(self) -> None:
        """While no worker is alive, fail each page when it has waited for the deadline."""
        if self._rescue is None:
            oldest_s = min(job.queued_s for job in self._jobs)
            at_s = max(self._none_since_s, oldest_s) + self._deadline_s
            self._rescue = asyncio.get_running_loop().call_at(at_s, self._fail_oldest)

    def _stop_rescue(self) -> None:
        if self._rescue is not None:
            self._rescue.cancel()
            self._rescue = None

    def _fail_oldest(self) -> None:
        self._rescue = None
        now_s = asyncio.get_running_loop().time()
        for job in [job for job in self._jobs if job.queued_s + self._deadline_s <= now_s]:
            self._jobs.leave(job.client, job.owner, job)
            self.failed += 1
            job.fail(f"no extraction worker was alive for {self._deadline_s:g} s")
        if self._jobs.waiting:
            self._plan_rescue()

    # ── a worker's life ──────────────────────────────────────────────────────────────────

    async def _keep(self, worker: _Worker | None) -> None:
        """Replace *worker* whenever it ends: at once, unless it died of itself as soon as it was there.

        A page that kills its worker is no reason to wait: the next page is not to blame.
        """
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
                worker = await self._start_worker()
            except WorkerUnavailable as error:
                log.error("extract.worker_unavailable", reason=str(error), retry_in_s=backoff_s)
            except Exception as error:  # noqa: BLE001 - whatever it is, this place has a worker again
                worker = None
                self._bugs.met("workers", error)

    async def _bury(self, worker: _Worker, backoff_s: float) -> None:
        status = await self._end(worker)
        if worker.retired:
            self.retired += 1
            log.info("extract.worker_retired", pid=worker.pid, pages=worker.pages)
        else:
            self.deaths += 1
            self.died.count(asyncio.get_running_loop().time(), 1)
            log.warning("extract.worker_died", pid=worker.pid, status=status, retry_in_s=backoff_s)

    async def _start_worker(self) -> _Worker:
        loop = asyncio.get_running_loop()
        worker = self._spawn()
        self._workers.add(worker)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await loop.create_unix_connection(lambda: worker, sock=worker.link)
                if await worker.ready:
                    return worker
        except TimeoutError:
            await self._end(worker)
            raise WorkerUnavailable(f"an extraction worker was not ready within {START_TIMEOUT_S:g} s") from None
        except BaseException:
            await self._end(worker)
            raise
        status = await self._end(worker)
        raise WorkerUnavailable(f"an extraction worker ended before it was ready, with status {status}")

    def _spawn(self) -> _Worker:
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise WorkerUnavailable(f"an extraction worker does not start: {error}") from error
        ours.setblocking(False)
        with theirs:
            try:
                process = subprocess.Popen(
                    [*self._command, str(theirs.fileno())],
                    pass_fds=(theirs.fileno(),),
                    process_group=0,  # a terminal's Ctrl-C is for the daemon, which ends its workers itself
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,  # ours may be a pipe that somebody reads frames from
                )
            except OSError as error:
                ours.close()
                raise WorkerUnavailable(f"an extraction worker does not start: {error}") from error
        return _Worker(self, process, ours)

    async def _end(self, worker: _Worker) -> int:
        """Kill *worker* if it lives, and wait for its end; return its exit status."""
        status = await worker.end()
        self._workers.discard(worker)  # only now: what a cancel interrupts, close() repeats
        return status

    async def _end_workers(self) -> None:
        await asyncio.gather(*map(self._end, list(self._workers)))


class _Job:
    """One page on its way to a document."""

    __slots__ = ("body", "client", "extracted", "head", "max_bytes", "owner", "queued_s")

    def __init__(self, client: Hashable, owner: Owner, head: bytes, body: bytes, max_bytes: int) -> None:
        loop = asyncio.get_running_loop()
        self.client = client
        self.owner = owner
        self.head = head
        self.body = body
        self.max_bytes = max_bytes
        self.queued_s = loop.time()
        # An error is a result here: an exception that nobody fetches any more, asyncio would complain of.
        self.extracted: asyncio.Future[Extracted | UrlError] = loop.create_future()

    def fail(self, reason: str) -> None:
        self.take(ExtractFailed(reason))

    def take(self, extracted: Extracted | UrlError) -> None:
        """Take what became of the page."""
        if not self.extracted.done():  # else nobody waits for it
            self.extracted.set_result(extracted)


def _result(status: int, answer: bytes, gate: Gate) -> Extracted | UrlError:
    """What a worker's *answer* says.  Raises ValueError for what none writes."""
    if status == DONE:
        return Extracted(answer, gate)
    error = orjson.loads(answer)
    if status != FAILED or not isinstance(error, dict):
        raise ValueError(f"it answers with status {status}")
    type_, message = error.get("type"), error.get("message")
    if not (isinstance(type_, str) and isinstance(message, str)):
        raise ValueError("its error has no type or no message")
    return ERRORS.get(type_, ExtractFailed)(message)


class _Worker(asyncio.Protocol):
    """One process, and our end of the socket to it.

    ``ready`` says whether it can take pages, as soon as that is known; ``gone`` is
    done when it will answer no more.
    """

    def __init__(self, pool: ExtractPool, process: subprocess.Popen[bytes], link: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self.pid = process.pid
        self.job: _Job | None = None
        self.pages = 0
        self.retired = False
        self.idle = False  # under SCHED_IDLE
        self.ready: asyncio.Future[bool] = loop.create_future()
        self.ready_s = 0.0
        self.gone: asyncio.Future[None] = loop.create_future()
        self._pool = pool
        self._process = process
        self.link = link
        self._transport: asyncio.Transport | None = None
        self._writable = True
        self._sent_bytes = 0  # of the job's body
        self._received = bytearray()
        self._limit_s = 0.0  # of the job
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def alive(self) -> bool:
        return self.ready_s > 0 and not self.gone.done()

    def give(self, job: _Job, deadline_s: float) -> None:
        """Send it *job*, and kill it when the answer takes longer than *deadline_s*."""
        assert self._transport is not None
        self.job = job
        self.pages += 1
        self._limit_s = deadline_s
        self._watch(deadline_s)
        self._transport.write(JOB.pack(len(job.head), len(job.body)) + job.head)
        self._sent_bytes = 0
        self._send()

    def _watch(self, left_s: float, before: CoreTime | None = None) -> None:
        """Give its page *left_s* more; meanwhile, while it stands back, see whether it has a core at all."""
        loop = asyncio.get_running_loop()
        if self.idle and left_s > LOOK_S:
            self._deadline = loop.call_later(LOOK_S, self._look, left_s - LOOK_S, before)
        else:
            self._deadline = loop.call_later(left_s, self._fail, f"the extraction took longer than {self._limit_s:g} s")

    def _look(self, left_s: float, before: CoreTime | None) -> None:
        now, job = core_time(self.pid), self.job
        if job is None or before is None or not starves(before, now):
            self._watch(left_s, now)
            return
        self._let_go()
        self._pool.worker_starved(job)
        self.retire()

    def retire(self) -> None:
        """Take no page any more: another takes its place."""
        self.retired = True
        self._fail("it makes room for another")

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._send()

    def _send(self) -> None:
        """A piece of the body a turn of the loop: 20 MB in one would hold it for 8 to 16 ms."""
        if self.job is None or not self._writable or self._transport is None:
            return
        piece = self.job.body[self._sent_bytes : self._sent_bytes + PIECE_BYTES]
        if piece:
            self._sent_bytes += len(piece)
            self._transport.write(piece)
            if self._writable and self._sent_bytes < len(self.job.body):
                asyncio.get_running_loop().call_soon(self._send)

    async def end(self) -> int:
        self._process.kill()
        if self._transport is None:
            self.link.close()
        else:
            self._transport.abort()
        # A thread, since the kernel may take a while to give back a large process's memory.
        return await asyncio.to_thread(self._process.wait)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's Unix transport is none of asyncio's

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) < ANSWER.size:
            return
        status, size, decision, score = ANSWER.unpack_from(self._received)
        job = self.job
        if not self.ready.done() and self._received == ready():
            self._received.clear()
            self.ready_s = asyncio.get_running_loop().time()
            self.ready.set_result(True)
            self._pool.worker_idle(self)
        elif job is None or size > max(job.max_bytes, MAX_ERROR_BYTES) or len(self._received) > ANSWER.size + size:
            self._fail("the worker that extracted this page spoke out of turn")
        elif len(self._received) == ANSWER.size + size:
            answer = bytes(memoryview(self._received)[ANSWER.size :])
            self._received = bytearray()
            # It goes into the frame as it is, and a frame is one line of NDJSON and of an event's data.
            if b"\n" in answer or b"\r" in answer:
                self._fail("the worker that extracted this page sent more than one line")
                return
            try:
                extracted = _result(status & ~LAST, answer, gate_of(decision, score))
            except ValueError as error:
                self._fail(f"the worker that extracted this page is broken: {error}")
                return
            self._let_go()
            job.take(extracted)
            if status & LAST:
                self.retire()  # it holds too much memory
            else:
                self._pool.worker_idle(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("the worker that extracted this page died")

    def _fail(self, reason: str) -> None:
        """The end of this worker: its page fails with *reason*, and whoever keeps it ends the process."""
        if self.gone.done():
            return
        self.gone.set_result(None)
        job = self.job
        self._let_go()
        if job is not None:
            self._pool.failed += 1
            job.fail(reason)
        if not self.ready.done():
            self.ready.set_result(False)
        self._process.kill()
        self._pool.worker_gone(self)

    def _let_go(self) -> None:
        self.job = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
