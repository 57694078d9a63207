"""The document of an answer: made once for all that ask for it, and kept as long as the cache has room."""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial

from fastmesh.crawl.cache.store import Answer, AnswerStore
from fastmesh.crawl.extract.pool import ExtractPool
from fastmesh.crawl.extract.spec import Extracted, ExtractSpec
from fastmesh.crawl.fairness.line import Owner
from fastmesh.crawl.single_flight import SingleFlight


class Documents:
    """Documents that *pool* makes, and that *cache* keeps with the answers that they were made of."""

    def __init__(self, pool: ExtractPool, cache: AnswerStore) -> None:
        self._pool = pool
        self._cache = cache
        self._under_way: SingleFlight[Extracted] = SingleFlight()

    async def of(
        self,
        answer: Answer | None,
        body: bytes,
        spec: ExtractSpec,
        *,
        url: str,
        content_type: str | None,
        owner: Owner,
        client: Hashable,
    ) -> Extracted:
        """The document of *body*, which *url* answered with.  Raises what the pool raises.  *answer*, when the cache
        may keep one, has the body: its document is made once for all that ask for it."""
        work = partial(self._pool.extract, body, spec, url=url, content_type=content_type, owner=owner, client=client)
        if answer is None:
            return await work()
        document = answer.documents.get(spec)
        if document is not None:
            self._cache.used(answer, spec)
            return document
        extracted = await self._under_way.join((answer, spec), work)
        self._cache.add_document(answer, spec, extracted)
        return extracted

    async def close(self) -> None:
        """End what is still extracted for several."""
        await self._under_way.close()
