"""Clients that others wrote, as their users use them: each gets every result of a crawl once."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
import websockets
from chaos import TO_CLIENT, Blow, Chaos, Harm
from conftest import need
from daemons import PATIENCE_S, Daemon
from httpx_sse import ServerSentEvent, connect_sse
from origins import Origin

PAGES = 8
CUT_AT = 6000  # bytes: behind some results, before the last
EVENTSOURCE = "eventsource@4.1.1"  # 5 wants a newer node than Debian's
_numbers = count()


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon(FETCH__ALLOW_NETWORKS="127.0.0.0/8", STREAM__SSE_RETRY_MS=20) as running:
        yield running


@pytest.fixture
def urls(origin: Origin) -> Iterator[list[str]]:
    """Pages that no other test fetches; each was fetched once at the end."""
    name = f"clients-{next(_numbers)}"
    found = [origin.page(f"/{name}/{at}", f"<title>Page {at}</title><p>{'word ' * 60}") for at in range(PAGES)]
    yield found
    assert [origin.hits[f"/{name}/{at}"] for at in range(PAGES)] == [1] * PAGES


def check(frames: list[dict[str, Any]], urls: list[str]) -> None:
    """All frames of the crawl, each once."""
    assert [frame["seq"] for frame in frames] == list(range(1, PAGES + 3))
    assert sorted(frame["result"]["url"] for frame in frames[1:-1]) == sorted(urls)
    assert (frames[-1]["type"], frames[-1]["successful"]) == ("summary", PAGES)


def check_events(events: list[ServerSentEvent], urls: list[str]) -> None:
    # This library makes an event of a block that only says `retry`; ours is a field of the first one.
    frames = [event.json() for event in events]
    assert [event.event for event in events] == [frame["type"] for frame in frames]
    assert [event.id for event in events] == [f"{frame['stream_id']}:{frame['seq']}" for frame in frames]
    assert [event.retry for event in events] == [20] + [None] * (PAGES + 1)
    check(frames, urls)


def get_path(urls: list[str]) -> str:
    return "/crawl/sse?" + "&".join(f"url={url}" for url in urls)


# ── httpx ────────────────────────────────────────────────────────────────────────────────


def test_httpx_lines(daemon: Daemon, urls: list[str]) -> None:
    with httpx.stream("POST", f"{daemon.address}/crawl/stream", json={"urls": urls}, trust_env=False) as response:
        check([json.loads(line) for line in response.iter_lines()], urls)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_httpx_sse(daemon: Daemon, urls: list[str], method: str) -> None:
    path, body = (get_path(urls), None) if method == "GET" else ("/crawl/sse", {"urls": urls})
    with (
        httpx.Client(base_url=daemon.address, trust_env=False) as client,
        connect_sse(client, method, path, json=body) as source,
    ):
        check_events(list(source.iter_sse()), urls)


def test_httpx_sse_resumes_by_last_event_id(daemon: Daemon, urls: list[str]) -> None:
    events: list[ServerSentEvent] = []
    with httpx.Client(base_url=daemon.address, trust_env=False) as client:
        with connect_sse(client, "GET", get_path(urls)) as source:
            for event in source.iter_sse():
                events.append(event)
                if len(events) == 4:
                    break
        headers = {"Last-Event-ID": events[-1].id}
        with connect_sse(client, "GET", get_path(urls), headers=headers) as source:
            events += source.iter_sse()
        check([event.json() for event in events], urls)
        headers = {"Last-Event-ID": events[-1].id}
        assert client.get(get_path(urls), headers=headers).status_code == 204


# ── aiohttp ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["/crawl/stream", "/crawl/sse"])
def test_aiohttp_lines(daemon: Daemon, urls: list[str], path: str) -> None:
    async def lines() -> list[bytes]:
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{daemon.address}{path}", json={"urls": urls}) as response,
        ):
            return [line async for line in response.content]

    got = asyncio.run(lines())
    if path == "/crawl/sse":
        got = [line.removeprefix(b"data: ") for line in got if line.startswith(b"data: ")]
    check([json.loads(line) for line in got], urls)


def test_aiohttp_websocket(daemon: Daemon, urls: list[str]) -> None:
    async def frames() -> list[dict[str, Any]]:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{daemon.address}/crawl/ws", protocols=("fastmesh.v1",)) as ws,
        ):
            assert ws.protocol == "fastmesh.v1"
            assert (await ws.receive_json())["type"] == "welcome"
            await ws.send_json({"type": "crawl", "id": "1", "urls": urls})
            ack = await ws.receive_json()
            assert (ack["type"], ack["id"]) == ("ack", "1")
            got = [await ws.receive_json() for _ in range(PAGES + 2)]
            await ws.close()
            assert ws.close_code == 1000
            return got

    check(asyncio.run(frames()), urls)


# ── websockets ───────────────────────────────────────────────────────────────────────────


def test_websockets(daemon: Daemon, urls: list[str]) -> None:
    async def frames() -> list[dict[str, Any]]:
        got: list[dict[str, Any]] = []
        address = f"ws://{daemon.host}/crawl/ws"
        async with websockets.connect(address, proxy=None, subprotocols=["fastmesh.v1"]) as ws:  # type: ignore[list-item]
            assert json.loads(await ws.recv())["type"] == "welcome"
            await ws.send(json.dumps({"type": "crawl", "id": "1", "urls": urls}))
            stream_id = json.loads(await ws.recv())["stream_id"]
            while len(got) < 4:
                got.append(json.loads(await ws.recv()))
        async with websockets.connect(address, proxy=None) as ws:
            assert json.loads(await ws.recv())["type"] == "welcome"
            await ws.send(json.dumps({"type": "subscribe", "id": "2", "stream_id": stream_id, "after": 4}))
            ack = json.loads(await ws.recv())
            assert ack == {"type": "ack", "id": "2", "stream_id": stream_id}
            while got[-1]["type"] != "summary":
                got.append(json.loads(await ws.recv()))
            pong = await ws.ping()
            await pong
        return got

    check(asyncio.run(frames()), urls)


# ── curl ─────────────────────────────────────────────────────────────────────────────────


def curl(*arguments: str, exits: int = 0) -> str:
    command = [need("curl"), "-sS", "-N", "--noproxy", "*", "--max-time", str(PATIENCE_S), *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == exits, run.stderr
    return run.stdout


def data_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


def test_curl_lines(daemon: Daemon, urls: list[str]) -> None:
    body = json.dumps({"urls": urls})
    text = curl("--json", body, f"{daemon.address}/crawl/stream")
    check([json.loads(line) for line in text.splitlines()], urls)


@pytest.mark.parametrize("version", ["--http1.1", "--http1.0"])
def test_curl_sse(daemon: Daemon, urls: list[str], version: str) -> None:
    check(data_of(curl(version, f"{daemon.address}{get_path(urls)}")), urls)


@pytest.mark.parametrize("how", ["Last-Event-ID", "after"])
def test_curl_goes_on_where_it_was_cut(daemon: Daemon, urls: list[str], how: str) -> None:
    with Chaos(daemon.port, plan=[(Blow(Harm.FIN, TO_CLIENT, CUT_AT),)]) as chaos:
        text = curl(f"{chaos.address}{get_path(urls)}", exits=18)  # "partial file"
        whole = text[: text.rindex("\n\n") + 2]
        first = data_of(whole)
        assert 1 < len(first) < PAGES + 2
        stream_id, after = first[-1]["stream_id"], first[-1]["seq"]
        if how == "after":
            url = f"{chaos.address}/streams/{stream_id}/events?after={after}"
            rest = [json.loads(line) for line in curl(url).splitlines()]
        else:
            rest = data_of(curl("-H", f"Last-Event-ID: {stream_id}:{after}", f"{chaos.address}{get_path(urls)}"))
        check(first + rest, urls)
        assert chaos.connections == 2


# ── EventSource of npm ───────────────────────────────────────────────────────────────────

SCRIPT = """
import { EventSource } from 'eventsource'
const source = new EventSource(process.argv[2])
const frames = []
let opened = 0
source.onopen = () => { opened += 1 }
for (const type of ['metadata', 'result', 'summary'])
  source.addEventListener(type, event => frames.push({ id: event.lastEventId, ...JSON.parse(event.data) }))
source.onerror = event => {
  if (source.readyState !== EventSource.CLOSED) return
  console.log(JSON.stringify({ frames, opened, code: event.code }))
}
"""


@pytest.fixture(scope="session")
def eventsource(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that runs an EventSource of node on a URL and prints what it saw."""
    node, npm = need("node"), need("npm")
    folder: Path = tmp_path_factory.mktemp("eventsource")
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", EVENTSOURCE]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=100)
    if run.returncode:
        missing = f"npm could not install {EVENTSOURCE}: {run.stderr[-500:]}"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    (folder / "read.mjs").write_text(SCRIPT)
    return [node, str(folder / "read.mjs")]


@pytest.mark.parametrize("harm", [Harm.FIN, Harm.RST])
def test_eventsource_of_npm_sees_each_result_once_and_ends(
    daemon: Daemon, urls: list[str], eventsource: list[str], harm: Harm
) -> None:
    with Chaos(daemon.port, plan=[(Blow(harm, TO_CLIENT, CUT_AT),)]) as chaos:
        command = [*eventsource, f"{chaos.address}{get_path(urls)}"]
        environ = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
        run = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=PATIENCE_S, check=True)
        assert chaos.broken == 1
    told = json.loads(run.stdout)
    check(told["frames"], urls)
    assert [frame["id"] for frame in told["frames"]] == [
        f"{told['frames'][0]['stream_id']}:{seq}" for seq in range(1, PAGES + 3)
    ]
    assert (told["opened"], told["code"]) == (2, 204)  # the third one was told that nothing follows
