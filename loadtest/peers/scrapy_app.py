"""Scrapy with trafilatura in its callback, over the URLs of a file: prints {"pages", "seconds"}.

The time runs from the first request to the last item; starting Python and Scrapy is not in it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import scrapy
import trafilatura
from scrapy.crawler import CrawlerProcess
from scrapy.http import Response, TextResponse

CONCURRENCY = 64
URLS = Path(sys.argv[1]).read_text().split()
SETTINGS: dict[str, Any] = {
    "CONCURRENT_REQUESTS": CONCURRENCY,
    "CONCURRENT_REQUESTS_PER_DOMAIN": CONCURRENCY,
    "DOWNLOAD_DELAY": 0,
    "ROBOTSTXT_OBEY": False,
    "LOG_ENABLED": False,
    "TELNETCONSOLE_ENABLED": False,
}


class Pages(scrapy.Spider):
    """One item a page: its Markdown with links, after its metadata."""

    name = "pages"
    begun = ended = 0.0
    pages = 0

    async def start(self) -> AsyncIterator[scrapy.Request]:
        """All URLs of the file."""
        Pages.begun = time.perf_counter()
        for url in URLS:
            yield scrapy.Request(url, dont_filter=True)

    def parse(self, response: Response, **_: Any) -> Iterator[dict[str, Any]]:
        """One extraction a page."""
        assert isinstance(response, TextResponse)
        markdown = trafilatura.extract(
            response.text, url=response.url, output_format="markdown", include_links=True, with_metadata=True
        )
        Pages.pages += 1
        Pages.ended = time.perf_counter()
        yield {"url": response.url, "markdown": markdown}


if __name__ == "__main__":
    process = CrawlerProcess(SETTINGS)
    process.crawl(Pages)
    process.start()
    print(json.dumps({"pages": Pages.pages, "seconds": Pages.ended - Pages.begun}))
