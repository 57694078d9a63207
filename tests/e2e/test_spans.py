"""Spans as a collector receives them: what they are called, what they stand below, what they tell."""

from __future__ import annotations

import gzip
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from daemons import PATIENCE_S, Daemon
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from origins import Origin

ALLOW = {"FETCH__ALLOW_NETWORKS": "127.0.0.0/8"}
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@contextmanager
def collector() -> Iterator[tuple[str, list[Any]]]:
    """A collector's address, and the spans that it was sent."""
    spans: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            request = ExportTraceServiceRequest.FromString(body)
            spans.extend(s for r in request.resource_spans for scope in r.scope_spans for s in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/traces", spans
        finally:
            server.shutdown()
            thread.join()


def ended(daemon: Daemon) -> None:
    """Its end, at which all is sent that is left."""
    daemon.process.terminate()
    assert daemon.process.wait(PATIENCE_S) == 0


def told(span: Any) -> dict[str, Any]:
    """A span's attributes."""
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


def test_a_stream_its_urls_and_their_requests_are_spans_of_the_clients_trace(origin: Origin) -> None:
    page = origin.page("/spans", "<title>a</title>")
    moved = origin.redirect("/spans-moved", page)
    origin.heads.clear()
    with collector() as (url, spans), Daemon(**ALLOW, TRACE__OTLP_URL=url) as daemon:
        urls = [f"{moved}?key=secret", origin.url("/empty"), "nonsense"]
        body = {"urls": urls, "options": {"retries": 0, "respect_robots": False}}
        answer = daemon.ask("POST", "/crawl/stream", body, traceparent=f"00-{TRACE}-{SPAN}-01")
        (opened,) = daemon.logs("stream.opened")
        ended(daemon)
        assert {span.trace_id.hex() for span in spans} == {TRACE}
        (stream,) = [span for span in spans if span.name == "crawl"]
        assert (stream.span_id.hex(), stream.parent_span_id.hex()) == (opened["span_id"], SPAN)
        assert told(stream)["fastmesh.stream_id"] == answer.headers["x-stream-id"]
        assert (told(stream)["fastmesh.successful"], told(stream)["fastmesh.failed"]) == (1, 2)
        pages = {told(span)["url.full"]: span for span in spans if span.name == "url"}
        assert {span.parent_span_id for span in pages.values()} == {stream.span_id}
        assert {url: told(span).get("error.type") for url, span in pages.items()} == {
            f"{moved}?key=***": None,
            urls[1]: "connect",
            "nonsense": "invalid_url",
        }
        requests = [span for span in spans if span.name == "GET"]
        below = [span for span in requests if span.parent_span_id == pages[f"{moved}?key=***"].span_id]
        assert sorted(told(span)["http.response.status_code"] for span in below) == [200, 302]
        sent = "".join(head for heads in origin.heads.values() for head in heads)
        assert all(f"00-{TRACE}-{span.span_id.hex()}-01" in sent for span in requests)
        assert len(spans) == 1 + 3 + 3
        assert "secret" not in str(spans)
        for span in spans:
            assert stream.start_time_unix_nano - 5_000_000 <= span.start_time_unix_nano <= span.end_time_unix_nano


def test_what_its_beginner_does_not_sample_is_not_sent_and_what_begins_here_is() -> None:
    with collector() as (url, spans), Daemon(**ALLOW, TRACE__OTLP_URL=url) as daemon:
        daemon.ask("POST", "/crawl/stream", {"urls": ["nonsense"]}, traceparent=f"00-{TRACE}-{SPAN}-00")
        daemon.ask("POST", "/crawl/stream", {"urls": ["nonsense"]})
        traces = [line["trace_id"] for line in daemon.logs("stream.opened")]
        ended(daemon)
    assert [span.name for span in spans] == ["url", "crawl"]
    assert {span.trace_id.hex() for span in spans} == {traces[1]}
    assert spans[1].parent_span_id == b""


def test_a_collector_that_is_not_there_costs_nobody_anything(origin: Origin) -> None:
    page = origin.page("/spans-lost", "<title>a</title>")
    with Daemon(**ALLOW, TRACE__OTLP_URL="http://127.0.0.1:1/v1/traces") as daemon:
        assert daemon.crawl(page)[-1]["successful"] == 1
        assert daemon.ask("GET", "/healthz").json["status"] == "healthy"
        ended(daemon)


def test_a_collector_that_hangs_holds_up_no_shutdown() -> None:
    urls = [f"nonsense{at}" for at in range(1500)]  # three batches, of which each would wait for its answer
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces"
        settings = {"STREAM__MAX_URLS": 2000, "SERVER__DRAIN_TIMEOUT_S": 1}
        with Daemon(**settings, TRACE__OTLP_URL=url) as daemon:
            assert daemon.crawl(*urls)[-1]["failed"] == 1500
            begun = time.monotonic()
            ended(daemon)
            assert time.monotonic() - begun < 4
            assert "Traceback" not in daemon.stderr()


def test_without_the_extra_the_setting_is_refused() -> None:
    program = """
import sys
sys.modules["opentelemetry"] = None
from fastmesh.cli import main
sys.exit(main(["serve", "--port", "0"]))
"""
    environ = {"FASTMESH_TRACE__OTLP_URL": "http://127.0.0.1:4318/v1/traces", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 1
    assert "fastmesh[otel]" in done.stderr
    assert "TRACE__OTLP_URL" in done.stderr
