"""The document of an answer: made once for all that ask for it, and kept as long as the cache has room."""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial
from typing import Final

import orjson

from fastmesh.crawl.cache.memory import Answer, ResponseCache
from fastmesh.crawl.extract.gate import Extracted
from fastmesh.crawl.extract.pool import ExtractPool
from fastmesh.crawl.fairness.line import Owner
from fastmesh.crawl.options import CrawlOptions
from fastmesh.crawl.single_flight import SingleFlight

FRAME_BYTES: Final = 1024  # a result's frame without its document, its id, its URLs and its content type
# Room for these, however long they are: so one document serves all URLs and ids that it is asked for by.
NAMES_BYTES, NAMES_SHARE = 2048, 8


class Documents:
    """Documents that *pool* makes, and that *cache* keeps with the answers that they were made of."""

    def __init__(self, pool: ExtractPool, cache: ResponseCache) -> None:
        self._pool = pool
        self._cache = cache
        self._under_way: SingleFlight[Extracted] = SingleFlight()

    async def of(
        self,
        answer: Answer | None,
        body: bytes,
        *,
        owner: Owner,
        client: Hashable,
        url: str,
        content_type: str | None,
        options: CrawlOptions,
        max_bytes: int,
    ) -> Extracted:
        """The document of *body*, which *url* answered with.  Raises what the pool raises.

        *answer* is what the cache has the body in, when it may be for others too.
        """
        work = partial(
            self._pool.extract,
            body,
            owner=owner,
            client=client,
            url=url,
            content_type=content_type,
            include=options.include,
            extractor=options.extractor,
            max_bytes=max_bytes,
        )
        if answer is None:
            return await work()
        part = options.include, options.extractor, max_bytes
        document = answer.documents.get(part)
        if isinstance(document, Extracted):
            self._cache.used(answer, part)
            return document
        extracted = await self._under_way.join((answer, part), work)
        self._cache.add_document(answer, part, extracted, extracted.document)
        return extracted

    async def close(self) -> None:
        """End what is still extracted for several."""
        await self._under_way.close()


def document_room(max_frame_bytes: int, *names: str | None) -> int:
    """The bytes that a document may have in a frame of *max_frame_bytes* with *names*, its id, URLs and content type.

    They are as many for all names but the longest.
    """
    named = len(orjson.dumps(names))
    return max_frame_bytes - FRAME_BYTES - max(named, min(NAMES_BYTES, max_frame_bytes // NAMES_SHARE))
