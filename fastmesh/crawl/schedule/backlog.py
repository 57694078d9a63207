"""A stream's URLs that are not started yet, and which of them may be.

They stand in one queue for each host.  A queue whose host has no slot free waits in that host's line and holds nothing;
the others go on.  Among those that could start, first is the domain with the fewest of this stream's URLs under way,
and in it the host with the fewest (shares.py), so that a slow host never takes all of the stream's places; among equals
the input's order decides.  Where results leave in the input's order that alone decides.

The input may grow until its end is said: what is added stands behind what is there, and is fair with it.  With
*dedupe* a URL that stands in the input again is not started: it gets the first one's result (repeats.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Hashable, Sequence
from heapq import heappop, heappush
from typing import Any, Final

from fastmesh.crawl.net.url import domain_of
from fastmesh.crawl.options import InputUrl
from fastmesh.crawl.schedule.input_memory import input_memory
from fastmesh.crawl.schedule.permit import RetryBudget
from fastmesh.crawl.schedule.repeats import Repeat, Repeats, origin_of
from fastmesh.crawl.schedule.shares import Domain, Shares
from fastmesh.crawl.schedule.slots import HostSlot, Slots
from fastmesh.events import PageResult
from fastmesh.telemetry.trace import Trace

_PORT: Final = re.compile(r":[0-9]*$")

Run = Callable[["Job"], Coroutine[Any, Any, PageResult]]
Locate = Callable[[str], str | None]


class Job:
    """One URL that was started: its slot at its host, if it has one, and what its retries are counted in.  *repeats* is
    where its URL stands again: index, URL and id of each."""

    __slots__ = ("_queue", "_run", "backlog", "budget", "index", "input", "queued_s", "repeats", "slot")

    def __init__(
        self,
        backlog: Backlog,
        queue: _Queue,
        index: int,
        input: InputUrl,
        repeats: Sequence[Repeat],
        slot: HostSlot | None,
        run: Run,
    ) -> None:
        self.backlog = backlog
        self.budget = queue.budget
        self.index = index
        self.input = input
        self.repeats = repeats
        self.slot = slot
        self.queued_s, queue.waited_s = queue.waited_s, 0.0
        self._queue: _Queue | None = queue
        self._run = run

    def run(self) -> Coroutine[Any, Any, PageResult]:
        """Fetch and extract it."""
        return self._run(self)

    def close(self) -> None:
        """It has ended, however: nothing of it is held any more.  A second time is nothing."""
        queue, self._queue = self._queue, None
        if queue is not None:
            if self.slot is not None:
                self.slot.give_back(asked=False)
            self.backlog._job_ended(queue, self.index)


class _Queue:
    """The URLs of one host."""

    __slots__ = tuple("backlog budget domain indexes key located open origin running since waited_s".split())

    def __init__(self, backlog: Backlog, origin: str, domain: Domain) -> None:
        self.backlog = backlog
        self.origin = origin
        self.domain = domain
        self.budget = RetryBudget()
        self.indexes: list[int] = []  # a heap
        self.key: str | None = None  # None: no host, so they need no slot
        self.located = False
        self.open = True  # not in its host's line
        self.running = 0
        self.since = 0.0
        self.waited_s = 0.0

    def called(self) -> None:
        """A slot of the host is this queue's to take."""
        self.backlog._called(self)


class Backlog:
    """The URLs of one stream.

    *locate* says the host of a scheme and an authority, None when it is none; *wake* is called when ``ready`` may
    say yes again, and when the input has ended.  It is empty when no URL is *left*, and *ended* when none will be
    added.  With *dedupe* a URL that is there more than once is started once; with *in_order* the input's order goes
    before fairness among hosts.
    """

    def __init__(
        self,
        wake: Callable[[], None],
        *,
        slots: Slots,
        locate: Locate,
        run: Run,
        dedupe: bool = False,
        in_order: bool = False,
        trace: Trace | None = None,
        client: Hashable = None,
    ) -> None:
        self.client = client  # in whose turns its bodies are decoded and its pages extracted
        self.trace = trace  # its fetches are spans below it
        self.left = 0
        self.memory = 0
        self.ended = False  # no further URL is added
        self._inputs: list[InputUrl] = []
        self._wake = wake
        self._slots = slots
        self._locate = locate
        self._run = run
        self._repeats = Repeats() if dedupe else None
        self._by_host: dict[str | None, _Queue] = {}
        self._next: _Queue | None = None  # what ``ready`` said yes of
        self._closed = False
        self._shares: Shares[_Queue] = Shares(in_order=in_order)
        # Where an added URL belongs, until the input ends.
        self._by_origin: dict[str, _Queue] = {}
        self._domains: dict[str, Domain] = {}
        self._counted: set[int] = set()  # options whose memory is

    def add(self, inputs: Sequence[InputUrl]) -> None:
        """Add *inputs* behind those that are there; of a backlog that was closed this is nothing."""
        assert not self.ended, "the input has ended"
        if self._closed:
            return
        by_origin, domains, repeats = self._by_origin, self._domains, self._repeats
        hosts = len(by_origin)
        for index, input in enumerate(inputs, len(self._inputs)):
            origin = origin_of(input.url)
            if repeats is not None and repeats.take(index, input, origin):
                continue
            queue = by_origin.get(origin)
            if queue is None:
                name = domain_of(_PORT.sub("", origin.partition("//")[2]).lower())
                domain = domains.get(name)
                if domain is None:
                    domain = domains[name] = Domain()
                queue = by_origin[origin] = _Queue(self, origin, domain)
            queue.indexes.append(index)  # the largest so far: it stays a heap
            queue.budget.urls += 1
            self.left += 1
            if len(queue.indexes) == 1:
                self._shares.changed(queue)
        self._inputs += inputs
        self.memory += input_memory(inputs, len(by_origin) - hosts, self._counted)
        self._wake()

    @property
    def total(self) -> int:
        """How many URLs the input has so far."""
        return len(self._inputs)

    def end_of_input(self) -> None:
        """All URLs are there."""
        self.ended = True
        if self._repeats is not None:
            self._repeats.end()
        self._forget_input()
        self._wake()

    def ready(self) -> bool:
        """Whether a URL may be started now; queues whose host has no slot are put in that host's line meanwhile."""
        while (queue := self._shares.first()) is not None:
            if not queue.located:
                self._find_host(queue)
            elif queue.key is None or self._slots.ready(queue.key, queue.called):
                self._next = queue
                return self._slots.starts.may(self._wake)
            else:
                queue.open = False
                self._shares.changed(queue)
                queue.since = self._slots.now()
                self._slots.wait(queue.key, self, queue.called)
        return False

    @property
    def first(self) -> int:
        """The index that ``take`` would start, right after ``ready`` said yes."""
        assert self._next is not None
        return self._next.indexes[0]

    def take(self) -> Job:
        """Start the URL that ``ready`` said may be."""
        queue, self._next = self._next, None
        assert queue is not None
        self._slots.starts.count()
        index = heappop(queue.indexes)
        self.left -= 1
        self._shares.changed(queue, 1)
        slot = None if queue.key is None else self._slots.take(queue.key)
        repeats = () if self._repeats is None else self._repeats.started(index)
        return Job(self, queue, index, self._inputs[index], repeats, slot, self._run)

    def close(self) -> None:
        """No further URL is started."""
        self._closed = True
        self._next = None
        self._shares.clear()
        for key, queue in self._by_host.items():
            if key is not None and not queue.open:
                queue.open = True
                self._slots.withdraw(key, self, queue.called)
        # Queues know their backlog, and pages that still run know theirs.
        self._by_host.clear()
        self._repeats = None
        self._inputs = []
        self._forget_input()

    def _find_host(self, queue: _Queue) -> None:
        """Ask for the host of a queue that is first for the first time; two spellings of one share a queue."""
        key = self._locate(queue.origin)
        same = self._by_host.setdefault(key, queue)
        if same is queue:
            queue.key = key
            queue.located = True
            return
        if not self.ended:
            self._by_origin[queue.origin] = same
        same.budget.urls += queue.budget.urls
        for index in queue.indexes:
            heappush(same.indexes, index)
        queue.indexes.clear()
        self._shares.changed(queue)
        self._offer(same)

    def _called(self, queue: _Queue) -> None:
        queue.open = True
        queue.waited_s = self._slots.now() - queue.since
        self._offer(queue)
        self._wake()

    def _job_ended(self, queue: _Queue, index: int) -> None:
        if self._closed:
            return
        self._shares.changed(queue, -1)
        if self._repeats is not None:
            self._repeats.ended(index, self._inputs[index])

    def _offer(self, queue: _Queue) -> None:
        if not self._closed:
            self._shares.changed(queue)

    def _forget_input(self) -> None:
        for table in (self._by_origin, self._domains, self._counted):
            table.clear()
