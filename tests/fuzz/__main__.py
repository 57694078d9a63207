"""``python -m tests.fuzz``: run targets, keep the inputs that are faults, and end non-zero when there is one."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from .catalogue import TARGETS
from .run import Found, run

WITHOUT_END = 10**12
INSTRUMENTED = 5.0  # so much slower is code that tells where it was


def main() -> int:
    """The status to exit with."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)}; all without any")
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together (60)")
    parser.add_argument("--seed", type=int, default=1, help="what chance begins with (1)")
    parser.add_argument("--at-once", type=int, default=1, help="so many targets side by side (1)")
    parser.add_argument(
        "--slower", type=float, default=1.0, help="how many times slower than an ordinary one the machine is"
    )
    parser.add_argument("--found", type=Path, default=Path("fuzz-found"), help="a folder for inputs that are faults")
    parser.add_argument("--input", type=Path, help="run this file's bytes on the targets, and nothing else")
    asked = parser.parse_args()
    names = asked.targets or list(TARGETS)
    if unknown := set(names) - set(TARGETS):
        parser.error(f"no such targets: {', '.join(sorted(unknown))}")
    if asked.input is not None:
        return again(asked.input.read_bytes(), names)
    # With atheris (pip install atheris) what is covered guides the changes.
    engine, slower = ("coverage", INSTRUMENTED) if find_spec("atheris") else ("chance", 1.0)
    seconds = asked.seconds * asked.at_once / len(names)
    print(f"{len(names)} targets, {seconds:g} s each, seed {asked.seed}, changes guided by {engine}", flush=True)

    def one(name: str) -> Found:
        found = run(
            [name], seconds=seconds, inputs=WITHOUT_END, seed=asked.seed, engine=engine, slower=slower * asked.slower
        )
        print(found, flush=True)
        if found.fault is not None:  # kept at once: the run may be ended before the other targets are done
            asked.found.mkdir(exist_ok=True)
            path = asked.found / f"{found.target}-{sha256(found.fault).hexdigest()[:12]}"
            path.write_bytes(found.fault)
            print(f"kept: {path}", flush=True)
        return found

    with ThreadPoolExecutor(asked.at_once) as threads:
        faults = [found for found in threads.map(one, names) if found.fault is not None]
    return 1 if faults else 0


def again(data: bytes, names: list[str]) -> int:
    """Run one input on the targets *names*; a fault is raised."""
    from .budget import spend

    for name in names:
        print(name, spend(TARGETS[name], data))
    return 0


if __name__ == "__main__":
    sys.exit(main())
