"""Python's HTML documentation behind nginx: every page once, complete and right."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import need
from daemons import Daemon
from e2e.nginx import nginx

DOCS = Path("/usr/share/doc/python3.11/html")


@pytest.fixture(scope="module")
def docs() -> Iterator[tuple[str, list[Path]]]:
    """The base URL, and the pages under it."""
    command = need("nginx")
    if not DOCS.is_dir():
        missing = f"python3.11-doc is not installed ({DOCS})"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    pages = sorted(path.relative_to(DOCS) for path in DOCS.rglob("*.html"))
    with nginx(command, DOCS) as base:
        yield base, pages


def test_every_page_gives_one_result_with_its_title(docs: tuple[str, list[Path]]) -> None:
    base, pages = docs
    assert len(pages) > 500
    urls = [f"{base}/{page}" for page in pages]
    with Daemon(FETCH__ALLOW_NETWORKS="127.0.0.0/8", STREAM__RESUME_WINDOW_S=0) as daemon:
        frames = daemon.crawl(*urls, concurrency=64)
        assert [frame["seq"] for frame in frames] == list(range(1, len(pages) + 3))
        results = frames[1:-1]
        assert sorted(frame["index"] for frame in results) == list(range(len(pages)))
        assert [frame["progress"]["completed"] for frame in results] == list(range(1, len(pages) + 1))
        for frame in results:
            result = frame["result"]
            assert result["url"] == urls[frame["index"]]
            assert result["error"] is None, result
            assert result["status"] == 200
            source = (DOCS / pages[frame["index"]]).read_text("utf-8")
            title = re.search(r"<title>(.*?)</title>", source, re.DOTALL)
            assert title is not None
            document = result["document"]
            assert document["title"] == " ".join(html.unescape(title[1]).split())
            assert document["text"]
            assert document["markdown"]
            # What a parser's DOM sees need not be what is written, but it cannot be much less.
            assert len(document["links"]) >= 0.9 * len(
                set(re.findall(r'<a\b[^>]*href="(?!javascript)([^"]+)"', source))
            )
            assert all(re.match(r"(https?|mailto):", link["url"]) for link in document["links"])
        summary = frames[-1]
        assert (summary["successful"], summary["failed"], summary["cancelled"]) == (len(pages), 0, 0)
        assert daemon.metric('fastmesh_pipeline_urls_total{outcome="success"}') == len(pages)
        assert daemon.metric("fastmesh_pipeline_inflight") == 0
        while daemon.metric("fastmesh_streaming_memory_usage_bytes"):
            pass
