"""Which rule sizes a reader's window best: the seed's, one that predicts, or none at all.

A simulation whose clock is turned by hand, so it says the same everywhere.  Real are the windows
(DynamicBuffer), what judges a reader (BackpressureHandler) and the journal's ring; played are a crawl whose pages
take a while, a connection with the daemon's marks, and four kinds of readers.

What a window costs its reader is seen against a window that is never full: same pages, same connection, same reader.
*Time lost* is the share of the time in which the reader would have read and, for its window's sake, found nothing;
*received less* counts as well what a larger window would have held for it while it paused.
"""

from __future__ import annotations

import argparse
import heapq
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from fastmesh._core import BackpressureHandler, Journal, MemoryTotal, Reader, SentCounts, overdue
from fastmesh.config import BufferSettings
from fastmesh.streaming.window import DynamicBuffer, WindowBounds
from loadtest import report

STEP_S, LAST_S = 0.002, 30.0
TICK_S = 0.1  # how often the daemon looks after its readers
QUANTUM_BYTES = 16_384
KERNEL_BYTES = 262_144  # what lies between the transport and the reader: both sockets' buffers

# The producer: pages of 4 to 20 KB of JSON, each 50 to 350 ms after it was started: 1.9 MB a second.
CONCURRENCY, PAGES, SEED = 32, 10_000, 1
PAGE_S, PAGE_BYTES = (0.05, 0.35), (4_000, 20_000)

TARGET_DELAY_S = 0.5  # of the predictive rule: half of it costs bursty readers six times as much
NEWEST = 0.1  # the weight of its latest measurement

SETTINGS = BufferSettings()
BOUNDS = WindowBounds(SETTINGS.min_frames, SETTINGS.max_frames, SETTINGS.initial_bytes, SETTINGS.max_bytes)
UNBOUNDED = 2**40


# ── readers ──────────────────────────────────────────────────────────────────────────────

MB = 1e6


def _fast(now: float) -> float:
    return 100 * MB


def _slow(now: float) -> float:
    return 0.5 * MB


def _bursty(now: float) -> float:
    return 100 * MB if now % 1.0 < 0.3 else 0.0


def _recovering(now: float) -> float:
    return 0.1 * MB if 10 <= now < 20 else 100 * MB


READERS: dict[str, Callable[[float], float]] = {  # bytes a second at a time
    "fast: 100 MB/s": _fast,
    "slow: 0.5 MB/s": _slow,
    "bursty: 0.3 s of each second": _bursty,
    "recovering: 0.1 MB/s from 10 to 20 s": _recovering,
}


# ── rules ────────────────────────────────────────────────────────────────────────────────


class Rule(ABC):
    """Sizes one window by what it is told of the reader."""

    def __init__(self, window: DynamicBuffer) -> None:
        self.window = window

    def read_all(self, now: float, backpressure: bool) -> None:  # noqa: B027 - a rule may have nothing to do here
        """The reader has read all, and the window had held the stream back."""

    @abstractmethod
    def tick(self, now: float, backpressure: bool, taken_bytes: int, waited: bool) -> None:
        """A tick is over: of which the reader took so much, and of which it always had more to take if *waited*."""


class Fixed(Rule):
    """Stays as it is."""

    def tick(self, now: float, backpressure: bool, taken_bytes: int, waited: bool) -> None:
        """Nothing."""


class Seed(Rule):
    """As streaming/subscriber.py has it: larger for who is held back, smaller for who is slow."""

    def read_all(self, now: float, backpressure: bool) -> None:
        """Grow, unless the reader was slow just now."""
        if not backpressure:
            self.window.grow()

    def tick(self, now: float, backpressure: bool, taken_bytes: int, waited: bool) -> None:
        """Shrink while there is backpressure."""
        if backpressure:
            self.window.shrink()


class Patient(Rule):
    """The seed's factors, but no veto for who has just read all, and one step a second at most."""

    def __init__(self, window: DynamicBuffer) -> None:
        super().__init__(window)
        self._quiet_until = 0.0

    def read_all(self, now: float, backpressure: bool) -> None:
        """Grow, also under backpressure: whoever has read all is not slow now."""
        self.window.grow()

    def tick(self, now: float, backpressure: bool, taken_bytes: int, waited: bool) -> None:
        """Shrink while there is backpressure, once a second."""
        if backpressure and now >= self._quiet_until:
            self.window.shrink()
            self._quiet_until = now + 1.0


class Predictive(Rule):
    """Holds what the reader is expected to take within the target delay."""

    def __init__(self, window: DynamicBuffer) -> None:
        super().__init__(window)
        self._rate = window.capacity_bytes / TARGET_DELAY_S

    def tick(self, now: float, backpressure: bool, taken_bytes: int, waited: bool) -> None:
        """Measure.  What a reader took that had nothing more to take says only that it is at least so fast."""
        rate = taken_bytes / TICK_S
        if waited or rate > self._rate:
            self._rate += NEWEST * (rate - self._rate)
        window = self.window
        wanted = min(BOUNDS.max_bytes, max(BOUNDS.min_bytes, int(self._rate * TARGET_DELAY_S)))
        frames = window.capacity_frames * wanted // window.capacity_bytes  # both move together
        window.capacity_bytes = wanted
        window.capacity_frames = min(BOUNDS.max_frames, max(BOUNDS.min_frames, frames))


def _window(frames: int = SETTINGS.initial_frames_ndjson, octets: int = SETTINGS.initial_bytes) -> DynamicBuffer:
    return DynamicBuffer(frames, octets, BOUNDS)


RULES: dict[str, Callable[[], Rule]] = {
    "seed": lambda: Seed(_window()),
    "patient": lambda: Patient(_window()),
    "predictive": lambda: Predictive(_window()),
    "fixed, least": lambda: Fixed(_window()),
    "fixed, most": lambda: Fixed(_window(BOUNDS.max_frames, BOUNDS.max_bytes)),
}


# ── the stream ───────────────────────────────────────────────────────────────────────────


@dataclass
class Outcome:
    """What came of one stream."""

    received_bytes: float = 0.0
    ready_s: float = 0.0  # the reader would have read
    starved_s: float = 0.0  # and there was nothing to read
    pauses: int = 0  # how often the window stopped the producer
    unread_bytes: list[int] = field(default_factory=list)  # each step


class Connection:
    """What is written and not yet read: the transport's buffer with its marks, and the kernel's."""

    def __init__(self) -> None:
        self.paused = False
        self._transport = self._kernel = 0.0

    @property
    def empty(self) -> bool:
        """Whether the reader has all that was written."""
        return self._kernel == 0

    def write(self, count: int) -> None:
        """The transport takes *count* bytes."""
        self._transport += count
        self._move()
        self.paused = self._transport > SETTINGS.high_water_bytes

    def read(self, most: float) -> float:
        """The reader takes *most* bytes, if there are so many."""
        count = min(most, self._kernel)
        self._kernel -= count
        self._move()
        if self._transport <= SETTINGS.low_water_bytes:
            self.paused = False
        return count

    def _move(self) -> None:
        moved = min(self._transport, KERNEL_BYTES - self._kernel)
        self._transport -= moved
        self._kernel += moved


class Stream:
    """A crawl, its journal, its window and its one reader."""

    def __init__(self, rule: Rule, drain: Callable[[float], float]) -> None:
        random = Random(SEED)
        self._pages = [(random.uniform(*PAGE_S), int(random.uniform(*PAGE_BYTES))) for _ in range(PAGES)]
        self._text = bytes(PAGE_BYTES[1])
        self._rule = rule
        self._drain = drain
        self._backpressure = BackpressureHandler(SETTINGS.slow_ms)
        journal = Journal(MemoryTotal(UNBOUNDED, print, print), lambda: 0.0, b"")
        nobody: Any = None  # it is never served
        self._reader = Reader(nobody, journal, nobody, self._backpressure, nobody, SentCounts((1.0,)), None, None)
        self._ring = journal.ring
        self._connection = Connection()
        self._running: list[tuple[float, int]] = []  # when it will be there, and how large
        self._started = 0
        self._next_seq = 1
        self._held_back = self._stopped = False
        self._taken_bytes, self._waited = 0, True  # in this tick
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Play it to its end."""
        ticks = round(TICK_S / STEP_S)
        for step in range(1, round(LAST_S / STEP_S) + 1):
            now = step * STEP_S
            self._read(now)
            self._finish(now)
            self._serve(now)
            self._start(now)
            if step % ticks == 0:
                self._tick(now)
            self.outcome.unread_bytes.append(self._unread[1])
        return self.outcome

    @property
    def _unread(self) -> tuple[int, int]:
        """Frames and bytes."""
        ring = self._ring
        return ring.next - self._next_seq, ring.appended_bytes - ring.evicted_bytes

    def _read(self, now: float) -> None:
        rate = self._drain(now)
        if rate:
            self.outcome.ready_s += STEP_S
            self.outcome.starved_s += STEP_S * self._connection.empty
        self.outcome.received_bytes += self._connection.read(rate * STEP_S)

    def _finish(self, now: float) -> None:
        while self._running and self._running[0][0] <= now:
            _, size = heapq.heappop(self._running)
            self._ring.append(self._text[:size], now)

    def _serve(self, now: float) -> None:
        ring = self._ring
        while not self._connection.paused and self._next_seq < ring.next:
            batch, octets = ring.read(self._next_seq, QUANTUM_BYTES)
            end = self._next_seq + len(batch)
            self._backpressure.took(ring, self._next_seq, end, now)
            ring.trim(end, ring.appended_bytes)
            self._next_seq = end
            self._taken_bytes += octets
            self._connection.write(octets)
        if self._next_seq == ring.next and not self._connection.paused:
            self._waited = False
            if self._held_back:
                self._held_back = False
                self._rule.read_all(now, self._backpressure.under_backpressure(now))

    def _start(self, now: float) -> None:
        while len(self._running) < CONCURRENCY:
            if not self._rule.window.has_room(*self._unread, len(self._running)):
                self._held_back = True
                self.outcome.pauses += not self._stopped
                self._stopped = True
                return
            self._stopped = False
            takes_s, size = self._pages[self._started]
            self._started += 1
            heapq.heappush(self._running, (now + takes_s, size))

    def _tick(self, now: float) -> None:
        if self._next_seq < self._ring.next:
            overdue([self._reader], now)
        self._rule.tick(now, self._backpressure.under_backpressure(now), self._taken_bytes, self._waited)
        self._taken_bytes, self._waited = 0, True


# ── the comparison ───────────────────────────────────────────────────────────────────────


def sizing(asked: argparse.Namespace) -> report.Table:
    """Bytes held, time lost and pauses, by rule and reader."""
    rows = []
    for reader, drain in READERS.items():
        best = Stream(Fixed(_window(UNBOUNDED, UNBOUNDED)), drain).run()
        for rule, make in RULES.items():
            found = Stream(make(), drain).run()
            held = sorted(found.unread_bytes)
            lost = max(0.0, found.starved_s - best.starved_s) / found.ready_s
            less = max(0.0, 1 - found.received_bytes / best.received_bytes)
            rows.append(
                [
                    reader,
                    rule,
                    f"{sum(held) / len(held) / 1024:,.0f}",
                    f"{held[-1] / 1024:,.0f}",
                    f"{lost:.1%}",
                    f"{less:.1%}",
                    f"{found.pauses:,}",
                ]
            )
    columns = ["reader", "rule", "KiB held, mean", "most", "time lost", "received less", "pauses"]
    title = f"Sizing of a window, simulated: {LAST_S:g} s of a crawl of {CONCURRENCY} pages at once"
    return report.Table(title, columns, rows)
