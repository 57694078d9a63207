"""A DNS server on loopback that answers what a test wants, each time anew.

    with Nameserver({"rebind.test": [["93.184.216.34"], ["127.0.0.1"]]}) as names:
        dns = names.client()        # inside the loop

A name has a list of answers, given one after the other; the last one stays.
An answer is the addresses of one A query, or SILENCE, or BROKEN.  ``*.`` before a name is every label before it.
AAAA is always empty, and what the server does not know does not exist.  Answers may be kept for *ttl_s*.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Self

import aiodns

from fastmesh.crawl.net.dns import make_dns

SILENCE: tuple[str, ...] = ("",)
BROKEN: tuple[str, ...] = ("broken",)
A = 1
NXDOMAIN = 3


class Nameserver:
    """``asked`` counts the A queries for each name."""

    def __init__(self, names: Mapping[str, Sequence[Sequence[str]]], ttl_s: int = 0) -> None:
        self.asked: Counter[str] = Counter()
        self._ttl_s = ttl_s
        self._names = names
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._thread = threading.Thread(target=self._serve, name="nameserver", daemon=True)

    def __enter__(self) -> Self:
        self._socket.bind(("127.0.0.1", 0))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.sendto(b"", self._socket.getsockname())  # wakes the thread: an empty datagram ends it
        self._thread.join()
        self._socket.close()

    @property
    def address(self) -> str:
        """Where it listens, as FETCH__NAMESERVERS has it."""
        return f"127.0.0.1:{self._socket.getsockname()[1]}"

    def client(self, tries: int = 2) -> aiodns.DNSResolver:
        """A client that asks this server only."""
        return make_dns([self.address], timeout_s=0.2, tries=tries)

    def _serve(self) -> None:
        while query := self._socket.recvfrom(512):
            data, peer = query
            if not data:
                return
            reply = self._reply(data)
            if reply is not None:
                self._socket.sendto(reply, peer)

    def _reply(self, query: bytes) -> bytes | None:
        labels, at = [], 12
        while length := query[at]:
            labels.append(query[at + 1 : at + 1 + length].decode())
            at += 1 + length
        name, kind = ".".join(labels).lower(), struct.unpack_from("!H", query, at + 1)[0]
        question = query[12 : at + 5]
        answers = self._names.get(name) or self._names.get("*." + name.partition(".")[2])
        if answers is None:
            self.asked[name] += kind == A
            return self._message(query, NXDOMAIN, question, [])
        if kind != A:
            return self._message(query, 0, question, [])
        addresses = answers[min(self.asked[name], len(answers) - 1)]
        self.asked[name] += 1
        if addresses is SILENCE:
            return None
        if addresses is BROKEN:  # it ends inside its only record
            return self._message(query, 0, question, ["192.0.2.1"])[:-3]
        return self._message(query, 0, question, list(addresses))

    def _message(self, query: bytes, code: int, question: bytes, addresses: list[str]) -> bytes:
        head = query[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(addresses), 0, 0)
        # 0xC00C points to the question's name.
        records = [
            struct.pack("!HHHIH", 0xC00C, A, 1, self._ttl_s, 4) + socket.inet_aton(address) for address in addresses
        ]
        return head + question + b"".join(records)
