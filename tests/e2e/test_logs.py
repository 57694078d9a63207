"""The log and the trace of real requests: what is written, how much, and what never is."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path

import pytest
from daemons import PATIENCE_S, Daemon
from origins import Origin
from sockets import WebSocket

ALLOW = {"FETCH__ALLOW_NETWORKS": "127.0.0.0/8", "FIREHOSE__ENABLED": "true"}
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def sent_traces(origin: Origin, path: str) -> list[str]:
    """The traceparent of every request for *path*."""
    heads = "\n".join(origin.heads[path])
    return re.findall(r"^traceparent: (.*?)\r?$", heads, re.MULTILINE | re.IGNORECASE)


def test_a_stream_is_two_lines_whatever_it_has(origin: Origin) -> None:
    urls = [origin.page(f"/log/{at}", f"<title>{at}</title>") for at in range(40)]
    with Daemon(**ALLOW) as daemon:
        body = {"urls": [*urls, "nonsense"]}
        answer = daemon.ask("POST", "/crawl/sse", body, X_Request_ID="r-1", traceparent=f"00-{TRACE}-{SPAN}-01")
        daemon.ask("GET", "/firehose/stream?frames=5000")
        while len(closed := daemon.logs("stream.closed")) < 2:  # written right after the stream's last byte
            pass
        opened = daemon.logs("stream.opened")
        assert Counter(json.loads(line)["event"] for line in daemon.stderr().splitlines()) == {
            "daemon.started": 1,
            "stream.opened": 2,
            "stream.closed": 2,
        }
        stream_id = answer.headers["x-stream-id"]
        names = {"stream_id": stream_id, "request_id": "r-1", "trace_id": TRACE}
        assert names.items() <= opened[0].items()
        assert re.fullmatch(r"[0-9a-f]{16}", opened[0]["span_id"])
        (line,) = [line for line in closed if line["stream_id"] == stream_id]
        line.pop("timestamp")
        assert line.pop("took_ms") > 0
        assert line.pop("kept_bytes") > 10_000
        assert line.pop("sent_bytes") > len(answer.body)
        assert line == names | {
            "event": "stream.closed",
            "level": "info",
            "type": "crawl",
            "status": "completed",
            "fault": None,
            "protocol": "sse",
            "urls": 41,
            "successful": 40,
            "failed": 1,
            "frames": 43,
            "subscribers": 1,
            "sent_frames": 43,
            "missed_frames": 0,
        }


def test_each_fetch_is_a_span_of_the_requests_trace(origin: Origin) -> None:
    page, other = origin.page("/traced", "<title>a</title>"), origin.page("/traced-too", "<title>b</title>")
    moved = origin.redirect("/traced-moved", page)
    with Daemon(**ALLOW) as daemon:
        for path, protocol in (("/crawl/stream", "ndjson"), ("/crawl/sse", "sse"), ("/crawl", "whole")):
            origin.heads.clear()
            headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "vendor=secret"}
            assert daemon.ask("POST", path, {"urls": [moved, other]}, **headers).status == 200
            sent = [
                *sent_traces(origin, "/traced-moved"),
                *sent_traces(origin, "/traced"),
                *sent_traces(origin, "/traced-too"),
            ]
            assert len(sent) == 3, protocol
            parts = [header.split("-") for header in sent]
            assert {(version, trace, flags) for version, trace, _, flags in parts} == {("00", TRACE, "01")}
            spans = {span for _, _, span, _ in parts}
            assert len(spans | {SPAN, daemon.logs("stream.opened")[-1]["span_id"]}) == 5
            assert "tracestate" not in "".join(origin.heads["/traced"]).lower()


def test_streams_of_a_websocket_are_spans_of_its_handshakes_trace(origin: Origin) -> None:
    page = origin.page("/traced-ws", "<title>a</title>")
    origin.heads.clear()
    with Daemon(**ALLOW) as daemon, WebSocket(daemon, traceparent=f"00-{TRACE}-{SPAN}-00") as socket:
        for _ in range(2):
            socket.tell("crawl", urls=[page])
            while socket.read()["type"] != "summary":
                pass
        opened = daemon.logs("stream.opened")
        assert {line["trace_id"] for line in opened} == {TRACE}
        assert len({line["span_id"] for line in opened}) == 2
        assert {header[3:35] for header in sent_traces(origin, "/traced-ws")} == {TRACE}


@pytest.mark.parametrize("given", [None, "nonsense", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE.upper()}-{SPAN}-01"])
def test_without_a_valid_traceparent_a_trace_is_begun(origin: Origin, given: str | None) -> None:
    page = origin.page("/traced-new", "<title>a</title>")
    origin.heads.clear()
    with Daemon(**ALLOW) as daemon:
        headers = {} if given is None else {"traceparent": given}
        daemon.ask("POST", "/crawl/stream", {"urls": [page]}, **headers)
        (opened,) = daemon.logs("stream.opened")
        assert re.fullmatch(r"[0-9a-f]{32}", opened["trace_id"])
        assert opened["trace_id"] not in (TRACE, "0" * 32)
        (sent,) = sent_traces(origin, "/traced-new")
        assert sent.startswith(f"00-{opened['trace_id']}-")


def test_a_traceparent_that_the_request_chose_for_its_pages_is_sent_as_it_is(origin: Origin) -> None:
    page = origin.page("/traced-own", "<title>a</title>")
    origin.heads.clear()
    with Daemon(**ALLOW) as daemon:
        daemon.crawl(page, headers={"Traceparent": "mine"})
        assert sent_traces(origin, "/traced-own") == ["mine"]


def test_what_the_cache_has_is_found_whatever_the_trace(daemon: Daemon) -> None:
    with Origin(cache_control="max-age=600") as kept:
        page = kept.page("/traced-kept", "<title>a</title>")
        for at in range(3):
            frames = daemon.ask(
                "POST", "/crawl/stream", {"urls": [page]}, traceparent=f"00-{TRACE[:-1]}{at}-{SPAN}-01"
            ).frames
            assert frames[1]["result"]["from_cache"] == (at > 0)
        assert kept.hits["/traced-kept"] == 1


def test_at_debug_each_request_is_a_line_with_its_ids_and_no_line_is_about_a_frame() -> None:
    with Daemon(**ALLOW, LOG__LEVEL="debug") as daemon:
        daemon.ask("GET", "/livez", X_Request_ID="r-2", traceparent=f"00-{TRACE}-{SPAN}-01")
        daemon.ask("GET", "/firehose/stream?frames=3000")
        (line,) = [line for line in daemon.logs("request.answered") if line["route"] == "/livez"]
        assert (line["request_id"], line["trace_id"], line["status"]) == ("r-2", TRACE, 200)
        assert len(daemon.stderr().splitlines()) < 30


def test_a_log_that_takes_nothing_costs_lines_and_nothing_else(tmp_path: Path) -> None:
    """Its disk is full from the start; or its reader goes away."""
    assert Path("/dev/full").exists()
    with Daemon(prefix=("sh", "-c", 'exec "$@" 2>/dev/full', "sh"), **ALLOW) as daemon:
        assert daemon.crawl("nonsense")[-1]["status"] == "completed"
        assert ended(daemon) == 0
    pipe = tmp_path / "log"
    os.mkfifo(pipe)
    # Both ends, so that neither waits for the other to open it.
    reader = os.open(pipe, os.O_RDWR)
    with Daemon(prefix=("sh", "-c", f'exec "$@" 2>"{pipe}"', "sh"), **ALLOW) as daemon:
        assert b"daemon.started" in os.read(reader, 65_536)
        os.close(reader)
        for _ in range(20):
            assert daemon.crawl("nonsense")[-1]["status"] == "completed"
        assert ended(daemon) == 0


def test_a_log_that_nobody_reads_stops_nothing_and_names_what_is_missing(tmp_path: Path) -> None:
    pipe = tmp_path / "log"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDWR)
    asked, name = 0, "x" * 100
    with Daemon(prefix=("sh", "-c", f'exec "$@" 2>"{pipe}"', "sh"), LOG__LEVEL="debug") as daemon:
        peer = daemon.connect()
        while not daemon.metric("fastmesh_log_lost_lines_total"):
            for _ in range(100):
                peer.send(peer.request("GET", "/livez", X_Request_ID=f"{asked}-{name}"))
                asked += 1
            for _ in range(100):
                assert peer.read().status == 200
        assert daemon.crawl("nonsense")[-1]["status"] == "completed"
        lost = int(daemon.metric("fastmesh_log_lost_lines_total"))
        data, end = b"", b'"event": "log.lines_lost"'
        while end not in data:  # it is read again: all that was kept comes, in its order
            data += os.read(reader, 65_536)
        lines = list(map(json.loads, data.splitlines()[:-1]))
        numbers = [
            int(line["request_id"].partition("-")[0]) for line in lines if line.get("request_id", "").endswith(name)
        ]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) < asked
        while not data.endswith(b"\n"):
            data += os.read(reader, 65_536)
        (told,) = [line for line in map(json.loads, data.splitlines()) if line["event"] == "log.lines_lost"]
        assert lost <= told["lines"] <= lost + 20
        assert told["level"] == "error"
        for _ in range(3):  # nobody reads it to the end, either
            peer.send(b"".join(peer.request("GET", "/livez", X_Request_ID=name) for _ in range(100)))
            for _ in range(100):
                assert peer.read().status == 200
        assert ended(daemon) == 0
    os.close(reader)


def ended(daemon: Daemon) -> int:
    """How it ended, asked to."""
    daemon.process.terminate()
    return daemon.process.wait(PATIENCE_S)


def test_standard_files_that_are_closed_are_nobodys_sockets() -> None:
    with Daemon(prefix=("sh", "-c", 'exec "$@" <&- 2>&-', "sh"), **ALLOW) as daemon:
        assert daemon.crawl("nonsense")[-1]["status"] == "completed"
        assert os.readlink(f"/proc/{daemon.pid}/fd/2") == os.readlink(f"/proc/{daemon.pid}/fd/0") == os.devnull
        assert ended(daemon) == 0


SECRET = "hunter2"


@pytest.mark.parametrize("format_", ["json", "console"])
def test_no_secret_and_nothing_that_a_terminal_obeys_is_ever_written(origin: Origin, format_: str) -> None:
    hostile = f"http://user:{SECRET}@127.0.0.1:{origin.port}/x?token={SECRET}\x1b]0;x\x07#{SECRET}"
    urls = [hostile, f"http://user:{SECRET}@nowhere.invalid/?q={SECRET}", f"nonsense?key={SECRET}\x9b2J"]
    with Daemon(**ALLOW, LOG__LEVEL="debug", LOG__FORMAT=format_) as daemon:
        body = {"urls": urls, "options": {"headers": {"X-Key": SECRET, "Authorization": f"Bearer {SECRET}"}}}
        headers = {"Authorization": f"Bearer {SECRET}", "Cookie": f"session={SECRET}"}
        daemon.ask("POST", "/crawl/stream", body, **headers)
        daemon.ask("GET", f"/nothing/{SECRET}?token={SECRET}%1b", **headers)
        with daemon.connect() as peer:
            peer.send(
                f"GET /\x1b[2J{SECRET} HTTP/1.1\r\nHost: x\x1b[31m\r\nX-Request-ID: \x1b[31m{SECRET}\r\n\r\n".encode()
            )
            peer.rest()
        with WebSocket(daemon, **headers) as socket:
            socket.ask("crawl", urls=urls)
            socket.ask(f"\x1b{SECRET}")
        text = daemon.stderr()
    assert "stream.closed" in text
    assert SECRET not in text
    assert not set(text) & {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))} - {"\n"}
