"""How URLs become documents: fetching, extraction, the cache, search."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from fastmesh.config.cores import usable_cores
from fastmesh.config.declare import HttpUrl, Nameservers, Networks, Ports, Section, Text, setting
from fastmesh.version import __version__


class FetchSettings(Section):
    """How pages are fetched, and what may be fetched at all."""

    concurrency: int = setting(256, "fetches", "over all streams; one alone has four fifths of many", ge=1)
    per_host_concurrency: int = setting(8, "fetches", "to one host, over all streams", ge=1)
    per_host_rps: float = setting(0, "1/s", "fetches begun at one host, over all streams; 0 is off", ge=0)
    timeout_ms: float = setting(
        15_000, "ms", "a URL, with redirects and retries; waiting for its turn does not count", gt=0
    )
    connect_timeout_ms: float = setting(3_000, "ms", "one connection", gt=0)
    max_body_bytes: int = setting(20_971_520, "bytes", "a body, after decompression", ge=0)
    total_bytes: int = setting(268_435_456, "bytes", "bodies in memory at once; over it reading waits", ge=1)
    max_redirects: int = setting(10, "redirects", "more fail the URL", ge=0)
    retries: int = setting(2, "retries", "of a URL, where its error says that this may help", ge=0, le=20)
    user_agent: str = setting(
        f"fastmesh/{__version__} (+https://pypi.org/project/fastmesh/)",
        "",
        "sent with every fetch, and the name that robots.txt is read for; a request may name another",
        allowed="text of ASCII characters, at least one of them visible",
        instead="fastmesh/VERSION (+https://pypi.org/project/fastmesh/)",
        pattern=r"^[\x20-\x7e]*[\x21-\x7e][\x20-\x7e]*$",
    )
    respect_robots: bool = setting(True, "", "pages that robots.txt disallows are not fetched; a request may differ")
    allow_networks: Networks = setting(
        (),
        "networks",
        "may be fetched although private, loopback or special",
        allowed="networks such as 127.0.0.0/8,::1/128",
    )
    nameservers: Nameservers = setting(
        (),
        "addresses",
        "asked for names instead of the system's own",
        allowed="addresses such as 192.0.2.1,192.0.2.1:5353,[2001:db8::1]:5353",
    )
    allow_ports: Ports = setting(
        ((80, 80), (443, 443), (1024, 65535)),
        "ports",
        "may be fetched",
        allowed="ports from 1 to 65535 such as 80,443,1024-65535, of a range the lower one first",
    )


class WorkersSettings(Section):
    """The processes that parse pages, so that the loop never does."""

    extract: int = setting(
        max(1, usable_cores() - 1),
        "processes",
        "that parse side by side",
        instead="cores that it may use − 1, at least 1",
        ge=1,
        le=256,
    )


class CacheSettings(Section):
    """Pages that were fetched before, in memory."""

    ttl_s: float = setting(3600, "s", "a page is fresh that says nothing about it; 0: none is", ge=0)
    max_bytes: int = setting(268_435_456, "bytes", "of bodies and documents; 0: nothing is kept", ge=0)


class SearchSettings(Section):
    """Where deepsearch finds its URLs."""

    provider: Literal["none", "searxng", "static"] = setting("none", "", "what a query is asked of")
    url: HttpUrl = setting(
        None,
        "URL",
        "of the SearXNG instance; its JSON format must be on",
        allowed="an http or https URL without query and fragment, such as http://127.0.0.1:8888",
    )
    static_file: Text | None = setting(None, "path", "JSON: an object of query to a list of URLs", allowed="a path")

    @model_validator(mode="after")
    def _provided(self) -> Self:
        if self.provider == "searxng" and self.url is None:
            raise ValueError("SEARCH__PROVIDER='searxng' wants SEARCH__URL: the instance's http or https URL")
        if self.provider == "static" and self.static_file is None:
            raise ValueError("SEARCH__PROVIDER='static' wants SEARCH__STATIC_FILE: a JSON file of query to URLs")
        return self
