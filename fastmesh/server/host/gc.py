"""Python's collector of cycles, set for a daemon: rare where it holds the loop.

A full collection looks at every object and holds the loop meanwhile, 100 ms with
1,000 open crawls, and at Python's defaults there is one every few seconds.  What was
loaded at the start is for good, so it is not looked at again; what streams and pages
leave behind goes by its counts of references, however they end, so that there is nothing
to be found.  What is found nevertheless is counted: more than a few objects are a bug.
"""

from __future__ import annotations

import gc
from typing import Final

from fastmesh.telemetry.metrics import Metrics

# The young are looked through when so many more objects were made than left (below 1 ms), those of the middle after so
# many such looks (3 ms), all after so many of these: 2 million objects that stayed, 200 MB at most.
THRESHOLDS: Final = (5_000, 5, 80)


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
