"""``fastmesh crawl``: the daemon's pipeline without the daemon."""

from __future__ import annotations

from secrets import token_hex
from typing import Any

from fastmesh.api.engine import Engine
from fastmesh.api.requests.bodies import CrawlRequest
from fastmesh.commands.outcome import outcome
from fastmesh.commands.output import OutputThread, output
from fastmesh.commands.sink import ThreadSink
from fastmesh.config import Settings
from fastmesh.wire.encoders import NdjsonEncoder


async def crawl(settings: Settings, request: CrawlRequest, *, table: bool) -> int:
    """Crawl *request*, frames as NDJSON on stdout or as a table; return the exit status.

    The first SIGINT or SIGTERM ends the stream with its summary, a second one
    without.  Raises FastmeshError when it cannot start.
    """
    engine = Engine(settings)
    try:
        await engine.start()
        with output(table=table) as out:
            sink = ThreadSink(OutputThread(out.take))
            plan = engine.plans.crawl(request, token_hex(16), None)
            registry = engine.module.registry
            pipeline = registry.open(plan.opening, plan.make_processor)
            sink.attach(registry.attach(pipeline, NdjsonEncoder(chunked=False), sink))

            async def shown() -> dict[str, Any]:
                await sink.done
                return out.summary

            return await outcome(shown(), lambda: pipeline.stop("cancelled"), sink.done.cancel)
    finally:
        await engine.close()
