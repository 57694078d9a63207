"""Real pages from a local nginx by fastmesh, by Scrapy with trafilatura and by Crawl4AI without a browser."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from rich.progress import track

from loadtest import report
from loadtest.crawl import PAGES, asked_for, check, frames, page_urls
from loadtest.nginx import nginx
from loadtest.servers import Server, commands, running

GRADES = ("fast", "quality")
PEERS = {"Scrapy with trafilatura": ("scrapy_app", "scrapy"), "Crawl4AI, HTTP strategy": ("crawl4ai_app", "crawl4ai")}


def crawlers(asked: argparse.Namespace) -> report.Table:
    """500 pages, 64 at once, nothing pinned; the crawlers take turns, and ratios are those of a round."""
    interpreter = asked.crawlers_python or sys.executable
    peers = {name: script for name, (script, module) in PEERS.items() if _has(interpreter, name, module)}
    seconds: dict[str, list[float]] = defaultdict(list)
    settings = {"FETCH__ALLOW_NETWORKS": "127.0.0.0/8", "WORKERS__EXTRACT": "2", "FETCH__PER_HOST_CONCURRENCY": "64"}
    with ExitStack() as stack:
        pages = stack.enter_context(nginx(f"root {asked.docs};"))
        urls = page_urls(asked.docs, pages)
        listed = Path(stack.enter_context(tempfile.TemporaryDirectory()), "urls")
        listed.write_text("\n".join(urls))
        server = stack.enter_context(running(commands(1)["fastmesh"], None, **settings))
        for grade in GRADES:
            _crawl(server, urls, grade)  # warming up: imports, connections, the page cache
        for _ in track(range(asked.runs), "crawlers", console=report.STDERR):
            for grade in GRADES:
                seconds[f"fastmesh, {grade}"].append(_crawl(server, urls, grade))
            for name, script in peers.items():
                seconds[name].append(_peer(interpreter, script, listed))
    rows = []
    for name, took in seconds.items():
        ratios = [s / own for s, own in zip(took, seconds["fastmesh, fast"], strict=True)]
        rows.append([name, f"{PAGES / median(took):.0f}", f"{median(ratios):.1f}",
                     f"{min(ratios):.1f}–{max(ratios):.1f}"])  # fmt: skip
    columns = ["crawler", "pages a second", "fastmesh (fast) is faster by", "least–most"]
    return report.Table(f"{PAGES} pages of Python's documentation from nginx, both cores", columns, rows)


def _crawl(server: Server, urls: list[str], grade: str) -> float:
    begun = time.monotonic()
    lines = frames(server, asked_for(urls, extractor=grade))
    took_s = time.monotonic() - begun
    check(lines)
    return took_s


def _peer(interpreter: str, script: str, listed: Path) -> float:
    path = Path(__file__).parent / "peers" / f"{script}.py"
    done = subprocess.run([interpreter, str(path), str(listed)], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    if found["pages"] != PAGES:
        raise RuntimeError(f"{script}: {found['pages']} of {PAGES} pages")
    return float(found["seconds"])


def _has(interpreter: str, name: str, module: str) -> bool:
    there = subprocess.run([interpreter, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0
    if not there:
        print(f"{name} is left out: {interpreter} has no {module} (--crawlers-python)", file=sys.stderr)
    return there
