"""The clients of a soak: they read, stall, break off, resume, vanish, cancel and leave to others; and keep account.

Each opens one stream after the other over URLs of soak_origin, by its protocol and in one of MANNERS, and at the end
of each says whether every URL is accounted for: by one result of a type that its kind may have, by the summary's
``unfinished``, or by a gap.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import orjson

from fastmesh.client.framing import NdjsonParser, SseParser
from loadtest.soak_origin import HOSTS, KINDS, SLOWED_HOST
from loadtest.streams import CRAWL, TOLD_TO_A_CONNECTION, Frame, Protocol, Seen, StreamFailed

PROTOCOLS: Final[tuple[Protocol, ...]] = ("ndjson", "sse", "ws")
# How a stream is read, and how often.
MANNERS: Final = {
    "plain": 40,  # to its end
    "cut": 25,  # broken off and resumed, again and again
    "stall": 10,  # nothing is read for a while
    "drop": 5,  # stalled, with results left out
    "vanish": 8,  # broken off for ever
    "cancel": 6,  # ended by DELETE
    "detach": 6,  # opened by POST /streams, broken off and read later
}
SLOWED_SHARE: Final = 0.0005
# A host that says 429 to all that it is asked is asked ever more seldom: who wants a page of it waits for that long.
SLOWED_DEADLINE_S: Final = 30
NO_URLS: Final = ("http://10.0.0.1/", "ftp://x.example/", "http://no-such.invalid/", "http://[::1]/", "not a URL", "")
TIMEOUT_MS: Final = 5_000
SILENCE_S: Final = 100.0


@dataclass
class Account(Seen):
    """What a reader has had of a stream over *urls*, over any number of connections."""

    urls: Sequence[str] = ()
    stream_id: str = ""
    outcomes: Counter[str] = field(default_factory=Counter)
    unlike: list[str] = field(default_factory=list)  # outcomes that their kind should not have

    def take(self, frame: Frame) -> None:
        """See *frame*.  Raises Hole and StreamFailed."""
        self.stream_id = self.stream_id or frame["stream_id"]
        if frame["stream_id"] != self.stream_id:
            raise StreamFailed(f"a frame of {frame['stream_id']} among those of {self.stream_id}")
        super().take(frame)
        if frame["type"] == "result":
            error = frame["result"]["error"]
            outcome = "ok" if error is None else error["type"]
            self.outcomes[outcome] += 1
            url = self.urls[frame["index"]]
            if frame["result"]["url"] != url:
                raise StreamFailed(f"the result of index {frame['index']} is of {frame['result']['url']}, not of {url}")
            kind = KINDS.get(urlsplit(url).path[1:]) if url.startswith("http://127") else None
            if outcome == "ok" if kind is None else outcome not in kind.outcomes:
                self.unlike.append(f"{url}: {outcome}: {error and error['message']}")

    def settle(self, *statuses: str) -> Frame:
        """The stream is over: its summary, which adds up and has one of *statuses*.  Raises StreamFailed."""
        summary = self.summary
        if summary is None:
            raise StreamFailed(f"{self.stream_id} ended after frame {self.position} without a summary")
        total = summary["successful"] + summary["failed"] + summary["cancelled"]
        unfinished = sum(last - first + 1 for first, last in summary["unfinished"])
        missing = len(self.urls) - len(self.results) - unfinished
        adds_up = total == summary["total_urls"] == len(self.urls) and unfinished == summary["cancelled"]
        if not adds_up or not 0 <= missing <= sum(self.gaps) or summary["status"] not in statuses:
            raise StreamFailed(f"{len(self.results)} results, {sum(self.gaps)} left out, and this summary: {summary}")
        return summary


class Clients:
    """So many clients of the daemon at *base*, until a time; *counts* is what they did, *complaints* what was wrong."""

    def __init__(self, base: str, origin_port: int, seed: int, *, window_s: float) -> None:
        self.counts: Counter[str] = Counter()
        self.complaints: list[str] = []
        self._base = base
        self._port = origin_port
        self._chance = random.Random(seed)
        self._window_s = window_s
        self._kinds, self._weights = zip(*((name, kind.weight) for name, kind in KINDS.items()), strict=True)

    async def run(self, clients: int, until: float) -> None:
        """Stream by *clients* clients until the monotonic time *until*; each ends the stream that it has."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(clients):
                tasks.create_task(self._client(PROTOCOLS[number % len(PROTOCOLS)], until))

    def urls(self, count: int) -> list[str]:
        """URLs of all kinds, by their weights."""
        chance = self._chance
        urls = []
        for kind in chance.choices(self._kinds, self._weights, k=count):
            host = chance.choice(HOSTS)
            if chance.random() < SLOWED_SHARE:
                kind, host = "slowed", SLOWED_HOST
            urls.append(f"http://{host}:{self._port}/{kind}?n={chance.randrange(10_000)}")
        if chance.random() < 0.3:
            urls[chance.randrange(count)] = chance.choice(NO_URLS)
        return urls

    async def _client(self, protocol: Protocol, until: float) -> None:
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        timeout = aiohttp.ClientTimeout(total=None, sock_read=SILENCE_S)
        async with aiohttp.ClientSession(self._base, connector=connector, timeout=timeout) as session:
            await asyncio.sleep(self._chance.random() * 2)
            while time.monotonic() < until:
                await self._stream(session, protocol)
                await asyncio.sleep(self._chance.random() * 3)

    async def _stream(self, session: aiohttp.ClientSession, protocol: Protocol) -> None:
        chance = self._chance
        manner = chance.choices(list(MANNERS), list(MANNERS.values()))[0]
        account = Account(urls=self.urls(chance.randint(1, 12)))
        body = {
            "urls": account.urls,
            "options": {
                "concurrency": chance.choice((1, 4, 16)),
                "timeout_ms": TIMEOUT_MS,
                "retries": chance.choice((0, 0, 1)),
                "order": chance.choice(("completion", "input")),
                "dedupe": False,
            },
            "stream": {
                "progress": chance.random() < 0.3,
                "on_slow": "drop" if manner == "drop" else "block",
                "deadline_s": SLOWED_DEADLINE_S if any(SLOWED_HOST in url for url in account.urls) else None,
            },
        }
        self.counts["streams"] += 1
        self.counts[manner] += 1
        try:
            await self._read(session, protocol, manner, account, body)
        except (StreamFailed, aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            self.complaints.append(f"{protocol}, {manner}, {account.stream_id}: {error!r}")
        self.complaints += account.unlike
        self.counts["results"] += len(account.results)
        self.counts.update({f"result: {outcome}": count for outcome, count in account.outcomes.items()})

    async def _read(
        self,
        session: aiohttp.ClientSession,
        protocol: Protocol,
        manner: str,
        account: Account,
        body: Mapping[str, Any],
    ) -> None:
        chance = self._chance
        if manner == "detach":
            opening = {**body, "stream": {**body["stream"], "detach": True}}
            async with session.post("/streams", json=opening) as opened:
                account.stream_id = (await opened.json())["stream_id"]
            await asyncio.sleep(chance.random() * 2)
        while account.summary is None:
            frames = _frames(session, protocol, account, body)
            breaks = manner in ("cut", "vanish", "cancel", "detach") and chance.random() < 0.7
            after = chance.randint(0, len(account.urls) + 1)
            async with aclosing(frames):
                async for frame in frames:
                    account.take(frame)
                    if breaks and account.frames >= after:
                        break
                    if manner in ("stall", "drop") and chance.random() < 0.3:
                        await asyncio.sleep(chance.random())
            if account.summary is None and not breaks:
                raise StreamFailed(f"{account.stream_id} ended after frame {account.position} without a summary")
            if account.summary is None and manner == "vanish":
                await self._gone(session, account)
                return
            if account.summary is None and manner == "cancel":
                async with session.delete(f"/streams/{account.stream_id}") as ended:
                    if ended.status not in (200, 409):
                        raise StreamFailed(f"DELETE {account.stream_id}: {ended.status}")
            if account.summary is None:
                self.counts["resumed"] += 1
                await asyncio.sleep(chance.random() * self._window_s / 8)
        others = {"cancelled"} if manner == "cancel" else set()
        if body["stream"]["deadline_s"] is not None:
            others.add("deadline")
        account.settle("completed", *others)

    async def _gone(self, session: aiohttp.ClientSession, account: Account) -> None:
        """Soon after two windows nothing is kept: in the first its place is, in the second the summary."""
        await asyncio.sleep(2 * self._window_s + 5.0)
        async with session.get(f"/streams/{account.stream_id}") as shown:
            if shown.status != 404:
                raise StreamFailed(f"{account.stream_id} is kept past its windows: {await shown.text()}")


async def _frames(
    session: aiohttp.ClientSession, protocol: Protocol, account: Account, body: Mapping[str, Any]
) -> AsyncGenerator[Frame]:
    """A stream's frames, from its opening or behind what *account* has; its connection ends with it."""
    if protocol == "ws":
        async with session.ws_connect("/crawl/ws", max_msg_size=0) as socket:
            if account.stream_id:
                await socket.send_json(
                    {"type": "subscribe", "id": "s", "stream_id": account.stream_id, "after": account.position}
                )
            else:
                await socket.send_json({"type": "crawl", "id": "c", **body})
            async for message in socket:
                frame = orjson.loads(message.data)
                if frame["type"] == "ack":
                    account.stream_id = frame.get("stream_id", account.stream_id)
                if frame["type"] == "error" and "seq" not in frame:
                    raise StreamFailed(f"a command was refused: {frame}")
                if frame["type"] not in TOLD_TO_A_CONNECTION:
                    yield frame
                    if frame["type"] == "summary":
                        return
        return
    accept = {"Accept": "text/event-stream"} if protocol == "sse" else {}
    if account.stream_id:
        asking = session.get(f"/streams/{account.stream_id}/events?after={account.position}", headers=accept)
    else:
        asking = session.post(CRAWL[protocol], json=body, headers=accept)
    lines, events = NdjsonParser(), SseParser()
    async with asking as response:
        if response.status != 200:
            raise StreamFailed(f"status {response.status}: {await response.text()}")
        account.stream_id = response.headers["X-Stream-ID"]
        async for data in response.content.iter_any():
            texts = lines.feed(data) if protocol == "ndjson" else [event.data for event in events.feed(data)]
            for text in texts:
                yield orjson.loads(text)
