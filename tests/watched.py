"""``fastmesh serve`` without Python's collector of cycles: what counts of references leave behind stays, and is told.

A program of its own, run by tests (``Watched``).  At SIGUSR1 it collects and says on its standard output, as one
line of JSON, how many objects of each type nothing could reach any more.
"""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import sys
from collections import Counter

from fastmesh.cli import main
from fastmesh.server import daemon, serve


def settle() -> None:
    """Instead of the daemon's own setting: what is there now stays for good, and nothing is collected unasked."""
    gc.collect()
    gc.freeze()
    gc.disable()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, tell)


def tell() -> None:
    """Collect, and say what was found."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    found = Counter(f"{type(thing).__module__}.{type(thing).__qualname__}" for thing in gc.garbage)
    gc.garbage.clear()
    gc.collect()
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    for module, name in ((serve, "settle_collector"), (daemon, "look_for_cycles")):
        assert hasattr(module, name), f"{module.__name__} has no {name} that could be replaced"
    serve.settle_collector = settle
    daemon.look_for_cycles = lambda: None
    sys.exit(main(["serve"]))
