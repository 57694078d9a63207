"""Crawl4AI's HTTP strategy, without a browser, over the URLs of a file: prints {"pages", "seconds"}.

The time runs from the first request to the last result; starting Python and Crawl4AI is not in it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from crawl4ai import AsyncWebCrawler, CacheMode, CrawlerRunConfig, HTTPCrawlerConfig
from crawl4ai.async_crawler_strategy import AsyncHTTPCrawlerStrategy
from crawl4ai.async_dispatcher import MemoryAdaptiveDispatcher

CONCURRENCY = 64


async def main(urls: list[str]) -> None:
    """Crawl *urls*, Markdown and links of each."""
    strategy = AsyncHTTPCrawlerStrategy(HTTPCrawlerConfig(), max_connections=CONCURRENCY)
    config = CrawlerRunConfig(cache_mode=CacheMode.BYPASS, stream=True, verbose=False)
    dispatcher = MemoryAdaptiveDispatcher(max_session_permit=CONCURRENCY)
    pages = 0
    async with AsyncWebCrawler(crawler_strategy=strategy, verbose=False) as crawler:
        begun = time.perf_counter()
        async for result in await crawler.arun_many(urls, config=config, dispatcher=dispatcher):
            pages += bool(result.success and result.markdown)
        seconds = time.perf_counter() - begun
    print(json.dumps({"pages": pages, "seconds": seconds}))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]).read_text().split()))
