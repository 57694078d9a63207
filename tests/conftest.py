"""What all tests share: the long forms, missing tools, and a daemon to talk to."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from daemons import Daemon
from hypothesis import settings
from origins import Origin

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# A busy machine is no finding; the number of examples stays hypothesis' own.
settings.register_profile("fastmesh", deadline=None)
settings.load_profile("fastmesh")

LOOPBACK = "127.0.0.0/8,::1/128"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the long forms of slow suites as well")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        for item in items:
            if "long" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="a long form: run with --long"))


def need(tool: str) -> str:
    """The path of *tool*; without it the test is skipped by its name, but in CI it fails."""
    path = shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if path is None:
        missing = f"{tool} is not installed"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    return path


@pytest.fixture(scope="session")
def daemon() -> Iterator[Daemon]:
    """One daemon for all tests that do not change it: default limits, the firehose, and loopback may be fetched."""
    with Daemon(FETCH__ALLOW_NETWORKS=LOOPBACK, FIREHOSE__ENABLED="true", STREAM__RESUME_WINDOW_S=0) as running:
        yield running


@pytest.fixture(scope="session")
def origin() -> Iterator[Origin]:
    """Pages to fetch, ordinary and hostile."""
    with Origin() as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; without it, or without what drives it, the tests are skipped, but in CI they fail."""
    chromium = need("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing = "playwright is not installed"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-proxy-server"])
        yield browser
        browser.close()
