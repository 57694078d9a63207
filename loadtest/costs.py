"""What a daemon's user does that costs it something: pages, frames, streams opened; each so many times.

``loadtest.instructions`` counts what each costs, ``loadtest.paired`` times it.
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random

import orjson

from loadtest.nginx import nginx
from loadtest.servers import Server
from loadtest.streams import CRAWL, FIREHOSE, Protocol, Seen, read

ANSWER_WITHIN_S = 3600.0  # under valgrind everything takes long
PAGES = {"2": 2_000, "20": 20_000, "90": 90_000}
# So many of each at least.
PAGE_COUNT, FRAME_COUNT, STREAM_COUNT = 32, 1000, 32


class Client:
    """What is measured: one method each, done *count* times."""

    def __init__(self, server: Server, pages: Server, silent: str) -> None:
        self._server, self._pages, self._silent = server, pages, silent
        self._kept = http.client.HTTPConnection(server.host, server.port, timeout=ANSWER_WITHIN_S)
        self._page = 10_000_000

    def pages(self, size: str, count: int) -> None:
        """One stream of *count* pages, none of which was fetched before."""
        urls = [f"{self._pages.url}/{size}.html?{self._page + number}" for number in range(count)]
        self._page += count
        seen = self._read("ndjson", CRAWL["ndjson"], {"urls": urls, "options": {"concurrency": 1}})
        if seen.summary is None or seen.summary["successful"] != count:
            raise RuntimeError(f"not every page was crawled: {seen.summary}")

    def frames(self, protocol: Protocol, count: int) -> None:
        """One firehose of *count* frames of 700 bytes, on a connection of its own."""
        self._read(protocol, f"{FIREHOSE[protocol]}?frames={count}&bytes=700")

    def firehoses(self, protocol: Protocol, count: int) -> None:
        """*count* firehoses of one frame, each on a connection of its own."""
        for _ in range(count):
            self.frames(protocol, 1)

    def cached(self, count: int) -> None:
        """*count* crawls of one page that the cache has, by one connection."""
        for _ in range(count):
            told = self._ask("POST", "/crawl/stream", {"urls": [f"{self._pages.url}/2.html"]})
            if told.count(b"\n") != 3 or b'"successful":1' not in told:
                raise RuntimeError(f"a page was not crawled: {told[:500]!r}")

    def cancelled(self, count: int) -> None:
        """*count* streams of one page that does not answer, each opened and cancelled, by one connection."""
        for _ in range(count):
            asked = {"urls": [self._silent], "options": {"respect_robots": False, "retries": 0}}
            opened = orjson.loads(self._ask("POST", "/streams", asked))
            self._ask("DELETE", f"/streams/{opened['stream_id']}")

    def close(self) -> None:
        """It asks for no more."""
        self._kept.close()

    def _read(self, protocol: Protocol, path: str, body: Mapping[str, object] | None = None) -> Seen:
        seen = Seen()
        for _ in read(self._server.url, protocol, path, seen, body=body):
            pass
        return seen

    def _ask(self, method: str, path: str, body: object = None) -> bytes:
        text = None if body is None else orjson.dumps(body)
        self._kept.request(method, path, text, {"Content-Type": "application/json"})
        answer = self._kept.getresponse()
        told = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: status {answer.status}: {told[:500]!r}")
        return told


def measures(client: Client) -> dict[str, tuple[Callable[[int], None], int]]:
    """What is measured, by its name: what does so many of it, and how many at least."""
    return {
        "a page of 20 KB": (lambda count: client.pages("20", count), PAGE_COUNT),
        "a page of 90 KB": (lambda count: client.pages("90", count), PAGE_COUNT),
        "a frame, NDJSON": (lambda count: client.frames("ndjson", count), FRAME_COUNT),
        "a frame, SSE": (lambda count: client.frames("sse", count), FRAME_COUNT),
        "a frame, WebSocket": (lambda count: client.frames("ws", count), FRAME_COUNT),
        "a stream of a cached page": (client.cached, STREAM_COUNT),
        "a stream opened and cancelled": (client.cancelled, STREAM_COUNT),
        "a connection with one frame, NDJSON": (lambda count: client.firehoses("ndjson", count), STREAM_COUNT),
        "a connection with one frame, SSE": (lambda count: client.firehoses("sse", count), STREAM_COUNT),
        "a connection with one frame, WebSocket": (lambda count: client.firehoses("ws", count), STREAM_COUNT),
    }


@contextmanager
def origin(temp: Path) -> Iterator[Server]:
    """Pages of prose from nginx, by their names in PAGES; the same in every run."""
    words = Random(1)
    for name, size in PAGES.items():
        text = "<!doctype html><html><head><title>A page</title></head><body><article>"
        while len(text) < size:
            prose = " ".join("abcdefghijkl"[: words.randint(1, 12)] for _ in range(60))
            text += f'<p>{prose}, <a href="/{len(text):06}">and more</a>.</p>\n'
        (temp / f"{name}.html").write_text(text + "</article></body></html>")
    temp.chmod(0o755)
    with nginx(f"root {temp};") as server:
        yield server


@contextmanager
def silent() -> Iterator[str]:
    """The URL of an origin that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
