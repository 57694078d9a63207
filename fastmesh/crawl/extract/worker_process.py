"""A worker as the daemon sees it: a process, our end of the socket to it, and the page that it has.  A page that kills
its worker, or keeps it too long, fails; its worker takes no other after it."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Hashable, Sequence
from typing import Final, Protocol, cast

from fastmesh.crawl.extract.protocol import ANSWER, JOB, LAST, MAX_ERROR_BYTES, JobHead, gate_of, ready, result
from fastmesh.crawl.extract.spec import Extracted
from fastmesh.crawl.extract.standing import CoreTime, core_time, starves
from fastmesh.crawl.fairness.line import Owner
from fastmesh.errors import ExtractFailed, FastmeshError, UrlError

LOOK_S: Final = 0.2  # a page that takes so long is looked at: whether its worker has a core at all
PIECE_BYTES: Final = 131_072


class Job:
    """The page *body*, of *client*'s stream *owner*, waiting since *queued_s* by the loop's clock."""

    __slots__ = ("body", "client", "extracted", "head", "max_bytes", "owner", "queued_s")

    def __init__(self, client: Hashable, owner: Owner, head: JobHead, body: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.client = client
        self.owner = owner
        self.head = head.written()
        self.body = body
        self.max_bytes = head.spec.max_bytes
        self.queued_s = loop.time()
        # An error is a result here: an exception that nobody fetches any more, asyncio would complain of.
        self.extracted: asyncio.Future[Extracted | UrlError] = loop.create_future()

    def fail(self, reason: str) -> None:
        """The page fails, unless something became of it already."""
        self.end(ExtractFailed(reason))

    def end(self, extracted: Extracted | UrlError) -> None:
        """This became of the page."""
        if not self.extracted.done():  # else nobody waits for it
            self.extracted.set_result(extracted)


class WorkerUnavailable(FastmeshError):
    """An extraction worker does not start."""


class Dispatcher(Protocol):
    """Who gives pages to workers, and hears from them."""

    def worker_free(self, worker: WorkerProcess) -> None:
        """*worker* can take a page."""

    def worker_starved(self, job: Job) -> None:
        """The worker that has *job* hardly had a core for it, and ends: another must do it."""

    def page_failed(self, job: Job, reason: str) -> None:
        """The worker that has *job* ends with it."""

    def worker_gone(self, worker: WorkerProcess) -> None:
        """*worker* takes no page any more."""


class WorkerProcess(asyncio.Protocol):
    """One worker; *pages* counts those that it was given.  ``ready`` says whether it can take pages, as soon as that is
    known; ``gone`` is done when it will answer no more.  Whoever started it must end it."""

    def __init__(self, dispatcher: Dispatcher, process: subprocess.Popen[bytes], link: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self.pid = process.pid
        self.job: Job | None = None
        self.pages = 0
        self.retired = False
        self.stands_back = False  # under SCHED_IDLE
        self.ready: asyncio.Future[bool] = loop.create_future()
        self.ready_s = 0.0
        self.gone: asyncio.Future[None] = loop.create_future()
        self._dispatcher = dispatcher
        self._process = process
        self._link = link
        self._transport: asyncio.Transport | None = None
        self._writable = True
        self._sent_bytes = 0  # of the job's body
        self._received = bytearray()
        self._limit_s = 0.0  # of the job
        self._deadline: asyncio.TimerHandle | None = None

    @classmethod
    def spawn(cls, dispatcher: Dispatcher, command: Sequence[str]) -> WorkerProcess:
        """Start *command*, which is told the number of its end of the socket.  Raises WorkerUnavailable."""
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise WorkerUnavailable(f"an extraction worker does not start: {error}") from error
        ours.setblocking(False)
        with theirs:
            try:
                process = subprocess.Popen(
                    [*command, str(theirs.fileno())],
                    pass_fds=(theirs.fileno(),),
                    process_group=0,  # a terminal's Ctrl-C is for the daemon, which ends its workers itself
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,  # ours may be a pipe that somebody reads frames from
                )
            except OSError as error:
                ours.close()
                raise WorkerUnavailable(f"an extraction worker does not start: {error}") from error
        return cls(dispatcher, process, ours)

    @property
    def alive(self) -> bool:
        return self.ready_s > 0 and not self.gone.done()

    async def connect(self) -> bool:
        """Wait until it can take pages, or has ended before that; whether it can."""
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=self._link)
        return await self.ready

    def give(self, job: Job, deadline_s: float) -> None:
        """Send it *job*, and kill it when the answer takes longer than *deadline_s*."""
        assert self._transport is not None
        self.job = job
        self.pages += 1
        self._limit_s = deadline_s
        self._watch(deadline_s)
        self._transport.write(JOB.pack(len(job.head), len(job.body)) + job.head)
        self._sent_bytes = 0
        self._send()

    def retire(self) -> None:
        """Take no page any more: another takes its place."""
        self.retired = True
        self._fail("it makes room for another")

    async def end(self) -> int:
        """Kill it if it lives, and wait for its end; return its exit status."""
        self._process.kill()
        if self._transport is None:
            self._link.close()
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
            self._dispatcher.worker_free(self)
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
                extracted = result(status & ~LAST, answer, gate_of(decision, score))
            except ValueError as error:
                self._fail(f"the worker that extracted this page is broken: {error}")
                return
            self._let_go()
            job.end(extracted)
            if status & LAST:
                self.retire()  # it holds too much memory
            else:
                self._dispatcher.worker_free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("the worker that extracted this page died")

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

    def _watch(self, left_s: float, before: CoreTime | None = None) -> None:
        """Give its page *left_s* more; meanwhile, while it stands back, see whether it has a core at all."""
        loop = asyncio.get_running_loop()
        if self.stands_back and left_s > LOOK_S:
            self._deadline = loop.call_later(LOOK_S, self._look, left_s - LOOK_S, before)
        else:
            self._deadline = loop.call_later(left_s, self._fail, f"the extraction took longer than {self._limit_s:g} s")

    def _look(self, left_s: float, before: CoreTime | None) -> None:
        now, job = core_time(self.pid), self.job
        if job is None or before is None or not starves(before, now):
            self._watch(left_s, now)
            return
        self._let_go()
        self._dispatcher.worker_starved(job)
        self.retire()

    def _fail(self, reason: str) -> None:
        """It answers no more: its page fails with *reason*, and it waits to be ended."""
        if self.gone.done():
            return
        self.gone.set_result(None)
        job = self.job
        self._let_go()
        if job is not None:
            self._dispatcher.page_failed(job, reason)
        if not self.ready.done():
            self.ready.set_result(False)
        self._process.kill()
        self._dispatcher.worker_gone(self)

    def _let_go(self) -> None:
        self.job = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
