"""Spans for OpenTelemetry: one a stream, below it one a URL, below that one a request to its origin.

Their ids are those in logs and ``traceparent``.  OpenTelemetry is an extra, loaded when a collector
is set; a thread of its own sends spans that have ended, and drops those that the collector does not take.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from fastmesh.config import Settings
from fastmesh.errors import ConfigError
from fastmesh.telemetry.bugs import Bugs
from fastmesh.telemetry.log import printable, without_secrets
from fastmesh.telemetry.trace import Trace
from fastmesh.version import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import SpanContext

Attribute = str | int | float | bool

EXPORT_TIMEOUT_S: Final = 5.0
SEND_EVERY_S: Final = 1.0
MAX_WAITING: Final = 4096  # spans; over it new ones are dropped
SEND_LAST_S: Final = 1.0


def make_spans(settings: Settings, bugs: Bugs) -> Spans | None:
    """What exports spans, if asked for; failures are among *bugs*.  Raises ConfigError without the extra."""
    url = settings.trace.otlp_url
    if url is None:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise ConfigError(
            f"TRACE__OTLP_URL={url!r} wants OpenTelemetry, which is not installed: pip install 'fastmesh[otel]'"
        ) from None
    exporter = OTLPSpanExporter(url, timeout=EXPORT_TIMEOUT_S)
    return Spans(BatchSpanProcessor(exporter, MAX_WAITING, SEND_EVERY_S * 1000), bugs)


class Spans:
    """Gives *processor* the spans that have ended, of traces that were begun here or whose caller samples them."""

    def __init__(self, processor: SpanProcessor, bugs: Bugs) -> None:
        from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource

        self._processor = processor
        self._bugs = bugs
        self._resource = Resource.create({SERVICE_NAME: "fastmesh", SERVICE_VERSION: __version__})

    def ended(
        self,
        name: str,
        trace: Trace,
        took_s: float,
        attributes: Mapping[str, Attribute],
        *,
        fault: str | None = None,
        client: bool = False,
    ) -> None:
        """The span *trace* took *took_s* until now; *fault*: its error's type; *client*: a request to an origin."""
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanKind, Status, StatusCode

        def end() -> None:
            now_ns = time.time_ns()
            shown = {
                key: printable(without_secrets(value)) if isinstance(value, str) else value
                for key, value in attributes.items()
            }
            span = ReadableSpan(
                name,
                context=_context(trace.trace_id, trace.span_id, remote=False),
                parent=_context(trace.trace_id, trace.parent_id, remote=True) if trace.parent_id else None,
                resource=self._resource,
                attributes=shown if fault is None else shown | {"error.type": fault},
                kind=SpanKind.CLIENT if client else SpanKind.INTERNAL,
                status=Status(StatusCode.UNSET if fault is None else StatusCode.ERROR),
                start_time=now_ns - int(took_s * 1e9),
                end_time=now_ns,
            )
            self._processor.on_end(span)

        if trace.sampled or trace.begun:
            self._bugs.survive("spans", end, trace_id=trace.trace_id)

    @contextmanager
    def request(self, url: str, trace: Trace) -> Iterator[dict[str, Attribute]]:
        """A span of a request to *url*, as long as the block, which adds to the attributes that it is given."""
        attributes: dict[str, Attribute] = {"url.full": url, "http.request.method": "GET"}
        begun, fault = time.perf_counter(), None
        try:
            yield attributes
        except BaseException as error:
            fault = str(getattr(error, "type", type(error).__name__))
            raise
        finally:
            self.ended("GET", trace, time.perf_counter() - begun, attributes, fault=fault, client=True)

    async def close(self) -> None:
        """Send the spans that are left, for a moment: a collector that does not take them holds up nobody."""
        loop, sent = asyncio.get_running_loop(), asyncio.Event()

        def send() -> None:
            self._bugs.survive("spans", self._processor.shutdown)
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(sent.set)

        # A daemon thread, since the executor's are waited for when Python ends.
        threading.Thread(target=send, name="last-spans", daemon=True).start()
        with suppress(TimeoutError):
            await asyncio.wait_for(sent.wait(), SEND_LAST_S)


def _context(trace_id: str, span_id: str, *, remote: bool) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags

    return SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=remote, trace_flags=TraceFlags(TraceFlags.SAMPLED)
    )
