"""Users that stream: NDJSON, SSE, WebSocket, and readers that are slow on purpose.

    python -m locust --config loadtest/locust.conf

Without --host a daemon and the demo's sample site are started on loopback and
stopped at the end.  The exit status is 1 when a limit is passed: of the 99th
percentile of the time to first byte, of failed streams, of holes.

What locust lists of each protocol: ``first byte``, from before the connect to
the first frame; ``firehose`` and ``crawl``, a whole stream; ``frames`` of a
stream and frames that a ``gap`` left out, which are numbers in the columns of
milliseconds; and ``hole``, frames that are missing without a gap, which is always a failure.
"""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from http.client import HTTPException
from itertools import cycle
from typing import Any, ClassVar
from urllib.parse import urlencode

from locust import User, between, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from fastmesh.demo.samples import SAMPLES
from loadtest.compiled import RESULTS
from loadtest.servers import FASTMESH, running
from loadtest.streams import CRAWL, FIREHOSE, Hole, Protocol, Seen, StreamFailed, read

NAMES = {"ndjson": "NDJSON", "sse": "SSE", "ws": "WebSocket"}
FIRST_BYTE, FRAMES, GAP, HOLE = "first byte", "frames", "gap", "hole"
SETTINGS = {
    "FIREHOSE__ENABLED": "true",
    "FETCH__ALLOW_NETWORKS": "127.0.0.0/8",
    "FETCH__PER_HOST_CONCURRENCY": "64",  # all pages are of one host here
    "STREAM__RESUME_WINDOW_S": "5",
}
# Those that answer in less than a second: a stream of a load test is to end.
LINGERING = ("/slow/1500", "/trickle", "/endless")
PAGES = [sample for sample in SAMPLES if sample.handler is not None and sample.url not in LINGERING]
SLOW_BYTES, SLOW_PAUSE_S = 16_384, 0.02  # 0.8 MB a second at most
LARGE_PAGE, LARGE_PAGES = "/archive", 30  # 1,000 links: far more than a slow reader's window together

_slow_protocols: Iterator[Protocol] = cycle(("ndjson", "sse", "ws"))
_started = ExitStack()


# ── users ────────────────────────────────────────────────────────────────────────────────


class StreamUser(User):
    """Opens one stream after the other and reads each to its summary."""

    abstract = True
    wait_time = between(0.0, 0.2)
    protocol: Protocol = "ndjson"
    receive_bytes: ClassVar[int | None] = None
    pause_s: ClassVar[float] = 0.0
    slow: ClassVar[bool] = False

    @property
    def kind(self) -> str:
        """How locust lists it."""
        return NAMES[self.protocol] + (", slow" if self.slow else "")

    def firehose(self, frames: int, frame_bytes: int = 1000, rate: float | None = None) -> None:
        """One stream of the firehose, greedy without a *rate*."""
        query: dict[str, float] = {"frames": frames, "bytes": frame_bytes} | ({} if rate is None else {"rate": rate})
        self.stream("firehose", f"{FIREHOSE[self.protocol]}?{urlencode(query)}")

    def crawl(self, urls: list[str], **stream: object) -> Seen | None:
        """One stream over pages of the sample site."""
        return self.stream("crawl", CRAWL[self.protocol], {"urls": urls, "stream": stream})

    def stream(self, name: str, path: str, body: Mapping[str, Any] | None = None) -> Seen | None:
        """Read one stream to its end and report it; None when it failed."""
        assert self.host is not None
        seen, begun = Seen(), time.perf_counter()
        failure: Exception | None = None
        try:
            token = _options(self.environment).token
            batches = read(
                self.host, self.protocol, path, seen, body=body, receive_bytes=self.receive_bytes, token=token
            )
            for _ in batches:
                if self.pause_s:
                    time.sleep(self.pause_s)  # locust patched it: the other users go on
        except (StreamFailed, OSError, HTTPException) as error:
            failure = error
        took_s = time.perf_counter() - begun
        if seen.first_byte_at:
            self._fire(FIRST_BYTE, (seen.first_byte_at - begun) * 1000)
        if isinstance(failure, Hole):
            self._fire(HOLE, 0, failure=failure)
        for missed in seen.gaps:
            self._fire(GAP, missed)
        self._fire(FRAMES, seen.frames)
        self._fire(name, took_s * 1000, seen.octets, failure)
        return seen if failure is None else None

    def _fire(self, name: str, value: float, octets: int = 0, failure: Exception | None = None) -> None:
        self.environment.events.request.fire(
            request_type=self.kind,
            name=name,
            response_time=value,
            response_length=octets,
            exception=failure,
            context={},
        )


class Reader(StreamUser):
    """Reads as fast as frames come."""

    abstract = True

    @task(4)
    def paced(self) -> None:
        """A stream that lasts two seconds."""
        self.firehose(200, rate=100)

    @task(2)
    def greedy(self) -> None:
        """As fast as it goes."""
        self.firehose(1000)

    @task(2)
    def pages(self) -> None:
        """Pages of many kinds, the broken ones too, each of which must be in its result."""
        urls = _urls(self.environment)
        if not urls:
            return
        seen = self.crawl(urls)
        if seen is not None and seen.results != set(range(len(urls))):
            self._fire("crawl", 0, failure=StreamFailed(f"{len(seen.results)} results for {len(urls)} URLs"))


class NdjsonUser(Reader):
    """By NDJSON."""

    weight = 3
    protocol = "ndjson"


class SseUser(Reader):
    """By server-sent events."""

    weight = 3
    protocol = "sse"


class WebSocketUser(Reader):
    """By WebSocket."""

    weight = 3
    protocol = "ws"


class SlowReader(StreamUser):
    """Reads little and seldom: its own streams wait for it, or leave frames out and say so; nobody else notices."""

    weight = 1
    slow = True
    receive_bytes = SLOW_BYTES
    pause_s = SLOW_PAUSE_S

    def on_start(self) -> None:
        """Each takes the next protocol."""
        self.protocol = next(_slow_protocols)

    @task(2)
    def waited_for(self) -> None:
        """A producer that waits; nothing may be left out."""
        self.firehose(400)

    @task(1)
    def left_behind(self) -> None:
        """A producer that does not wait: gaps."""
        site = _options(self.environment).site
        if site:
            self.crawl([f"{site}{LARGE_PAGE}?{n}" for n in range(LARGE_PAGES)], on_slow="drop")


def _urls(environment: Environment) -> list[str]:
    site = _options(environment).site
    return [f"{site}{sample.url}" for sample in PAGES] if site else []


# ── the daemon, and the verdict ──────────────────────────────────────────────────────────


def add_arguments(parser: LocustArgumentParser) -> None:
    """The limits, as flags and as variables."""
    limits: tuple[tuple[str, Callable[[str], float], float, str], ...] = (
        ("ttfb-p99-ms", float, 200.0, "most that the 99th percentile of the time to first byte may be, a protocol"),
        ("max-fail-ratio", float, 0.0, "most of all streams that may fail, from 0 to 1"),
        ("max-holes", int, 0, "most streams in which frames are missing without a gap"),
        ("min-streams", int, 10, "fewer streams than this are no measurement"),
    )
    for name, kind, default, text in limits:
        variable = f"LOCUST_{name.replace('-', '_').upper()}"
        parser.add_argument(f"--{name}", type=kind, default=default, env_var=variable, help=text)
    parser.add_argument("--token", default="", env_var="FASTMESH_TOKEN", help="shown to the daemon of --host")
    parser.add_argument(
        "--site",
        default="",
        env_var="LOCUST_SITE",
        help="base URL of a sample site (fastmesh demo --keep) that the daemon of --host may crawl; none: no crawls",
    )


def start(environment: Environment, **_: object) -> None:
    """Without a host: a daemon and a site of our own, on all cores."""
    RESULTS.mkdir(exist_ok=True)  # where locust.conf wants the report
    if environment.host:
        return
    site = _started.enter_context(running([sys.executable, "-m", "loadtest.peers.sample_site"], None))
    daemon = _started.enter_context(running(FASTMESH, None, **SETTINGS))
    environment.host = daemon.url
    _options(environment).site = site.url


def judge(environment: Environment, **_: object) -> None:
    """Stop what was started; say which limit was passed."""
    _started.close()
    broken = _broken(environment)
    for text in broken:
        print(f"limit passed: {text}", file=sys.stderr)
    print("load test: " + ("FAILED" if broken else "passed"), file=sys.stderr)
    environment.process_exit_code = 1 if broken else 0


def _broken(environment: Environment) -> list[str]:
    """The limits that were passed, in words."""
    limits, entries = _options(environment), environment.stats.entries
    broken = []
    for (name, kind), entry in entries.items():
        if name == FIRST_BYTE and "slow" not in kind:
            p99_ms = entry.get_response_time_percentile(0.99)
            if p99_ms > limits.ttfb_p99_ms:
                broken.append(f"{kind}, time to first byte, p99: {p99_ms:g} ms, allowed are {limits.ttfb_p99_ms:g}")
    streams = [entry for (name, _), entry in entries.items() if name in ("firehose", "crawl")]
    count, failed = (sum(getattr(entry, field) for entry in streams) for field in ("num_requests", "num_failures"))
    holes = sum(entry.num_failures for (name, _), entry in entries.items() if name == HOLE)
    if count < limits.min_streams:
        broken.append(f"{count} streams ended, wanted are {limits.min_streams}")
    elif failed / count > limits.max_fail_ratio:
        broken.append(f"{failed} of {count} streams failed, allowed are {limits.max_fail_ratio:.2%}")
    if holes > limits.max_holes:
        broken.append(f"{holes} streams had a hole, allowed are {limits.max_holes}")
    return broken


def _options(environment: Environment) -> Namespace:
    options: Namespace | None = environment.parsed_options
    assert options is not None
    return options


for hook, listener in (
    (events.init_command_line_parser, add_arguments),
    (events.init, start),
    (events.quitting, judge),
):
    hook.add_listener(listener)  # type: ignore[no-untyped-call]
