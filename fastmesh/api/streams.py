"""The endpoints that are streams: a crawl and the firehose."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from urllib.parse import parse_qsl

from fastmesh.api.router import Call, Route, StreamReply
from fastmesh.api.schema import CrawlRequest, FirehoseQuery, read_body, read_query
from fastmesh.config import Settings
from fastmesh.crawl.options import CrawlOptions
from fastmesh.crawl.orchestrator import PipelineOrchestrator
from fastmesh.errors import NotFound, ValidationError
from fastmesh.streaming.delivery import Sink, Subscriber
from fastmesh.streaming.firehose import FirehoseProcessor
from fastmesh.streaming.module import StreamingModule
from fastmesh.streaming.pipeline import StreamingPipeline
from fastmesh.streaming.processor import StreamProcessor
from fastmesh.wire.encoders import Encoder

# Headers that would change what a request means, of endpoints or versions that are not these.
_NOT_BUILT = ("idempotency-key", "last-event-id")


class Streams:
    """Opens streams for the API and for the command line alike."""

    def __init__(self, settings: Settings, module: StreamingModule, orchestrator: PipelineOrchestrator) -> None:
        self._settings = settings
        self._module = module
        self._orchestrator = orchestrator

    def routes(self) -> list[Route]:
        """What the router serves of these."""
        return [
            Route("/crawl/stream", "POST", self.crawl_stream, streams=True),
            Route("/firehose/stream", "GET", self.firehose_stream, streams=True),
        ]

    def crawl_stream(self, call: Call) -> StreamReply:
        """POST /crawl/stream.  Raises an ApiError when there will be no stream."""
        headers = call.request.headers
        body = read_body(CrawlRequest, headers.get("content-type"), call.request.body)
        for name in _NOT_BUILT:
            if name in headers:
                raise ValidationError(f"{name} is not supported", field=name)
        most = self._settings.stream.max_urls
        if len(body.urls) > most:
            raise ValidationError(
                f"urls: {len(body.urls)} were given, {most} are allowed (STREAM__MAX_URLS)", field="urls"
            )
        return StreamReply(self.opener(body, call.request_id, call.client))

    def firehose_stream(self, call: Call) -> StreamReply:
        """GET /firehose/stream.  Raises NotFound unless FIREHOSE__ENABLED."""
        if not self._settings.firehose.enabled:
            raise NotFound("the firehose is off; FIREHOSE__ENABLED=true turns it on")
        query = read_query(FirehoseQuery, parse_qsl(call.request.query, keep_blank_values=True))
        limit = self._settings.stream.max_frame_bytes
        if query.bytes > limit:
            raise ValidationError(f"bytes: a frame may have {limit} (STREAM__MAX_FRAME_BYTES)", field="bytes")

        def fill(pipeline: StreamingPipeline) -> FirehoseProcessor:
            return FirehoseProcessor(pipeline, query.frames, query.bytes, query.rate)

        return StreamReply(
            partial(
                self._open,
                "firehose",
                request_id=call.request_id,
                client=call.client,
                total_urls=query.frames,
                deadline_s=self._settings.stream.deadline_s,
                make_processor=fill,
            )
        )

    def opener(self, body: CrawlRequest, request_id: str, client: str | None) -> Callable[[Encoder, Sink], Subscriber]:
        """What opens the crawl that *body* asks for.  Raises ValidationError where it asks for more than is allowed."""
        limits = self._settings
        asked = body.options
        options = CrawlOptions(
            timeout_ms=_lowered("options.timeout_ms", asked.timeout_ms, limits.fetch.timeout_ms),
            max_body_bytes=int(_lowered("options.max_body_bytes", asked.max_body_bytes, limits.fetch.max_body_bytes)),
            user_agent=asked.user_agent or limits.fetch.user_agent,
            max_frame_bytes=limits.stream.max_frame_bytes,
            include=asked.include,
            headers=asked.headers,
        )

        def fill(pipeline: StreamingPipeline) -> StreamProcessor:
            execute = partial(self._orchestrator.execute, options=options)
            return StreamProcessor(pipeline, body.urls, execute, asked.concurrency)

        return partial(
            self._open,
            "crawl",
            request_id=request_id,
            client=client,
            total_urls=len(body.urls),
            deadline_s=_lowered("stream.deadline_s", body.stream.deadline_s, limits.stream.deadline_s),
            make_processor=fill,
        )

    def _open(
        self,
        stream_type: str,
        encoder: Encoder,
        sink: Sink,
        *,
        request_id: str,
        client: str | None,
        total_urls: int,
        deadline_s: float,
        make_processor: Callable[[StreamingPipeline], StreamProcessor | FirehoseProcessor],
    ) -> Subscriber:
        return self._module.open(
            stream_type,
            request_id=request_id,
            client=client,
            total_urls=total_urls,
            deadline_s=deadline_s,
            make_processor=make_processor,
            encoder=encoder,
            sink=sink,
        )


def _lowered(field: str, asked: float | None, limit: float) -> float:
    """A request may lower a limit, never raise it."""
    if asked is None:
        return limit
    if asked > limit:
        raise ValidationError(f"{field}: {asked:g} is over the limit of {limit:g}", field=field)
    return asked
