"""Targets: what a client of the daemon sends."""

from __future__ import annotations

import tempfile
from collections.abc import Hashable
from pathlib import Path
from typing import NamedTuple

import orjson

from fastmesh.api.access.callers import _subprotocol_tokens, _tickets
from fastmesh.api.access.tokens import Tokens
from fastmesh.api.requests.bodies import CrawlRequest, DeepSearchRequest, WholeCrawlRequest
from fastmesh.api.requests.bounds import parsed
from fastmesh.api.requests.queries import CrawlQuery, EventsQuery, FirehoseQuery, KeyQuery
from fastmesh.api.requests.reading import pairs_of, read_body, read_query, read_value
from fastmesh.api.streams.fields import last_event_id, wants_events
from fastmesh.api.websocket.session import COMMANDS
from fastmesh.errors import ApiError, ConfigError
from fastmesh.telemetry.trace import Trace
from fastmesh.wire.http1 import HttpParser, Request
from fastmesh.wire.websocket.deflate import BoundedDeflate
from fastmesh.wire.websocket.handshake import upgrade
from fastmesh.wire.websocket.machine import Binary, Ended, Limits, Ping, Text, WebSocketMachine

from .budget import Target, Watch, pieces

HOST = b"Host: localhost\r\n"
POST = b"POST /p HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
MAX_URLS = 100


class _Asked(NamedTuple):
    """As much of a call as Last-Event-ID needs."""

    request: Request


def http_requests(data: bytes, watch: Watch) -> Hashable:
    """The same requests wherever the bytes are cut; what is in their fields is read as the daemon reads it."""
    whole, requests = _requests([data], watch)
    assert _requests(pieces(data), watch)[0] == whole
    for request in requests:
        Trace.of(request.headers.get("traceparent"))
        _subprotocol_tokens(request)
        _tickets(request)
        wants_events(request.headers.get("accept", ""))
        try:
            last_event_id(_Asked(request))  # type: ignore[arg-type]
        except ApiError:
            pass
        try:
            head, _ = upgrade(request, [], limits=Limits(), deflate=True)
            assert head.count(b"\r\n\r\n") == 1
        except ApiError:
            pass
    return tuple(type(request.fault).__name__ for request in requests), whole[-1]


def _requests(parts: list[bytes], watch: Watch) -> tuple[list[Hashable], list[Request]]:
    parser, found = HttpParser(max_header_bytes=4096, max_body_bytes=20_000), []
    for part in parts:
        watch.turn(parser.receive, part)
        while True:
            request = watch.turn(parser.next_request)
            if request is not None:
                found.append(request)
            elif not parser.pending:
                break
        assert parser.held <= 4096 + 2 * 20_000 + len(part)
    shown: list[Hashable] = [
        (each.method, each.path, each.query, tuple(each.headers.items()), each.body, each.keep_alive, str(each.fault))
        for each in found
    ]
    return [*shown, parser.phase.name], found


def websocket(data: bytes, watch: Watch) -> Hashable:
    """The same events wherever the bytes are cut; the first byte says whether messages are deflated."""
    deflate, data = data[:1] == b"\1", data[1:]
    whole = _events([data], watch, deflate)
    assert _events(pieces(data), watch, deflate) == whole
    return tuple(type(event).__name__ for event in whole[:6]), getattr(whole[-1], "code", 0) if whole else 0


def _events(parts: list[bytes], watch: Watch, deflate: bool) -> list[object]:
    # Where a flood is cut off depends on how it comes: tests/wire has that.
    limits = Limits(max_message_bytes=20_000, small_frames_burst=1_000_000)
    machine = WebSocketMachine(limits, BoundedDeflate(limits.max_message_bytes) if deflate else None)
    events: list[object] = []
    for part in parts:
        watch.turn(machine.receive, part)
        while machine.pending:
            events += watch.turn(machine.events, 0.0)
    ends = [at for at, event in enumerate(events) if isinstance(event, Ended)]
    assert ends in ([], [len(events) - 1])
    assert all(len(event.data) <= limits.max_message_bytes for event in events if isinstance(event, Text | Binary))
    # Of many pings that come at once some are answered (RFC 6455, section 5.5.3).
    return [event for event in events if not isinstance(event, Ping)]


def commands(data: bytes, watch: Watch) -> Hashable:
    """A WebSocket's messages, up to the model; what is refused is refused by an error for the client."""
    try:
        given = watch.turn(parsed, data, MAX_URLS)
        model, _ = COMMANDS[given["type"]]
        watch.turn(read_value, model, given, MAX_URLS)
    except ApiError as error:
        return _said(error)
    except (TypeError, KeyError, IndexError):  # SocketSession has looked at these two before
        return "no command"
    return given["type"]


def bodies(data: bytes, watch: Watch) -> Hashable:
    """Bodies of requests as every model that reads one."""
    outcomes = []
    for model in (CrawlRequest, WholeCrawlRequest, DeepSearchRequest):
        try:
            watch.turn(read_body, model, "application/json", data, MAX_URLS)
            outcomes.append("taken")
        except ApiError as error:
            outcomes.append(_said(error))
    return tuple(outcomes)


def queries(data: bytes, watch: Watch) -> Hashable:
    """Queries as every model that reads one."""
    outcomes = []
    for model in (CrawlQuery, KeyQuery, EventsQuery, FirehoseQuery):
        try:
            watch.turn(lambda model=model: read_query(model, pairs_of(data.decode("ascii", "ignore"), MAX_URLS)))
            outcomes.append("taken")
        except ApiError as error:
            outcomes.append(_said(error))
    return tuple(outcomes)


def _said(error: ApiError) -> str:
    assert orjson.dumps(error.message)
    return f"{type(error).__name__} {error.message[:12]}"


_FOLDER = tempfile.TemporaryDirectory(prefix="fastmesh-fuzz-")


def tokens(data: bytes, watch: Watch) -> Hashable:
    """A file of tokens: its own error, which repeats nothing of a line, or tokens."""
    path = Path(_FOLDER.name, "tokens")
    path.write_bytes(data)
    path.chmod(0o600)
    try:
        return len(watch.turn(Tokens, str(path)))
    except ConfigError as error:
        return str(error)[-20:]


TARGETS = (
    Target(
        "http-requests",
        http_requests,
        (
            b"GET /a?b=c HTTP/1.1\r\n" + HOST + b"\r\n",
            POST + b"Content-Length: 0005 \r\n\r\nhello",
            CHUNKED + b'5\r\nhello\r\n0006;a=b;c="d" \r\n world\r\n0\r\n\r\n',
            CHUNKED + b"1\r\nx\r\n000\r\nHost: evil\r\nX-Other: y\r\n\r\n",
            (b"GET /1 HTTP/1.1\r\n" + HOST + b"\r\n") * 3 + POST + b"Content-Length: 1\r\n\r\nx",
            b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: fastmesh.v1, bearer.abc\r\n"
            b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=10\r\n"
            b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n",
            b"GET /s HTTP/1.1\r\n"
            + HOST
            + b"Last-Event-ID: 0123456789abcdef:12\r\nAccept: text/event-stream;q=0.5,*/*\r\n\r\n",
            b"\r\n" * 30_000,  # line ends before a request, read once
            b"\n" * 60_000,
            CHUNKED + b"1\r\nx\r\n" * 10_000,  # one-byte chunks
            CHUNKED + b"0\r\n" + b"A: b\r\n" * 10_000,  # trailers
            CHUNKED + b'1;a="\\' + b"\\\\" * 100,
            b"GET / HTTP/1.1\r\n" + HOST + b"Connection: " + b"," * 4000 + b"\r\n\r\n",
        ),
        (
            *(
                b"GET | HTTP/1.1\r\n| HTTP/1.0\r\n|Content-Length: |Transfer-Encoding: chunked\r\n|"
                b"\r\n\r\n|0\r\n\r\n|1\r\nx\r\n|Connection: close\r\n|Expect: 100-continue\r\n|;a=b|"
                b"Upgrade: websocket\r\n"
            ).split(b"|"),
            HOST,
        ),
        turn_s=0.02,
    ),
    Target(
        "websocket",
        websocket,
        (
            b"\0\x81\x85\0\0\0\0hello\x89\x80\0\0\0\0\x88\x82\0\0\0\0\x03\xe8",
            b"\0\x01\x81\0\0\0\0a\x89\x81\0\0\0\0p\x80\x81\0\0\0\0b",
            b"\0\x82\xfe\x01\x00\1\2\3\4" + b"x" * 256,
            b"\1\xc1\x87\0\0\0\0\xaaV*\xc9W\xb2R\x02\x00\x81\x81\0\0\0\0a",
            b"\0" + b"\x89\x80\0\0\0\0" * 9_000,
            b"\0\x01\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * 9_000,
            b"\0" + b"\x81\x81\0\0\0\0a" * 8_000,
            b"\0\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",
        ),
        (
            b"\x81\x80\x00\x00\x00\x00|\x80\x80\x00\x00\x00\x00|\x89\x80\x00\x00\x00\x00|"
            b"\x88\x80\x00\x00\x00\x00|\xc1\x81\x00\x00\x00\x00|\x01\x81\x00\x00\x00\x00"
        ).split(b"|"),
    ),
    Target(
        "commands",
        commands,
        (
            b'{"type":"crawl","id":"1","urls":["http://a.example/"],"options":{"timeout_s":3}}',
            b'{"type":"subscribe","id":"1","stream_id":"x","after":5}',
            b'{"type":"subscribe","id":"1","stream_id":"x","after":1e30}',  # a float for an integer
            b'{"type":"cancel","id":"1","stream_id":"x"}',
            b'{"type":"ping","id":"1"}',
            b"[" * 2000,
        ),
        b'"type":|"id":"1"|"after":|"urls":|1e30|null|true|[|{|}|]|,|:'.split(b"|"),
    ),
    Target(
        "bodies",
        bodies,
        (
            b'{"urls":["http://a.example/",{"url":"http://b.example/","id":"x","options":{"timeout_s":1e30}}],'
            b'"options":{"concurrency":4,"headers":{"A":"b"},"include":["text","links"]},"stream":{"on_slow":"drop"}}',
            b'{"query":"q","limit":1e30,"include_content":false}',
            b'{"query":"q","limit":10,"options":{"concurrency":1e30}}',
            b'{"urls":[' + b'"x",' * 9000 + b'"x"]}',
            b'{"urls":["\\ud800"]}',
            b'{"a":' * 200 + b"1" + b"}" * 200,
        ),
        (
            b'"urls":|"url":|"options":|"stream":|"headers":|"timeout_s":|"concurrency":|1e30|null|'
            b'1e999|"http://a.example/"|[|{|}|]|,|:|\\ud800|\\u0000'
        ).split(b"|"),
    ),
    Target(
        "queries",
        queries,
        (
            b"url=http%3A%2F%2Fa.example%2F&url=http://b.example/?a=b&concurrency=4&key=abc",
            b"after=5",
            b"frames=10&bytes=1e30&rate=0.5",
            b"rate=nan",
            b"bytes=" + b"9" * 5000,
            b"a" * 5000,
            b"&" * 9000,
            b"a=" + b"%" * 60_000,
            b"a=" + b"b%41" * 15_000,
            b"%FF",
            b"frames=" + b"1_0",
        ),
        b"url=|after=|frames=|bytes=|rate=|key=|concurrency=|&|%|%FF|+|1e30|inf".split(b"|"),
    ),
    Target(
        "tokens",
        tokens,
        (
            b"sha256:" + b"0" * 64 + b"  alice\n# nothing\n" + b"t" * 32 + b" bob\n",
            b"\xef\xbb\xbf" + b"t" * 43,
            b"\x85".join([b"t" * 30] * 3),
            ("\u2028" * 100).encode(),
            b"#" * 9000,
        ),
        (b"sha256:", b"#", b"\n", b"t" * 32, b"  ", b"alice"),
    ),
)
