"""Health and metrics, as their readers see them."""

from __future__ import annotations

import re

import pytest
from daemons import Daemon
from origins import Origin
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

WANTED = """streaming_active_connections streaming_connections streaming_active_streams streaming_messages_sent
streaming_messages_dropped streaming_bytes streaming_errors streaming_memory_usage_bytes
streaming_buffer_capacity_frames streaming_buffer_utilization_ratio streaming_backpressure_events
streaming_ttfb_seconds streaming_send_latency_seconds streaming_duration_seconds streaming_connection_duration_seconds
http_requests http_request_duration_seconds pipeline_urls cache_requests pipeline_stage_seconds pipeline_inflight
loop_lag_seconds build_info""".split()


def test_healthz_says_how_each_part_is(daemon: Daemon) -> None:
    body = daemon.ask("GET", "/healthz").json
    assert body["status"] == "healthy"
    assert re.fullmatch(r"\d+\.\d+\.\d+", body["version"])
    assert body["uptime_s"] >= 0
    parts = {
        "streaming",
        "journals",
        "loop",
        "maintenance",
        "pipeline",
        "extract_workers",
        "cache",
        "dns",
        "descriptors",
    }
    assert set(body["dependencies"]) == parts
    assert all(part["status"] == "healthy" for part in body["dependencies"].values())
    streaming = body["dependencies"]["streaming"]
    assert {"active_connections", "active_streams", "error_rate", "drop_ratio", "memory_bytes", "loop_lag_ms"} <= set(
        streaming
    )


def test_livez_and_readyz(daemon: Daemon) -> None:
    assert daemon.ask("GET", "/livez").json == {"status": "alive"}
    assert daemon.ask("GET", "/readyz").json == {"status": "ready"}


@pytest.mark.parametrize(
    ("accept", "content_type", "read"),
    [
        ("*/*", "text/plain", read_text),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text", read_openmetrics),
    ],
)
def test_metrics_are_what_prometheus_reads(daemon: Daemon, accept: str, content_type: str, read) -> None:
    daemon.ask("GET", "/firehose/stream?frames=1")
    answer = daemon.ask("GET", "/metrics", Accept=accept)
    assert answer.headers["content-type"].startswith(content_type)
    families = {family.name: family for family in read(answer.body.decode())}
    assert {f"fastmesh_{name}" for name in WANTED} <= set(families)
    assert all(name.startswith("fastmesh_") for name in families)


def test_counters_reconcile_with_what_was_sent(origin: Origin) -> None:
    origin.page("/m", "<title>m</title>")
    with Daemon(FETCH__ALLOW_NETWORKS="127.0.0.0/8", FIREHOSE__ENABLED="true") as daemon:
        sent = 'fastmesh_streaming_messages_sent_total{protocol="ndjson",type="%s"}'
        body = daemon.ask("GET", "/firehose/stream?frames=500")
        frames = daemon.crawl(origin.url("/m"), origin.url("/missing"), "nonsense")
        assert daemon.metric(sent % "result") == 503
        assert daemon.metric(sent % "metadata") == daemon.metric(sent % "summary") == 2
        assert daemon.metric('fastmesh_streaming_bytes_total{protocol="ndjson"}') > len(body.body)
        assert daemon.metric('fastmesh_pipeline_urls_total{outcome="success"}') == 1
        assert daemon.metric('fastmesh_pipeline_urls_total{outcome="http_status"}') == 1
        assert daemon.metric('fastmesh_pipeline_urls_total{outcome="invalid_url"}') == 1
        assert daemon.metric('fastmesh_pipeline_stage_seconds_count{stage="fetch"}') == 2
        assert daemon.metric('fastmesh_pipeline_stage_seconds_count{stage="extract"}') == 1
        assert daemon.metric('fastmesh_streaming_ttfb_seconds_count{protocol="ndjson"}') == 2
        assert daemon.metric('fastmesh_streaming_duration_seconds_count{protocol="ndjson",status="completed"}') == 2
        assert daemon.metric('fastmesh_http_requests_total{method="POST",route="/crawl/stream",status="200"}') == 1
        assert frames[-1]["failed"] == 2


def test_labels_have_few_values_whatever_is_asked(daemon: Daemon) -> None:
    for at in range(20):
        daemon.ask("GET", f"/nothing/{at}")
        daemon.ask(f"METHOD{chr(65 + at)}", "/livez")
    for method in ("PUT", "QUERY", "PROPFIND", "MKCALENDAR"):  # which are methods elsewhere
        assert [daemon.ask(method, path).status for path in ("/livez", "/nothing")] == [405, 404]
    text = daemon.ask("GET", "/metrics").body.decode()
    assert "/nothing" not in text
    assert set(re.findall(r'method="([^"]+)"', text)) <= {"GET", "HEAD", "POST", "DELETE", "OPTIONS", "other"}
    routes = set(re.findall(r'route="([^"]+)"', text))
    documented = """/crawl /openapi.json
    /crawl/stream /crawl/sse /crawl/ws /deepsearch/stream /streams /streams/{id} /streams/{id}/events
    /firehose/stream /firehose/sse /firehose/ws /tickets /healthz /livez /readyz /metrics preflight other"""
    assert routes <= set(documented.split())
