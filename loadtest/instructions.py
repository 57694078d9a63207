"""Instructions that a page, a frame and a stream's opening cost the daemon, of one source tree or of two side by side.

    python -m loadtest.instructions --tree DIR [--tree DIR2]

Each tree's daemon runs under ``valgrind --tool=callgrind``, by the tree's own ``.venv``; its workers do not.  What a
thing costs is the difference between twice as many and once as many, so that a stream's opening is no part of a
page's.  Under valgrind everything takes some hundred times as long; so that the daemon does no more by the clock
meanwhile than it else would, its clock runs at a hundredth of its pace.  The collector of cycles rests: what it
takes falls now on one measure, now on another, and is seen in its own metrics.
"""

from __future__ import annotations

import argparse
import http.client
import re
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory

import orjson

from loadtest import report
from loadtest.compiled import library
from loadtest.nginx import nginx
from loadtest.servers import Server, started
from loadtest.streams import CRAWL, FIREHOSE, Protocol, Seen, read

STOP_S = 60.0
SERVE = "import gc, sys; gc.disable(); from fastmesh.cli import main; sys.exit(main())"
# Nothing may run out because valgrind is slow, and nothing may be sent because it is.
LONG = "3600"
SETTINGS = {
    "FIREHOSE__ENABLED": "true",
    "FETCH__ALLOW_NETWORKS": "127.0.0.0/8",
    "FETCH__TIMEOUT_MS": LONG + "000",
    "FETCH__CONNECT_TIMEOUT_MS": LONG + "000",
    "WORKERS__EXTRACT": "1",
    "SERVER__HEADER_TIMEOUT_S": LONG,
    "SERVER__BODY_TIMEOUT_S": LONG,
    "SERVER__KEEPALIVE_TIMEOUT_S": LONG,
    "SERVER__WRITE_STALL_TIMEOUT_S": LONG,
    "STREAM__HEARTBEAT_S": LONG,
    "STREAM__WS_PING_S": LONG,
}
PAGES = {"2": 2_000, "20": 20_000, "90": 90_000}
# So many of each, and twice as many.
PAGE_COUNT, FRAME_COUNT, STREAM_COUNT = 32, 1000, 32


class Daemon:
    """A daemon under callgrind, whose instructions can be asked for."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self._folder = folder
        self._parts = 0
        _control("--instr=on", server.pid)

    def count(self, act: Callable[[], object]) -> int:
        """Instructions of all its threads while the client does *act*."""
        self._dump()
        act()
        return self._dump()

    def _dump(self) -> int:
        """Instructions since the last one."""
        _control("--dump", self.server.pid)
        self._parts += 1
        path = self._folder / f"out.{self._parts}"
        found = re.search(r"^totals: (\d+)", path.read_text(), re.MULTILINE)
        path.unlink()
        assert found is not None
        return int(found[1])


class Client:
    """What is counted: one method each, done *count* times."""

    def __init__(self, server: Server, pages: Server, silent: str) -> None:
        self._server, self._pages, self._silent = server, pages, silent
        self._kept = http.client.HTTPConnection(server.host, server.port, timeout=float(LONG))
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
    """What is counted, by its name: what does so many of it, and how many at least."""
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


def counted(tree: Path, rounds: int, only: str) -> dict[str, list[float]]:
    """Instructions of each thing of the daemon in *tree*, once a round."""
    found: dict[str, list[float]] = defaultdict(list)
    with (
        TemporaryDirectory() as temp,
        _pages(Path(temp)) as pages,
        _silent() as silent,
        _running(tree, Path(temp)) as server,
    ):
        daemon, client = Daemon(server, Path(temp)), Client(server, pages, silent)
        chosen = {name: of for name, of in measures(client).items() if only in name}
        for act, count in chosen.values():
            act(count)  # what is loaded, filled and translated once
        for at in range(rounds):
            for name, (act, count) in chosen.items():
                once = daemon.count(lambda act=act, count=count: act(count))  # type: ignore[misc]
                twice = daemon.count(lambda act=act, count=count: act(2 * count))  # type: ignore[misc]
                found[name].append((twice - once) / count)
                report.STDERR.print(f"{tree}, round {at + 1}: {name}: {found[name][-1]:,.0f}")
        client.close()
    return found


def table(found: Mapping[Path, Mapping[str, list[float]]]) -> report.Table:
    """Medians and their spread by tree; of two trees also the second's ratio to the first."""
    trees = list(found.values())
    rows = []
    for name in trees[0]:
        figures = [tree[name] for tree in trees]
        told = [f"{median(runs):,.0f} ({min(runs):,.0f}–{max(runs):,.0f})" for runs in figures]
        ratio = [f"{median(runs) / median(figures[0]):.3f}" for runs in figures[1:]]
        rows.append([name, *told, *ratio])
    columns = ["instructions, median (least–most)", *(tree.name for tree in found), *["ratio"] * (len(trees) - 1)]
    return report.Table("Instructions of the daemon", columns, rows)


@contextmanager
def _pages(temp: Path) -> Iterator[Server]:
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
def _silent() -> Iterator[str]:
    """The URL of an origin that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


@contextmanager
def _running(tree: Path, folder: Path) -> Iterator[Server]:
    """The daemon of *tree*, not counted yet; stopped at the end."""
    environ = {f"FASTMESH_{name}": value for name, value in SETTINGS.items()}
    environ |= {"PYTHONHASHSEED": "0", "LD_PRELOAD": library("slow_clock.c")}
    valgrind = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/out"]
    daemon = [tree / ".venv/bin/python", "-c", SERVE, "serve", "--port", "0", "--log-level", "warning"]
    with started([*valgrind, *daemon], environ, tree) as server:
        yield server


def _control(what: str, pid: int) -> None:
    done = subprocess.run(["callgrind_control", what, str(pid)], capture_output=True, text=True, check=True)
    if "OK." not in done.stdout:
        raise RuntimeError(f"callgrind_control {what}: {done.stdout}{done.stderr}")


def main() -> int:
    """Count, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", type=Path, action="append", required=True, help="a checkout, built, with its .venv")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="what has this in its name")
    asked = parser.parse_args()
    report.publish("instructions", [table({tree: counted(tree, asked.rounds, asked.only) for tree in asked.tree})])
    return 0


if __name__ == "__main__":
    sys.exit(main())
