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
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from loadtest import report
from loadtest.compiled import library
from loadtest.costs import Client, measures, origin, silent
from loadtest.servers import Server, started

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


def counted(tree: Path, rounds: int, only: str) -> dict[str, list[float]]:
    """Instructions of each thing of the daemon in *tree*, once a round."""
    found: dict[str, list[float]] = defaultdict(list)
    with (
        TemporaryDirectory() as temp,
        origin(Path(temp)) as pages,
        silent() as endless,
        _running(tree, Path(temp)) as server,
    ):
        daemon, client = Daemon(server, Path(temp)), Client(server, pages, endless)
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
