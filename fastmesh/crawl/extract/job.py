"""A page on its way to a document: what its worker is sent, and the future that has what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable

from fastmesh.crawl.extract.extracted import Extracted
from fastmesh.crawl.extract.protocol import JobHead
from fastmesh.crawl.fairness.line import Owner
from fastmesh.errors import ExtractFailed, UrlError


class Job:
    """The page *body*, of *client*'s stream *owner*, waiting since *queued_s* by the loop's clock."""

    __slots__ = ("body", "client", "extracted", "head", "max_bytes", "owner", "queued_s")

    def __init__(self, client: Hashable, owner: Owner, head: JobHead, body: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.client = client
        self.owner = owner
        self.head = head.written()
        self.body = body
        self.max_bytes = head.spec.max_bytes
        self.queued_s = loop.time()
        # An error is a result here: an exception that nobody fetches any more, asyncio would complain of.
        self.extracted: asyncio.Future[Extracted | UrlError] = loop.create_future()

    def fail(self, reason: str) -> None:
        """The page fails, unless something became of it already."""
        self.end(ExtractFailed(reason))

    def end(self, extracted: Extracted | UrlError) -> None:
        """This became of the page."""
        if not self.extracted.done():  # else nobody waits for it
            self.extracted.set_result(extracted)
