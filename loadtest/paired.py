"""What a page, a frame and a stream's opening take in two source trees, timed in pairs.

    python -m loadtest.paired --tree BEFORE --tree AFTER [--rounds 9]

Both daemons run all the while, on one core, and only one of them is ever asked; the client and the origin have the
other core.  In each round each thing is done by the one and at once by the other, in the other order every second
round, so that what the machine does meanwhile falls on both.  Of each thing the ratio AFTER / BEFORE is taken round
by round, of the client's clock and of the daemon's own time of a core; the interval holds the median of such ratios
with a probability of at least 95 %, however they are spread (order statistics: the binomial bound of the sign test).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from math import comb
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from loadtest import report
from loadtest.costs import Client, measures, origin, silent
from loadtest.servers import SERVER_CORE, Server, pinned, started

ALPHA = 0.05
LEAST_S = 0.4  # so long a run takes, or longer: what is timed is done as often as that needs
SETTINGS = {
    "FASTMESH_FIREHOSE__ENABLED": "true",
    "FASTMESH_FETCH__ALLOW_NETWORKS": "127.0.0.0/8",
    "FASTMESH_WORKERS__EXTRACT": "1",
}


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """Between which two of *ratios* their median lies, with a probability of 95 % or more."""
    ordered, count = sorted(ratios), len(ratios)
    out, beyond = -1, 0.0
    while beyond + 2 * comb(count, out + 1) / 2**count <= ALPHA:
        out += 1
        beyond += 2 * comb(count, out) / 2**count
    if out < 0:
        raise ValueError(f"{count} rounds are too few for an interval of {1 - ALPHA:.0%}: want 6 or more")
    return ordered[out], ordered[-1 - out]


def timed(trees: Sequence[Path], rounds: int, only: str) -> list[list[object]]:
    """Rows of the table, one of each thing."""
    with TemporaryDirectory() as temp, ExitStack() as stack:
        pages, endless = stack.enter_context(origin(Path(temp))), stack.enter_context(silent())
        servers = [stack.enter_context(_running(tree)) for tree in trees]
        clients = [stack.enter_context(closing(Client(server, pages, endless))) for server in servers]
        done = [measures(client) for client in clients]
        counts = {}
        for name, (_, least) in done[0].items():
            if only in name:
                counts[name] = max(_enough(acts[name][0], least) for acts in done)
        ratios: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for at in range(rounds):
            for name, count in counts.items():
                took: dict[int, tuple[float, float]] = {}
                for which in (0, 1) if at % 2 == 0 else (1, 0):
                    took[which] = _took(servers[which], done[which][name][0], count)
                ratios[name].append((took[1][0] / took[0][0], took[1][1] / took[0][1]))
                report.STDERR.print(f"round {at + 1}: {name}, {count}: {took[0]} {took[1]} s")
    return [[name, counts[name], *(_told(each) for each in zip(*found, strict=True))] for name, found in ratios.items()]


def _running(tree: Path) -> AbstractContextManager[Server]:
    daemon = [tree / ".venv/bin/python", "-m", "fastmesh.cli", "serve", "--port", "0", "--log-level", "warning"]
    return started(pinned(list(map(str, daemon)), {SERVER_CORE}), SETTINGS, tree)


def _enough(act: Callable[[int], None], count: int) -> int:
    """How often *act* is done so that a run takes LEAST_S; what is loaded, filled and translated once is so too."""
    while True:
        begun = time.perf_counter()
        act(count)
        if time.perf_counter() - begun >= LEAST_S:
            return count
        count *= 2


def _took(server: Server, act: Callable[[int], None], count: int) -> tuple[float, float]:
    """Seconds by the clock, and of a core by all threads of the daemon; its workers are in the first only."""
    begun, used = time.perf_counter(), _core_s(server.pid)
    act(count)
    return time.perf_counter() - begun, _core_s(server.pid) - used


def _core_s(pid: int) -> float:
    """How long threads of process *pid* have run, in nanoseconds' steps (cpu_s counts in 10 ms)."""
    told = (task.joinpath("schedstat").read_text() for task in Path(f"/proc/{pid}/task").iterdir())
    return sum(int(each.split()[0]) for each in told) / 1e9


def _told(ratios: Sequence[float]) -> str:
    least, most = interval(ratios)
    return f"{median(ratios):.3f} ({least:.3f}–{most:.3f})"


def main() -> int:
    """Time, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", type=Path, action="append", required=True, help="a checkout, built, with its .venv")
    parser.add_argument("--rounds", type=int, default=9, help="6 or more")
    parser.add_argument("--only", default="", help="what has this in its name")
    asked = parser.parse_args()
    if len(asked.tree) != 2 or asked.rounds < 6:
        parser.error("want --tree twice, before and after, and 6 rounds or more")
    columns = ["after / before, median (95 %)", "times", "the client's clock", "the daemon's core"]
    rows = timed(asked.tree, asked.rounds, asked.only)
    report.publish("paired", [report.Table(f"{asked.rounds} paired rounds", columns, rows)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
