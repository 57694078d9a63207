"""The examples of docs/protocol.md, run as they stand: only where the daemon and the pages are is put in."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import LOOPBACK, need
from daemons import Daemon
from origins import Origin

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage

TEXT = (Path(__file__).parent.parent.parent / "docs/protocol.md").read_text("utf-8")
SECTION = TEXT[TEXT.index("## In three protocols") : TEXT.index("## Access")]
WHERE = "localhost:8080"
PAGES = {"https://example.com/": "/example-com", "https://example.org/": "/example-org"}


def examples(language: str) -> list[str]:
    """The blocks of that *language*, in their order."""
    return re.findall(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)


@pytest.fixture(scope="module")
def home() -> Iterator[Origin]:
    """The site whose pages may ask, and the one that is crawled."""
    with Origin() as running:
        running.page("/", "<title>Home</title>")
        for path in PAGES.values():
            running.page(path, f"<title>{path}</title><p>{'word ' * 60}</p>")
        yield running


@pytest.fixture(scope="module")
def daemon(home: Origin) -> Iterator[Daemon]:
    origin = home.url("").rstrip("/")
    with Daemon(FETCH__ALLOW_NETWORKS=LOOPBACK, CORS__ALLOW_ORIGINS=origin) as running:
        yield running


def put_in(example: str, daemon: Daemon, home: Origin) -> str:
    """*example* with this daemon and these pages."""
    assert WHERE in example
    for url, path in PAGES.items():
        example = example.replace(url, home.url(path))
    return example.replace(WHERE, daemon.host)


def shell(example: str, daemon: Daemon, home: Origin) -> list[bytes]:
    """What each of its commands wrote, run one after the other by one shell."""
    commands = re.findall(r"^\$ (.*)$", put_in(example, daemon, home), re.MULTILINE)
    script = "\n".join(f"{command}\nprintf '\\036'" for command in commands)
    done = subprocess.run(["bash", "-euc", script], capture_output=True, check=True)
    *said, rest = done.stdout.split(b"\x1e")
    assert rest == b""
    return said


def lines(said: bytes) -> list[str]:
    return [json.loads(line)["type"] for line in said.splitlines()]


def events(said: bytes) -> list[str]:
    return re.findall(r"^event: (\w+)$", said.decode(), re.MULTILINE)


def test_with_curl(daemon: Daemon, home: Origin) -> None:
    need("curl")
    need("jq")
    ndjson, sse, later = examples("console")
    assert lines(*shell(ndjson, daemon, home)) == ["metadata", "result", "result", "summary"]
    posted, got = shell(sse, daemon, home)
    assert events(posted) == ["metadata", "result", "summary"]
    assert events(got) == ["metadata", "result", "result", "summary"]
    opened, after, resumed = shell(later, daemon, home)
    assert (opened, lines(after), events(resumed)) == (b"", ["result", "summary"], ["result", "summary"])


def test_with_python(daemon: Daemon, home: Origin) -> None:
    own, any_client = (
        subprocess.run(
            [sys.executable, "-c", put_in(example, daemon, home)], capture_output=True, text=True, check=True
        )
        for example in examples("python")
    )
    assert sorted(own.stdout.splitlines()) == ["0 /example-com", "1 /example-org", "completed 2"]
    assert own.stdout.splitlines()[-1] == "completed 2"
    assert any_client.stdout.splitlines() == ["metadata 1", "result 2", "result 3", "summary 4"]


def test_in_a_browser(browser: Browser, daemon: Daemon, home: Origin) -> None:
    fetch, event_source, socket = examples("js")
    said: dict[str, list[str]] = {}
    for example, last in {fetch: "summary", event_source: "200", socket: "summary"}.items():
        page = browser.new_page()
        page.goto(home.url("/"))
        messages: list[ConsoleMessage] = []
        page.on("console", lambda message, heard=messages: heard.append(message))  # type: ignore[misc]
        with page.expect_console_message(lambda message, last=last: message.text == last):  # type: ignore[misc]
            page.evaluate(f"async () => {{ {put_in(example, daemon, home)} }}")
        page.close()
        said[example] = [message.text for message in messages if message.type == "log"]
    assert said[fetch] == ["metadata", "result", "result", "summary"]
    assert said[event_source] == ["200"]
    assert said[socket] == ["welcome", "ack", "metadata", "result", "summary"]
