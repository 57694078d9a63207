"""What the tests of streams share: a module to open streams in, and the rules that every ended stream keeps."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

from doubles import Pages, RecordingSink, TurnedLoop, in_order, turned

from fastmesh import config
from fastmesh.streaming.fill.firehose import FirehoseProcessor
from fastmesh.streaming.fill.processor import StreamProcessor
from fastmesh.streaming.module import StreamingModule
from fastmesh.streaming.pipeline import StreamingPipeline
from fastmesh.streaming.ports import Opening
from fastmesh.telemetry.metrics import Metrics
from fastmesh.wire.encoders import Encoder, NdjsonEncoder

LINES = NdjsonEncoder(chunked=False)


class House:
    """A StreamingModule on a TurnedLoop's clock, and what a test opens in it."""

    def __init__(self, **settings: object) -> None:
        # Nothing is kept for who comes back, and a window stays as it is given, unless a test wants it.
        settings = {"STREAM__JOURNAL_BYTES": 0} | settings
        for given, bound in (("INITIAL_FRAMES_NDJSON", "MAX_FRAMES"), ("INITIAL_BYTES", "MAX_BYTES")):
            if f"BUFFER__{given}" in settings:
                settings.setdefault(f"BUFFER__{bound}", settings[f"BUFFER__{given}"])
        if "BUFFER__MAX_FRAMES" in settings:
            for name in ("MIN_FRAMES", "INITIAL_FRAMES_SSE", "INITIAL_FRAMES_WEBSOCKET"):
                settings.setdefault(f"BUFFER__{name}", 1)
        self.metrics = Metrics()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, TurnedLoop)
        self._loop = loop
        loaded = config.load({name: str(value) for name, value in settings.items()}, environ={}).values
        self.module = StreamingModule(loaded, self.metrics, loop.time)

    @property
    def now(self) -> float:
        """The time; set, the clock is turned and timers that are due then come late."""
        return self._loop.now

    @now.setter
    def now(self, now: float) -> None:
        self._loop.now = now

    def begin(
        self,
        make: Callable[[StreamingPipeline], Any],
        total: int,
        *,
        client: str | None = None,
        deadline_s: float = 3600.0,
        detached: bool = False,
        kept: bool = False,
        on_slow: Any = "block",
        progress: bool = False,
    ) -> StreamingPipeline:
        """A stream that nobody reads yet."""
        opening = Opening(
            "crawl",
            "r",
            client,
            total,
            deadline_s,
            detached=detached,
            kept=kept,
            on_slow=on_slow,
            progress=progress,
        )
        return self.module.registry.open(opening, make)

    def attach(self, pipeline: StreamingPipeline, after: int | None = None, encoder: Encoder = LINES) -> RecordingSink:
        """One more reader of *pipeline*."""
        sink = RecordingSink()
        sink.subscriber = self.module.registry.attach(pipeline, encoder, sink, after)
        return sink

    def open(self, make: Callable[[StreamingPipeline], Any], total: int, **more: Any) -> RecordingSink:
        """A stream and its opener."""
        return self.attach(self.begin(make, total, **more))

    def crawl(self, pages: Pages, urls: list[str], concurrency: int = 4, **more: Any) -> RecordingSink:
        return self.open(
            lambda pipeline: StreamProcessor(pipeline, in_order(pages.execute), concurrency, urls=urls),
            len(urls),
            **more,
        )

    def firehose(self, frames: int, size: int = 700, rate: float | None = None, **more: Any) -> RecordingSink:
        return self.open(lambda pipeline: FirehoseProcessor(pipeline, frames, size, rate), frames, **more)


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test that is a coroutine, on a clock that is turned."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        turned(test(*arguments, **named))

    return run


def check(sink: RecordingSink, total: int) -> dict[str, Any]:
    """Every rule that every ended stream keeps; returns its summary."""
    frames = sink.frames
    assert [frame["seq"] for frame in frames] == list(range(1, len(frames) + 1))
    assert frames[0]["type"] == "metadata"
    summary = frames[-1]
    assert summary["type"] == "summary"
    results = [frame for frame in frames if frame["type"] == "result"]
    indexes = [frame["index"] for frame in results]
    assert len(set(indexes)) == len(indexes)
    left = [index for low, high in summary["unfinished"] for index in range(low, high + 1)]
    assert sorted(indexes + left) == list(range(total))
    good = sum(frame["result"]["error"] is None for frame in results)
    assert (summary["successful"], summary["failed"], summary["cancelled"]) == (good, len(results) - good, len(left))
    assert sink.ended
    return summary
