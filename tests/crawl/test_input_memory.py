"""What a stream's URLs take, as it is counted, and as it is."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Callable

import pytest

from fastmesh.crawl.extract.spec import ExtractSpec
from fastmesh.crawl.options import CrawlOptions, InputUrl
from fastmesh.crawl.schedule.backlog import Backlog, Job
from fastmesh.crawl.schedule.slots import Slots
from fastmesh.events import PageResult

COUNT = 2000


async def never(job: Job) -> PageResult:
    raise AssertionError(job)


def options(number: int = 0, headers: int = 0) -> CrawlOptions:
    own = {f"x-{number}-{header}": "v" * 100 + str(number) for header in range(headers)}
    return CrawlOptions(1000.0 + number, 1 << 20, "tests", 1 << 20, document=ExtractSpec(1000 + number), headers=own)


SHARED = options()
INPUTS: dict[str, Callable[[int], InputUrl]] = {
    "short": lambda number: InputUrl(f"http://a.test/{number}", SHARED),
    "tall": lambda number: InputUrl(f"http://a.test/{number}/{'x' * 1000}", SHARED),
    "wide": lambda number: InputUrl(f"http://a.test/{number}/{'☃' * 200}", SHARED),
    "ids": lambda number: InputUrl(f"http://a.test/{number}", SHARED, f"id-{number}-{'i' * 50}"),
    "hosts": lambda number: InputUrl(f"http://host-{number}.test/", SHARED),
    "domains": lambda number: InputUrl(f"http://www.domain-{number}.test/", SHARED),
    "options": lambda number: InputUrl(f"http://a.test/{number}", options(number)),
    "headers": lambda number: InputUrl(f"http://a.test/{number}", options(number, 5)),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_what_is_counted_is_what_is_allocated(kind: str) -> None:
    async def measure() -> tuple[int, int]:
        slots = Slots(256, 8)
        gc.collect()
        tracemalloc.start()
        try:
            targets = [INPUTS[kind](number) for number in range(COUNT)]
            backlog = Backlog(bool, slots=slots, locate=lambda origin: origin + ":80", run=never)
            backlog.add(targets[: COUNT // 3])
            backlog.add(targets[COUNT // 3 :])
            backlog.end_of_input()
            while backlog.ready():  # every host is asked for its place
                backlog.take().close()
                if backlog.left < COUNT // 2:
                    break
            backlog_memory = backlog.memory
            gc.collect()
            allocated = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        backlog.close()
        slots.close()
        return backlog_memory, allocated

    counted, allocated = asyncio.run(measure())
    assert allocated <= counted <= 1.5 * allocated, (counted / COUNT, allocated / COUNT)
