"""Whose page is extracted next: another client's streams, however many, hold up nobody."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from daemons import PATIENCE_S, Daemon, Peer
from origins import Origin
from sockets import WebSocket

STREAMS, PAGES = 20, 5
MANY, FEW = {"Authorization": f"Bearer {'m' * 32}"}, {"Authorization": f"Bearer {'f' * 32}"}
# Takes a worker some tenths of a second: each link's text is that of all links within.
SLOW = "<a href=x>t<object>" * 8_000

Open = Callable[[Daemon, list[dict[str, Any]]], Any]


def on_one_websocket(daemon: Daemon, bodies: list[dict[str, Any]]) -> WebSocket:
    socket = WebSocket(daemon)
    for body in bodies:
        socket.tell("crawl", **body)
    return socket


def on_one_kept_connection(daemon: Daemon, bodies: list[dict[str, Any]]) -> Peer:
    peer = daemon.connect()
    for body in bodies:
        assert peer.ask("POST", "/streams", body | {"stream": {"detach": True}}).status == 201
    return peer


def with_one_token(daemon: Daemon, bodies: list[dict[str, Any]]) -> list[Peer]:
    peers = [daemon.connect() for _ in bodies]
    for peer, body in zip(peers, bodies, strict=True):
        peer.send(peer.request("POST", "/crawl/stream", body, **MANY))
    return peers


@pytest.mark.parametrize("open_many", [on_one_websocket, on_one_kept_connection, with_one_token])
def test_the_streams_of_another_client_hold_up_no_small_page(origin: Origin, open_many: Open, tmp_path: Path) -> None:
    slow, quick = origin.page("/slow", SLOW), origin.page("/quick", "<title>quick</title><p>x")
    bodies = [
        {"urls": [f"{slow}?{stream}.{page}" for page in range(PAGES)], "options": {"cache_mode": "bypass"}}
        for stream in range(STREAMS)
    ]
    settings: dict[str, object] = {"WORKERS__EXTRACT": 1, "FETCH__ALLOW_NETWORKS": "127.0.0.0/8"}
    headers: dict[str, str] = {}
    if open_many is with_one_token:
        (tokens := tmp_path / "tokens").write_text("m" * 32 + " many\n" + "f" * 32 + " few\n")
        settings["AUTH__TOKENS_FILE"], headers = tokens, FEW
    with Daemon(FETCH__PER_HOST_CONCURRENCY=50, **settings) as daemon:
        open_many(daemon, bodies)

        def waiting() -> float:
            lines = daemon.ask("GET", "/metrics", **headers).body.decode().splitlines()
            return next(float(line.split()[1]) for line in lines if line.startswith("fastmesh_extract_waiting_pages "))

        until = time.monotonic() + PATIENCE_S
        while (before := waiting()) < STREAMS * PAGES * 0.8:
            assert time.monotonic() < until
            time.sleep(0.02)  # what is waited for is the daemon's
        frames = daemon.ask("POST", "/crawl/stream", {"urls": [quick, f"{quick}?2"]}, **headers).frames
        assert [frame["result"]["document"]["title"] for frame in frames if frame["type"] == "result"] == ["quick"] * 2
        # One was in the worker, and one of theirs has its turn after each of ours; in turn by stream, 40 had been.
        assert waiting() > before - 10
