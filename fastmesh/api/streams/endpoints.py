"""Streams as resources: the endpoints that open, read, list and end them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import orjson

from fastmesh.api.calls import Call, Reply, Route, SocketReply, StreamReply
from fastmesh.api.plans import Plan, Plans
from fastmesh.api.requests.bodies import CrawlRequest, DeepSearchRequest, WholeCrawlRequest
from fastmesh.api.requests.options import Options
from fastmesh.api.requests.queries import CrawlQuery, EventsQuery, FirehoseQuery, KeyQuery
from fastmesh.api.requests.reading import Model, read_body, read_query
from fastmesh.api.router import PREFIX
from fastmesh.api.streams.fields import Encoding, key_of, last_event_id, query_of, wants_events
from fastmesh.errors import Conflict, NotFound, ValidationError
from fastmesh.events import rfc3339
from fastmesh.streaming.pipeline import StreamingPipeline
from fastmesh.streaming.ports import Sink
from fastmesh.streaming.registry import StreamRegistry
from fastmesh.streaming.subscriber import Subscriber
from fastmesh.wire.encoders import Encoder


class Streams:
    """Streams as resources."""

    def __init__(self, registry: StreamRegistry, plans: Plans) -> None:
        self._registry = registry
        self._plans = plans

    def routes(self) -> list[Route]:
        """What the router serves of these."""
        return [
            Route("/crawl", "POST", self.crawl_whole),
            Route("/crawl/stream", "POST", partial(self._opening, "ndjson", self._crawl_plan)),
            Route("/crawl/sse", "POST", partial(self._opening, "sse", self._crawl_plan)),
            Route("/crawl/sse", "GET", partial(self._opening, "sse", self._crawl_plan_of_query), ticket=True),
            Route("/crawl/ws", "GET", self.crawl_ws, ticket=True, socket=True),
            Route("/deepsearch/stream", "POST", partial(self._opening, "ndjson", self._deep_search_plan)),
            Route("/streams", "POST", self.open_stream),
            Route("/streams", "GET", self.list_streams),
            Route("/streams/{id}", "GET", self.show_stream),
            Route("/streams/{id}", "DELETE", self.cancel_stream),
            Route("/streams/{id}/events", "GET", self.events, ticket=True),
            Route("/firehose/stream", "GET", partial(self._opening, "ndjson", self._firehose_plan)),
            Route("/firehose/sse", "GET", partial(self._opening, "sse", self._firehose_plan), ticket=True),
            Route("/firehose/ws", "GET", self.firehose_ws, ticket=True, socket=True),
        ]

    # ── a stream is opened and read ──────────────────────────────────────────────────────

    def _opening(self, encoding: Encoding, planned: Callable[[Call], Plan], call: Call) -> Reply | StreamReply:
        """A stream of the caller's own; or the one that it names or opened before, where it left off."""
        named = last_event_id(call)
        if named is not None:  # never starts the crawl anew
            stream_id, after = named
            return self._reading(call, encoding, self._found(call, stream_id), after, "Last-Event-ID")
        plan = planned(call)
        ticket = call.ticket
        if ticket is not None and ticket.stream_id is not None:  # the connection broke before its first event
            if ticket.request != plan.digest:
                raise Conflict("this ticket opened another stream", field="ticket")
            return self._reading(call, encoding, self._found(call, ticket.stream_id), 0, "ticket")
        key = key_of(call, self._pairs(call))
        if key is not None:
            joined = self._registry.joined(call.client, key, plan.digest)
            if joined is not None:
                return self._reading(call, encoding, joined, 0, "Idempotency-Key", plan.digest)

        def attach(encoder: Encoder, sink: Sink) -> Subscriber:
            pipeline = self._open(call, plan, key)
            if ticket is not None:
                ticket.use(pipeline.id, plan.digest)
            return self._registry.attach(pipeline, encoder, sink)

        return StreamReply(encoding, attach)

    def crawl_whole(self, call: Call) -> StreamReply:
        """POST /crawl: a stream that is read as one document.  Raises Conflict when its key names a stream already."""
        plan = self._plans.checked_crawl(self._posted(WholeCrawlRequest, call), call.request_id, call.client)
        key = key_of(call, self._pairs(call))
        joined = None if key is None else self._registry.joined(call.client, key, plan.digest)
        if joined is not None:
            raise Conflict(
                f"this key's stream is there already: its frames are at /streams/{joined.id}/events",
                field="Idempotency-Key",
                stream_id=joined.id,
            )

        def attach(encoder: Encoder, sink: Sink) -> Subscriber:
            return self._registry.attach(self._open(call, plan, key), encoder, sink)

        return StreamReply("json", attach)

    def _open(self, call: Call, plan: Plan, key: str | None) -> StreamingPipeline:
        pipeline = self._registry.open(
            replace(plan.opening, trace=call.trace, connection=call.connection), plan.make_processor
        )
        if key is not None:
            self._registry.keys.remember(call.client, key, plan.digest, pipeline.id)
        return pipeline

    def _reading(
        self,
        call: Call,
        encoding: Encoding,
        pipeline: StreamingPipeline,
        after: int | None,
        field: str,
        request: bytes = b"",
    ) -> Reply | StreamReply:
        """*pipeline* from behind the frame *after*; 204 when there is nothing behind it and never will be.  *request*
        is the digest of what the caller asked for, where that is not the stream itself."""
        last = pipeline.journal.last_seq
        if after is not None and after > last:
            raise ValidationError(f"{field}: the stream's last frame is {last}, not {after}", field=field)
        if pipeline.complete and after == last:
            return Reply(b"", status=204)

        def attach(encoder: Encoder, sink: Sink) -> Subscriber:
            if call.ticket is not None:
                call.ticket.use(pipeline.id, request)
            return self._registry.attach(pipeline, encoder, sink, after)

        return StreamReply(encoding, attach)

    def _crawl_plan(self, call: Call) -> Plan:
        return self._plans.checked_crawl(self._posted(CrawlRequest, call), call.request_id, call.client)

    def _crawl_plan_of_query(self, call: Call) -> Plan:
        query = read_query(CrawlQuery, self._pairs(call))
        body = CrawlRequest(urls=[*query.url], options=Options(concurrency=query.concurrency))
        return self._plans.checked_crawl(body, call.request_id, call.client)

    def _deep_search_plan(self, call: Call) -> Plan:
        return self._plans.deep_search(self._posted(DeepSearchRequest, call), call.request_id, call.client)

    def _firehose_plan(self, call: Call) -> Plan:
        query = read_query(FirehoseQuery, self._pairs(call))
        return self._plans.firehose(query, call.request_id, call.client)

    def crawl_ws(self, call: Call) -> SocketReply:
        """GET /crawl/ws: all is asked for by commands."""
        return SocketReply(partial(_spent, call))

    def firehose_ws(self, call: Call) -> SocketReply:
        """GET /firehose/ws: all is asked for by commands, beside a firehose that runs from the start."""
        plan = self._firehose_plan(call)

        def open_() -> StreamingPipeline:
            pipeline = self._open(call, plan, None)
            _spent(call)
            return pipeline

        return SocketReply(open_)

    # ── streams as resources ─────────────────────────────────────────────────────────────

    def open_stream(self, call: Call) -> Reply:
        """POST /streams: opened and not read; detached it runs at once, else it waits for its first reader."""
        plan = self._crawl_plan(call)
        key = key_of(call, self._pairs(call))
        status, pipeline = 200, None
        if key is not None:
            pipeline = self._registry.joined(call.client, key, plan.digest)
        if pipeline is None:
            status, pipeline = 201, self._open(call, plan, key)
        opening = pipeline.opening
        prefix = PREFIX if call.request.path.startswith(PREFIX) else ""
        body = {
            "stream_id": pipeline.id,
            "stream_type": opening.stream_type,
            "total_urls": opening.total_urls,
            "detached": opening.detached,
        }
        return Reply(orjson.dumps(body), status=status, headers=(("Location", f"{prefix}/streams/{pipeline.id}"),))

    def list_streams(self, call: Call) -> Reply:
        """GET /streams: those of the caller."""
        return Reply(orjson.dumps({"streams": [described(pipeline) for pipeline in self._registry.of(call.client)]}))

    def show_stream(self, call: Call) -> Reply:
        """GET /streams/{id}."""
        return Reply(orjson.dumps(described(self._found(call, call.value))))

    def cancel_stream(self, call: Call) -> Reply:
        """DELETE /streams/{id}: fetches stop, subscribers get the summary.  Raises Conflict when it is over."""
        pipeline = self._found(call, call.value)
        if pipeline.complete or pipeline.stopped:
            raise Conflict("the stream is over already, or about to be")
        pipeline.stop("cancelled")
        return Reply(orjson.dumps({"stream_id": pipeline.id, "status": "cancelled"}))

    def events(self, call: Call) -> Reply | StreamReply:
        """GET /streams/{id}/events."""
        pipeline = self._found(call, call.value)
        query, field = read_query(EventsQuery, self._pairs(call)), "after"
        after = None if query.after is None else int(query.after)
        named = last_event_id(call)
        if named is not None:
            stream_id, after = named
            field = "Last-Event-ID"
            if stream_id != pipeline.id:
                raise ValidationError(f"{field}: it names another stream than the path", field=field)
        encoding: Encoding = "sse" if wants_events(call.request.headers.get("accept", "")) else "ndjson"
        return self._reading(call, encoding, pipeline, after, field)

    def _posted(self, model: type[Model], call: Call) -> Model:
        """What the body of a request asks for that opens a stream; its query may have a key and nothing else."""
        read_query(KeyQuery, self._pairs(call))
        request = call.request
        return read_body(model, request.headers.get("content-type"), request.body, self._plans.max_urls)

    def _pairs(self, call: Call) -> list[tuple[str, str]]:
        return query_of(call, self._plans.max_urls)

    def _found(self, call: Call, stream_id: str) -> StreamingPipeline:
        """The caller's stream of that id; that there is one of somebody else is not told."""
        pipeline = self._registry.find(stream_id, call.client)
        bound_to = None if call.ticket is None else call.ticket.stream_id
        if pipeline is None or bound_to not in (None, stream_id):
            raise NotFound("there is no such stream, or it can be read no more")
        return pipeline


def _spent(call: Call) -> None:
    """A WebSocket opens: the ticket that let it in is no use for another."""
    if call.ticket is not None:
        call.ticket.spend()


def described(pipeline: StreamingPipeline) -> dict[str, Any]:
    """A stream as GET /streams shows it."""
    successful, failed = pipeline.results
    return {
        "stream_id": pipeline.id,
        "stream_type": pipeline.opening.stream_type,
        "request_id": pipeline.opening.request_id,
        "state": pipeline.state,
        "status": pipeline.status or None,
        "opened_at": rfc3339(pipeline.opened_wall),
        "detached": pipeline.opening.detached,
        "total_urls": pipeline.opening.total_urls,
        "successful": successful,
        "failed": failed,
        "first_seq": pipeline.journal.ring.first,
        "last_seq": pipeline.journal.last_seq,
        "kept_bytes": pipeline.journal.ring.allocated,
        "pacer": pipeline.pacer.place,
        "subscribers": [
            {
                "protocol": reader.encoder.protocol,
                "pacer": reader is pipeline.pacer.holder,
                "paused": reader.sink.paused,
                "capacity_frames": reader.buffer.capacity_frames,
                "capacity_bytes": reader.buffer.capacity_bytes,
                "sent_seq": reader.next_seq - 1,
                "unread_frames": reader.unread_frames,
                "unread_bytes": reader.unread_bytes,
                "sent_frames": reader.sent_frames,
                "sent_bytes": reader.sent_bytes,
                "missed_frames": reader.missed_frames,
            }
            for reader in pipeline.audience.attached
        ],
    }
