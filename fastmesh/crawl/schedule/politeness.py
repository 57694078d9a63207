"""Which fetch may start at a host next: how many at once, how soon after another, and in which order.

Politeness is a machine: it is told which fetches wait, begin and end and what the host answered, each with the time,
and says which is next.  It owns no socket, timer or task, so a test plays a day with a slow host in a millisecond.

A host serves the owners that wait in turn (an owner is a stream), so one of a thousand URLs does not starve one of
three.  Until its robots.txt is known it gets one URL at a time.  One that answers "too many" gets half as many starts a
second, and a little more with each answer that is better.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from typing import Final

from fastmesh.crawl.fairness.line import Line, Owner

# A host that asked for less: so many starts a second at first and at least, and so many more with each good answer
# until it is as if nothing had been.  Back from the first slow-down takes about 10 s, from the slowest 35 s.
FIRST_STARTS_PER_S: Final = 2.0
FEWEST_STARTS_PER_S: Final = 0.1
MORE_STARTS_PER_S: Final = 0.2
ENOUGH_STARTS_PER_S: Final = 16.0
# Longer than this no host holds its URLs on its word alone: then one is tried, and told anew.
MAX_PAUSE_S: Final = 30.0
MAX_CRAWL_DELAY_S: Final = 60.0
# Hosts with nothing under way that are remembered, because they were slowed down or must be left alone for a while; at
# most for as long after, which is much longer than they must be left alone.
MAX_RESTING: Final = 10_000
RESTING_KEPT_S: Final = 600.0

Waiter = Callable[[], None]


class Host:
    """What is known of one host."""

    __slots__ = tuple(
        ("alarmed called crawl_delay_s known line rate ready_at ready_before rested_at running slowed_at").split()
    )

    def __init__(self) -> None:
        self.running = 0
        self.known = False  # whether its robots.txt is
        self.ready_at = float("-inf")  # nothing starts before
        self.ready_before = float("-inf")  # nothing would, had the last fetch not started
        self.crawl_delay_s = 0.0
        self.rate: float | None = None  # starts a second; None: it never asked for less
        self.slowed_at = float("-inf")
        self.rested_at = float("-inf")  # since when nothing is under way
        self.line: Line[Waiter] = Line()
        self.called: Waiter | None = None  # the free slot is this one's first
        self.alarmed = False

    @property
    def idle(self) -> bool:
        """Nothing under way, and nobody waits."""
        return not self.running and not self.line.waiting


class Politeness:
    """Hosts, by ``ParsedUrl.host_key``.  Times are seconds of whatever clock the caller has."""

    def __init__(self, per_host: int, starts_per_s: float) -> None:
        self._per_host = per_host
        self._interval_s = 1 / starts_per_s if starts_per_s else 0.0
        self._hosts: dict[str, Host] = {}
        self._resting: OrderedDict[str, Host] = OrderedDict()
        self._alarms: list[tuple[float, str]] = []
        self.waiting = 0

    @property
    def hosts(self) -> int:
        """Hosts that have something under way or waiting."""
        return len(self._hosts)

    # ── slots ────────────────────────────────────────────────────────────────────────────

    def may_start(self, key: str, now: float, waiter: Waiter | None = None) -> bool:
        """Whether *waiter* may start a fetch: the host has a slot free, and nobody waited before it."""
        host = self._find(key)
        if host is None:
            return True
        return self._free(host, now) and (not host.line.waiting or (waiter is not None and host.called == waiter))

    def start(self, key: str, now: float) -> float:
        """A fetch begins.  Returns until when others have to wait for that."""
        host = self._active(key)
        host.running += 1
        host.ready_before = host.ready_at
        if interval_s := self._spacing_s(host):
            host.ready_at = max(host.ready_at, now + interval_s)
        return host.ready_at

    def end(self, key: str, now: float, unused_until: float | None = None) -> None:
        """A fetch that began has ended.  *unused_until* is what ``start`` returned, if the host was not asked for
        anything: nobody has to wait for that."""
        host = self._hosts[key]
        host.running -= 1
        if unused_until is not None and unused_until == host.ready_at:
            host.ready_at = host.ready_before
        self._rest(key, host, now)

    def wait(self, key: str, owner: Owner, waiter: Waiter, now: float) -> None:
        """*waiter* wants a slot: ``next`` will name it."""
        host = self._active(key)
        self.waiting -= host.line.waiting
        host.line.join(owner, waiter)
        self.waiting += host.line.waiting
        self._alarm(key, host, now)

    def withdraw(self, key: str, owner: Owner, waiter: Waiter, now: float) -> None:
        """*waiter* wants none any more."""
        host = self._hosts.get(key)
        if host is not None and host.line.leave(owner, waiter):
            self.waiting -= 1
            self._rest(key, host, now)

    def next(self, key: str, now: float) -> Waiter | None:
        """The waiter that may take a slot now; it need not.  None: the host has none free, or none waits."""
        host = self._hosts.get(key)
        if host is None:
            return None
        host.called = host.line.next() if self._free(host, now) else None
        if host.called is None:
            self._alarm(key, host, now)
            self._rest(key, host, now)
        else:
            self.waiting -= 1
        return host.called

    # ── what the host says ───────────────────────────────────────────────────────────────

    def meet(self, key: str, crawl_delay_s: float | None, now: float) -> None:
        """Its robots.txt is known, or nobody asks for it (None); whoever met it is about to ask."""
        host = self._active(key)
        host.known = True
        delay_s = host.crawl_delay_s if crawl_delay_s is None else min(crawl_delay_s, MAX_CRAWL_DELAY_S)
        if delay_s != host.crawl_delay_s:
            host.crawl_delay_s = delay_s
            host.ready_at = max(host.ready_at, now + delay_s)

    def refused(self, key: str, asked_at: float, retry_after_s: float | None, now: float) -> None:
        """It was asked at *asked_at* and answered that this is too much."""
        host = self._active(key)
        # Those that were under way when it was slowed down say nothing new.
        if asked_at >= host.slowed_at:
            rate = FIRST_STARTS_PER_S if host.rate is None else host.rate / 2
            host.rate = max(rate, FEWEST_STARTS_PER_S)
            host.slowed_at = now
        pause_s = max(self._spacing_s(host), min(retry_after_s or 0.0, MAX_PAUSE_S))
        host.ready_at = max(host.ready_at, now + pause_s)
        self._rest(key, host, now)  # robots.txt is asked without a slot there

    def slowed_since(self, key: str, at: float) -> bool:
        """Whether it was slowed down at *at* or later."""
        host = self._find(key)
        return host is not None and host.slowed_at >= at

    def served(self, key: str) -> None:
        """It answered, and not that it is too much."""
        host = self._find(key)
        if host is not None and host.rate is not None:
            rate = host.rate + MORE_STARTS_PER_S
            host.rate = rate if rate < ENOUGH_STARTS_PER_S else None

    # ── time ─────────────────────────────────────────────────────────────────────────────

    @property
    def alarm_at(self) -> float | None:
        """When ``due`` is to be asked; None: never, so far."""
        return self._alarms[0][0] if self._alarms else None

    def due(self, now: float) -> Iterator[str]:
        """The hosts that may have a slot free by now only because time passed."""
        while self._alarms and self._alarms[0][0] <= now:
            _, key = heappop(self._alarms)
            if key in self._hosts:
                self._hosts[key].alarmed = False
                yield key

    # ── records ──────────────────────────────────────────────────────────────────────────

    def _free(self, host: Host, now: float) -> bool:
        return host.running < (self._per_host if host.known else 1) and host.ready_at <= now

    def _spacing_s(self, host: Host) -> float:
        return max(self._interval_s, host.crawl_delay_s, 1 / host.rate if host.rate else 0.0)

    def _alarm(self, key: str, host: Host, now: float) -> None:
        """Only time keeps those in its line waiting: ask again when it is over."""
        if host.line.waiting and not host.alarmed and host.ready_at > now:
            host.alarmed = True
            heappush(self._alarms, (host.ready_at, key))

    def _find(self, key: str) -> Host | None:
        return self._hosts.get(key) or self._resting.get(key)

    def _active(self, key: str) -> Host:
        host = self._hosts.get(key)
        if host is None:
            host = self._hosts[key] = self._resting.pop(key) if key in self._resting else Host()
        return host

    def _rest(self, key: str, host: Host, now: float) -> None:
        """Forget a host that nothing is to be remembered of."""
        if not host.idle:
            return
        del self._hosts[key]
        if host.rate is not None or host.ready_at > now:
            host.rested_at = now
            self._resting[key] = host
        # Each time, so that memory comes back when nobody is slowed down any more.
        while self._resting:
            oldest = next(iter(self._resting.values()))
            if len(self._resting) <= MAX_RESTING and oldest.rested_at + RESTING_KEPT_S > now:
                break
            self._resting.popitem(last=False)
