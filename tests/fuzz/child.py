"""The process in which inputs are run: it may hang, crash or grow, and its parent tells what it was at then.

What it is at lies in a file that both have mapped.  An input that has used HANG_S of CPU ends the process by SIGPROF,
which needs no turn of the interpreter's: a regular expression that backtracks gives none.
"""

from __future__ import annotations

import json
import mmap
import resource
import signal
import struct
import sys
import time
from collections.abc import Hashable
from random import Random
from typing import Any

from .budget import Target, spend
from .catalogue import TARGETS
from .mutate import Mutator

HANG_S = 20.0
MAX_RESIDENT_BYTES = 4 << 30
MAX_KEPT = 2_000
HEAD = struct.Struct("!32sI")
STATE_BYTES = HEAD.size + (1 << 20)


class State:
    """What is being run, for the parent to read."""

    def __init__(self, path: str) -> None:
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), STATE_BYTES)

    def say(self, name: str, data: bytes) -> None:
        """*data* is given to the target *name* now."""
        self._map[HEAD.size : HEAD.size + len(data)] = data
        self._map[: HEAD.size] = HEAD.pack(name.encode(), len(data))


class Fuzzing:
    """One target's inputs: what was tried, and what is known to be of interest."""

    def __init__(self, target: Target, state: State, seed: int, slower: float) -> None:
        self._target, self._state, self._slower = target, state, slower
        self._chance = Random(f"{seed} {target.name}")
        self._mutator = Mutator(self._chance, target.words, target.max_bytes)
        self._outcomes: set[Hashable] = set()
        self._kept: list[bytes] = []
        self.inputs = self.bytes = 0
        self.longest_turn_s = self.s_a_byte = self.all_s = 0.0

    def attempt(self, data: bytes) -> None:
        """Run *data*; keep it when its outcome is new.  Raises what is a fault."""
        self._state.say(self._target.name, data)
        signal.setitimer(signal.ITIMER_PROF, HANG_S * self._slower)
        spent = spend(self._target, data, self._slower)
        signal.setitimer(signal.ITIMER_PROF, 0)
        self.inputs += 1
        self.bytes += len(data)
        self.all_s += spent.all_s
        self.longest_turn_s = max(self.longest_turn_s, spent.turn_s)
        if len(data) > 1000:
            self.s_a_byte = max(self.s_a_byte, spent.all_s / len(data))
        if spent.outcome not in self._outcomes and len(self._outcomes) < MAX_KEPT:
            self._outcomes.add(spent.outcome)
            self._kept.append(data)

    def known(self) -> bytes:
        """One of those that are kept, by chance."""
        return self._chance.choice(self._kept)

    def changed(self, data: bytes) -> bytes:
        """*data* with changes, by chance."""
        return self._mutator.changed(data, self.known())

    def told(self) -> dict[str, Any]:
        """The figures, for people."""
        return {
            "target": self._target.name,
            "inputs": self.inputs,
            "kbytes": self.bytes // 1000,
            "outcomes": len(self._outcomes),
            "longest_turn_ms": round(self.longest_turn_s * 1000, 2),
            "most_us_a_byte": round(self.s_a_byte * 1e6, 2),
        }


def main(names: list[str], state: str, seconds: float, inputs: int, seed: int, slower: float) -> None:
    """Run each target for *seconds*, or for so many *inputs*, and print its figures as a line of JSON."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_RESIDENT_BYTES, MAX_RESIDENT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    said = State(state)
    for target in map(TARGETS.__getitem__, names):
        fuzzing = Fuzzing(target, said, seed, slower)
        for known in target.seeds:
            fuzzing.attempt(known)
        until, most = time.monotonic() + seconds, fuzzing.inputs + inputs
        while time.monotonic() < until and fuzzing.inputs < most:
            fuzzing.attempt(fuzzing.changed(fuzzing.known()))
        print(json.dumps(fuzzing.told()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1].split(","), sys.argv[2], float(sys.argv[3]), *map(int, sys.argv[4:6]), float(sys.argv[6]))
