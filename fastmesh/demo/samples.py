"""The batch of the demo: its URLs, what shall become of each, and whether it did."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastmesh.demo import pages
from fastmesh.demo.answers import Handler, after, bomb, cut, endless, fixed, redirect, reset, trickle

Frame = dict[str, Any]

TIMEOUT_MS: Final = 4000  # of the batch: what the endless page takes
CONCURRENCY: Final = 16
PIXEL: Final = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One URL of the batch.

    *url* is a path of the site or a whole URL.  *error* is the type that its
    result must have, None a document with *title*; *status* is the HTTP status
    (0: there is no answer).  *handler* answers for it, unless the site itself does.
    """

    url: str
    about: str
    title: str | None = None
    error: str | None = None
    status: int = 200
    handler: Handler | None = None


def url_of(sample: Sample, address: str) -> str:
    """The whole URL of *sample* when the site is at *address*."""
    return address + sample.url if sample.url.startswith("/") else sample.url


def batch(address: str) -> dict[str, Any]:
    """The body that crawls all of SAMPLES."""
    return {
        "urls": [url_of(sample, address) for sample in SAMPLES],
        "options": {"concurrency": CONCURRENCY, "timeout_ms": TIMEOUT_MS},
    }


PLAIN: Final = pages.simple("A plain page", "Nothing happens here, and that at once. " * 20)
GZIP: Final = {"Content-Encoding": "gzip"}

SAMPLES: Final = (
    Sample("/", "the index", "The fastmesh sample site"),
    Sample(
        "/articles/backpressure",
        "an article in UTF-8, with a table and code",
        "Backpressure, or how to say “not so fast”",
        handler=fixed(pages.ENGLISH),
    ),
    Sample(
        "/articles/samovar",
        "windows-1251, said by its header",
        "Чай в дороге: заметки о самоваре",
        handler=fixed(pages.RUSSIAN.encode("windows-1251"), "text/html; charset=windows-1251"),
    ),
    Sample(
        "/articles/onsen",
        "Shift_JIS, said by the page only",
        "山の温泉案内",
        handler=fixed(pages.JAPANESE.encode("shift_jis"), "text/html"),
    ),
    Sample(
        "/articles/brot",
        "ISO-8859-1",
        "Brot backen für Geübte & Ungeübte",
        handler=fixed(pages.GERMAN.encode("iso-8859-1"), "text/html; charset=iso-8859-1"),
    ),
    Sample("/notes.txt", "plain text", handler=fixed(pages.NOTES, "text/plain; charset=utf-8")),
    Sample("/data.json", "JSON", handler=fixed(pages.DATA, "application/json")),
    Sample("/feed.xml", "a feed", "The sample site", handler=fixed(pages.FEED, "application/rss+xml")),
    Sample("/page.xhtml", "XHTML", "A well-formed page", handler=fixed(pages.XHTML, "application/xhtml+xml")),
    Sample("/archive", "1,000 links", "An archive of 1,000 links", handler=fixed(pages.many_links(1000))),
    Sample("/compressed", "gzip", "A plain page", handler=fixed(gzip.compress(PLAIN.encode()), headers=GZIP)),
    Sample("/moved", "three redirects", "Where the redirects end", handler=redirect(301, "/moved/on")),
    Sample(
        "/title",
        "a title that wants to be obeyed",
        "[bold red]not red[/] \x1b[31mnor this\x1b[0m \u202edrawkcab",
        handler=fixed(pages.HOSTILE),
    ),
    Sample("/slow/500", "answers after 0.5 s", "A plain page", handler=after(0.5, fixed(PLAIN))),
    Sample("/slow/1500", "answers after 1.5 s", "A plain page", handler=after(1.5, fixed(PLAIN))),
    Sample("/trickle", "a body that takes 2 s", "Worth the wait", handler=trickle),
    Sample(
        "/missing",
        "404",
        error="http_status",
        status=404,
        handler=fixed(pages.simple("Not here", "Nor anywhere."), status=404),
    ),
    Sample("/broken", "500", error="http_status", status=500, handler=fixed("Oh no.", "text/plain", status=500)),
    Sample("/busy", "503", error="http_status", status=503, handler=fixed("Later.", "text/plain", status=503)),
    Sample(
        "/circle", "redirects in a circle", error="too_many_redirects", status=302, handler=redirect(302, "/circle/2")
    ),
    Sample("/reset", "reset in mid-body", error="connect", handler=reset),
    Sample("/cut", "ends before its length", error="connect", handler=cut),
    Sample("/bomb", "60 MB in 60 KB of gzip", error="too_large", handler=fixed(bomb(), headers=GZIP)),
    Sample(
        "/garbled",
        "gzip that is none",
        error="decode",
        handler=fixed(b"\x1f\x8b\x08\x00 no, this is not", headers=GZIP),
    ),
    Sample("/paper.pdf", "a PDF", "On pages", handler=fixed(pages.paper("On pages"), "application/pdf")),
    Sample("/pixel.png", "an image", error="unsupported_content", handler=fixed(PIXEL, "image/png")),
    Sample("/endless", f"no end within {TIMEOUT_MS / 1000:g} s", error="timeout", handler=endless),
    Sample("ftp://127.0.0.1/file", "a scheme that is not fetched", error="invalid_url", status=0),
    Sample("http://169.254.169.254/", "where clouds keep credentials", error="blocked_address", status=0),
    Sample("http://nowhere.invalid/", "a name that nobody has", error="dns", status=0),
)


def differences(frames: Sequence[Frame], urls: Sequence[str]) -> list[str]:
    """What is not as it should be, one sentence each; *urls* are those of SAMPLES."""
    durable = [frame for frame in frames if "seq" in frame]
    results: dict[int, list[Frame]] = {index: [] for index in range(len(SAMPLES))}
    wrong = []
    if [frame["seq"] for frame in durable] != list(range(1, len(durable) + 1)):
        wrong.append(f"seq: want 1, 2, 3, …, got {[frame['seq'] for frame in durable]}")
    if not durable or durable[0]["type"] != "metadata" or durable[-1]["type"] != "summary":
        wrong.append(f"want metadata first and a summary last, got {[frame['type'] for frame in durable]}")
    for frame in durable:
        if frame["type"] == "result":
            results.setdefault(frame["index"], []).append(frame["result"])
    for index, found in results.items():
        if len(found) != 1:
            wrong.append(f"#{index}: want one result, got {len(found)}")
        else:
            wrong += _compared(index, SAMPLES[index], urls[index], found[0])
    if durable and durable[-1]["type"] == "summary":
        wrong += _totals(durable[-1])
    return wrong


def _compared(index: int, sample: Sample, url: str, result: Frame) -> list[str]:
    error, document = result["error"], result["document"]
    wanted = {"url": url, "status": sample.status, "error": sample.error, "title": sample.title}
    got = {
        "url": result["url"],
        "status": result["status"],
        "error": error and error["type"],
        "title": document and document["title"],
    }
    return [
        f"#{index} {sample.url} ({sample.about}): want {name} {value!r}, got {got[name]!r}"
        for name, value in wanted.items()
        if got[name] != value
    ]


def _totals(summary: Frame) -> list[str]:
    failed = sum(sample.error is not None for sample in SAMPLES)
    wanted = {
        "status": "completed",
        "total_urls": len(SAMPLES),
        "successful": len(SAMPLES) - failed,
        "failed": failed,
        "cancelled": 0,
        "unfinished": [],
    }
    return [
        f"summary: want {name} {value!r}, got {summary[name]!r}"
        for name, value in wanted.items()
        if summary[name] != value
    ]
