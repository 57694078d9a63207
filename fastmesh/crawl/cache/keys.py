"""By what answers and results are known again: keys that are equal for equal requests, as long as this process lives.
They are salted: nobody finds out by one what a credential was."""

from __future__ import annotations

import os
from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

import orjson

from fastmesh.crawl.net.url import ParsedUrl
from fastmesh.crawl.options import CrawlOptions

_SALT: Final = os.urandom(16)


def request_key(url: ParsedUrl, headers: Mapping[str, str], options: CrawlOptions) -> bytes:
    """The key of a request for *url* with *headers* (names in lower case).  A request that minds robots.txt has another
    than one that does not: a page that is disallowed is no page to the one."""
    said = "\n".join(
        [url.resource, str(options.respect_robots), *(f"{name}: {value}" for name, value in sorted(headers.items()))]
    )
    return blake2b(said.encode("utf-8", "surrogatepass"), digest_size=16, key=_SALT).digest()


def result_key(url: str, options: CrawlOptions) -> str:
    """The ``cache_key`` of a result: of the page at *url*, asked for and extracted as *options* say."""
    said = [url, options.user_agent, dict(options.headers), options.respect_robots, *options.document]
    text = orjson.dumps(said, default=sorted, option=orjson.OPT_SORT_KEYS)
    return blake2b(text, digest_size=16, key=_SALT).hexdigest()
