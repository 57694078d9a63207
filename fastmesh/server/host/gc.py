"""Python's collector of cycles, set for a daemon: it looks for them when nothing else is under way.

A look through what 1,000 open crawls have holds the loop for 30 to 100 ms, and at Python's defaults there is one every
few seconds.  What was loaded at the start is for good, so it is not looked at again; what streams and pages
leave behind goes by its counts of references, however they end, so that there is nothing
to be found.  What is found nevertheless is counted: more than a few objects are a bug.
"""

from __future__ import annotations

import gc
from typing import Final

from fastmesh.telemetry.metrics import Metrics

# While streams are open the young alone are looked through, and only when so many more objects were made than left: a
# look takes 20 to 40 ms then, and cycles 20 MB at most.
THRESHOLDS: Final = (200_000, 1_000_000, 1_000_000)
# Fewer than so many new ones are not worth a look.
WORTH_A_LOOK: Final = 5_000


GENERATIONS: Final = ("young", "middle", "all")


def tell_found(metrics: Metrics) -> None:
    """Have *metrics* say how often was looked and what was found, the start's among it."""

    def of_each(figure: str) -> dict[str, float]:
        return {name: stats[figure] for name, stats in zip(GENERATIONS, gc.get_stats(), strict=True)}

    metrics.register("collector_runs", "Looks for cycles", lambda: of_each("collections"), "generation", counted=True)
    metrics.register(
        "collector_found_objects",
        "In cycles that nothing reached any more",
        lambda: of_each("collected"),
        "generation",
        counted=True,
    )


def settle_collector() -> None:
    """All that this process has now stays for good; from here on cycles are looked for seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


def look_for_cycles() -> None:
    """Look through all, unless next to nothing was made since the last look.  For when nothing is held up by it."""
    if gc.get_count()[0] >= WORTH_A_LOOK:
        gc.collect()
