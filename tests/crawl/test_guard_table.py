"""The whole table of the address guard, fetched: whatever is refused never reaches the server behind it.

The page that redirects stands on 127.0.0.9, the only address that may be fetched; the server
that nobody may reach on 127.0.0.1, and the environment names it as everybody's proxy.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

import pytest
import uvloop
from guard_table import (
    BLOCKED_HOSTS,
    BLOCKED_NAMES,
    BLOCKED_REDIRECTS,
    FRONT,
    INSIDE,
    LEGITIMATE,
    PUBLIC,
    REFUSED_AS_WRITTEN,
)
from nameserver import Nameserver
from origins import PAGE, Origin
from pages import Page, no_answers

from fastmesh.config import FetchSettings
from fastmesh.crawl.fetch.fetcher import Fetcher
from fastmesh.crawl.net import names as names_module
from fastmesh.crawl.net.guard import AddressGuard
from fastmesh.crawl.net.resolver import GuardedResolver
from fastmesh.crawl.net.url import parse_url
from fastmesh.crawl.options import CrawlOptions
from fastmesh.errors import BlockedAddress, InvalidUrl, TlsFailed, UrlError

OPTIONS = CrawlOptions(timeout_ms=5000, max_body_bytes=1000, user_agent="fastmesh/test", max_frame_bytes=4096)
REFUSALS = (BlockedAddress, InvalidUrl)


@pytest.fixture(scope="module")
def front() -> Iterator[Origin]:
    with Origin(FRONT) as origin:
        yield origin


@pytest.fixture(scope="module")
def inside() -> Iterator[Origin]:
    """Nobody may reach it."""
    with Origin(INSIDE) as origin:
        yield origin
        assert origin.connections == 0


@pytest.fixture(autouse=True)
def hostile_environment(monkeypatch: pytest.MonkeyPatch, inside: Origin) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, inside.url())
    monkeypatch.setenv("NO_PROXY", "")
    # Every lookup asks anew: names that change between two fetches are part of the table.
    monkeypatch.setattr(names_module, "MIN_KEPT_S", 0)


def fetching(work: Callable[[Fetcher], Awaitable[None]]) -> None:
    async def main() -> None:
        settings = FetchSettings.model_validate({"allow_networks": f"{FRONT}/32"})
        fetcher = Fetcher(settings, AddressGuard(settings), no_answers(), dns=names.client())
        try:
            await work(fetcher)
        finally:
            await fetcher.close()

    answers = {name.lower(): given for name, given in BLOCKED_NAMES.items() if given}
    with Nameserver(answers) as names:
        uvloop.run(main())


async def refusal(fetcher: Fetcher, url: str) -> type[UrlError] | None:
    """As what *url* is refused; None when it is fetched."""
    try:
        await Page(url, OPTIONS).come(fetcher)
    except UrlError as error:
        return type(error)
    return None


def test_there_are_enough_cases() -> None:
    cases = [*REFUSED_AS_WRITTEN, *BLOCKED_HOSTS, *BLOCKED_NAMES, *BLOCKED_REDIRECTS]
    assert len(set(cases)) >= 200


def test_what_is_refused_as_it_is_written_is_not_fetched() -> None:
    async def main(fetcher: Fetcher) -> None:
        assert {url: await refusal(fetcher, url) for url in REFUSED_AS_WRITTEN} == dict.fromkeys(
            REFUSED_AS_WRITTEN, InvalidUrl
        )

    fetching(main)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_address_that_is_not_public_is_fetched_in_any_spelling(inside: Origin, scheme: str) -> None:
    async def main(fetcher: Fetcher) -> None:
        urls = [f"{scheme}://{host}:{inside.port}/" for host in BLOCKED_HOSTS]
        assert {url: await refusal(fetcher, url) for url in urls} == dict.fromkeys(urls, BlockedAddress)

    fetching(main)


@pytest.mark.parametrize("name", BLOCKED_NAMES)
def test_no_name_leads_to_an_address_that_is_not_public(front: Origin, inside: Origin, name: str) -> None:
    async def main(fetcher: Fetcher) -> None:
        for _ in BLOCKED_NAMES[name][:-1]:
            assert await refusal(fetcher, front.url("/until-close", name)) is None
        for port in (inside.port, front.port):
            assert await refusal(fetcher, f"http://{name}:{port}/until-close") is BlockedAddress

    fetching(main)


@pytest.mark.parametrize("location", BLOCKED_REDIRECTS)
def test_no_redirect_leads_there(front: Origin, inside: Origin, location: str) -> None:
    # As on the wire: the bytes of UTF-8.
    target = location.format(port=inside.port).encode().decode("latin-1")
    urls = [front.redirect("/there", target), front.redirect("/there-after-another", front.url("/there"), 307)]

    async def main(fetcher: Fetcher) -> None:
        for url in urls:
            assert await refusal(fetcher, url) in REFUSALS

    fetching(main)


@pytest.mark.parametrize(("written", "_canonical"), LEGITIMATE)
def test_nothing_legitimate_is_refused(written: str, _canonical: str) -> None:
    url = parse_url(written)

    async def main() -> None:
        guard = AddressGuard(FetchSettings.model_validate({"allow_ports": "1-65535"}))
        with Nameserver({url.host.removesuffix("."): [[PUBLIC]]}) as names:
            resolver = GuardedResolver(guard, names.client())
            try:
                admitted = guard.parse(written)
                if admitted.address is None:
                    found = await resolver.resolve(admitted.host, admitted.port)
                    assert [node["host"] for node in found] == [PUBLIC]
                else:
                    guard.check(admitted.address, admitted.port)
            finally:
                await resolver.close()

    uvloop.run(main())


def test_the_address_is_dialled_and_the_name_is_what_the_origin_hears() -> None:
    async def main() -> None:
        settings = FetchSettings.model_validate({"allow_networks": f"{FRONT}/32"})
        with Nameserver({"secure.test": [[FRONT]]}) as names:
            fetcher = Fetcher(settings, AddressGuard(settings), no_answers(), dns=names.client())
            try:
                assert await refusal(fetcher, origin.url("/", "secure.test")) is TlsFailed  # nobody trusts it
            finally:
                await fetcher.close()

    with Origin(FRONT, tls=True) as origin:
        uvloop.run(main())
        assert origin.server_names == ["secure.test"]


def test_a_page_that_may_be_fetched_is(front: Origin) -> None:
    async def main(fetcher: Fetcher) -> None:
        page = Page(front.redirect("/moved", front.url("/until-close")), OPTIONS)
        await page.come(fetcher)
        assert page.body == PAGE

    fetching(main)
