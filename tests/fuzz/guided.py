"""The child with coverage as its guide: atheris says which inputs went where none was before, and keeps them."""

from __future__ import annotations

import os
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["fastmesh"]):
    from .catalogue import TARGETS

import json

from .child import MAX_RESIDENT_BYTES, Fuzzing, State


def main(name: str, state: str, seconds: float, seed: int, slower: float) -> None:
    """As child.main(); ends the process."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_RESIDENT_BYTES, MAX_RESIDENT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    target = TARGETS[name]
    fuzzing = Fuzzing(target, State(state), seed, slower)
    for known in target.seeds:
        fuzzing.attempt(known)
    until = time.monotonic() + seconds
    chance = random.Random(seed)

    def attempt(data: bytes) -> None:
        if time.monotonic() >= until:
            print(json.dumps(fuzzing.told()), flush=True)
            os._exit(0)
        fuzzing.attempt(data)

    def change(data: bytes, most: int, _: int) -> bytes:
        if chance.randrange(3) == 0:
            return bytes(atheris.Mutate(data, len(data) + 64))[:most]
        return fuzzing.changed(data)[:most]

    with tempfile.TemporaryDirectory(prefix="fastmesh-fuzz-") as folder:
        for number, known in enumerate(target.seeds):
            Path(folder, str(number)).write_bytes(known)
        options = (f"-max_len={target.max_bytes}", f"-seed={seed}", "-rss_limit_mb=0", "-verbosity=0", "-timeout=1200")
        # Faults are told by the state; libFuzzer's own copies of them go with the folder.
        atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={folder}/", folder], attempt, custom_mutator=change)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[5]), float(sys.argv[6]))
