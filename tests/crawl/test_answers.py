"""Where an answer comes from: what is kept is served, asked about again, and gone when the origin says otherwise."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from pages import Page

from fastmesh.config import FetchSettings
from fastmesh.crawl.cache.memory import MemoryStore
from fastmesh.crawl.cache.store import Answer
from fastmesh.crawl.fetch.answers import Answers
from fastmesh.crawl.net.guard import AddressGuard
from fastmesh.crawl.options import CrawlOptions

URL = "http://h.test/"


def came(status: int = 200, **fields: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return Answer(status, None, "text/html", named, b"body", 4, time.time(), asked_at_s=time.time())


def outcomes(*asked: tuple[str, Answer]) -> list[str]:
    """Where each answer came from, when the same is asked for in these modes and the origin would answer so."""

    async def main() -> list[str]:
        answers, said = Answers(MemoryStore(1 << 20), 3600), []
        url = AddressGuard(FetchSettings()).parse(URL)
        for mode, by_origin in asked:
            options: Any = CrawlOptions(9000.0, 99, "tests", 99, cache_mode=mode)

            async def ask(_: Any, answer: Answer = by_origin) -> tuple[Answer, None]:
                return answer, None

            said.append((await answers.answer(url, {}, Page(URL, options).request, ask))[2])
        return said

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("newer", "then"),
    [
        (came(), "hit"),
        (came(503), "hit"),  # it passes: what is kept is as good as it was
        (came(cache_control="no-store"), "miss"),
        (came(206), "miss"),
    ],
)
def test_what_is_kept_goes_when_the_origin_says_something_else_that_stays(newer: Answer, then: str) -> None:
    assert outcomes(("read_through", came()), ("refresh", newer), ("read_through", came())) == ["miss", "miss", then]


def test_what_a_304_confirms_is_served_until_it_forbids_that() -> None:
    stale = came(etag='"1"', cache_control="max-age=0")
    asked = [
        ("read_through", came(304)),
        ("read_through", came(304, cache_control="no-store")),
        ("read_through", came()),
    ]
    assert outcomes(("read_through", stale), *asked) == ["miss", "revalidated", "revalidated", "miss"]
