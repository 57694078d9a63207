"""The stream that measures the core without the network (docs/protocol.md, *The firehose*).

Its frames are built by the very function that builds a crawl's, encoded one by
one, and go through the very same journal, window and transport.
"""

from __future__ import annotations

import asyncio
import math

import orjson

from fastmesh.events import PageResult, result_event, rfc3339, summary_event
from fastmesh.streaming.pipeline import StreamingPipeline

MIN_FRAME_BYTES = 700
MAX_FRAMES = 10**9

# A whole document, so that no client has to know that the page was made up.
DOCUMENT = (
    b'{"title":"Firehose","byline":null,"published":null,"language":null,"site_name":null,"description":null,'
    b'"canonical_url":null,"text":"%b","markdown":null,"links":null,"media":null,"word_count":1,"reading_time_min":1}'
)

# How much is built in one go: as much as the pump writes for one reader in its turn.
BURST_BYTES = 16_384


def template(frame_bytes: int, stream_id: str) -> PageResult:
    """A page whose result frame has about *frame_bytes* bytes of JSON; its document's text is the padding."""
    page = PageResult(
        url="https://firehose.invalid/",
        final_url="https://firehose.invalid/",
        status=200,
        content_type="text/html",
        fetched_at=rfc3339(),
        processing_time_ms=1.25,
        attempts=1,
        body_bytes=frame_bytes,
        document=DOCUMENT % b"",
    )
    frame = result_event(stream_id, 100_000, page, 100_001, 1_000_000, 100_001) | {"seq": 100_002}
    padding = frame_bytes - len(orjson.dumps(frame))
    page.document = DOCUMENT % (b"x" * max(0, padding))
    return page


class FirehoseProcessor:
    """Appends *frames* results as fast as the reader that is waited for reads, or *rate* a second."""

    def __init__(self, pipeline: StreamingPipeline, frames: int, frame_bytes: int, rate: float | None) -> None:
        self._pipeline = pipeline
        self._page = template(frame_bytes, pipeline.id)
        self._frames = frames
        self._frame_bytes = frame_bytes
        self._rate = rate
        self._made = 0
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def results(self) -> tuple[int, int]:
        """All of them succeed."""
        return self._made, 0

    def start(self) -> None:
        """The first frames come when the metadata is on its way."""

    def room(self) -> None:
        """Append as many frames as are due and the window has room for, one burst at most."""
        pipeline, page = self._pipeline, self._page
        if self._timer is not None or not pipeline.admission.may_start(0):
            return
        due = self._due()
        frames, octets = pipeline.admission.allowance()
        burst = min(BURST_BYTES, octets)
        begin = self._made
        made = self._made = min(due, begin + min(frames, math.ceil(burst / self._frame_bytes)))
        append, stream_id, total = pipeline.journal.append, pipeline.id, self._frames
        for index in range(begin, made):
            append(result_event(stream_id, index, page, index + 1, total, index + 1))
        if made == total:
            self._close("completed")
            return
        pipeline.wake()
        if made == due:
            assert self._rate is not None
            self._timer = self._loop.call_later(pipeline.opened_at + made / self._rate - pipeline.now(), self._tick)

    def stop(self, status: str) -> None:
        self._close(status)

    async def join(self) -> None:
        """Nothing of a firehose runs by itself."""

    def _due(self) -> int:
        """How many frames should be there by now."""
        if self._rate is None:
            return self._frames
        due = (self._pipeline.now() - self._pipeline.opened_at) * self._rate + 1
        return self._frames if due >= self._frames else int(due)

    def _tick(self) -> None:
        self._timer = None
        self._pipeline.room()

    def _close(self, status: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
        made, total = self._made, self._frames
        unfinished = [[made, total - 1]] if made < total else []
        took_ms = (self._pipeline.now() - self._pipeline.opened_at) * 1000
        self._pipeline.finish(summary_event(self._pipeline.id, status, total, made, 0, unfinished, 0, took_ms))
