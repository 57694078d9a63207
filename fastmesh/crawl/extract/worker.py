"""``python -m fastmesh.crawl.extract.worker FD``: extracts pages until FD, one end of a socket pair, is closed.

What it reads and writes there is said in protocol.py.  The system ends it when a page takes longer, or has a core for
longer, than the page's job allows, also when the daemon is dead; a worker that holds too much memory after a page ends
itself.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from fastmesh.crawl.extract.gate import NO_PAGE
from fastmesh.crawl.extract.protocol import DONE, FAILED, JOB, LAST, JobHead, answer_head, failure, ready
from fastmesh.crawl.extract.spec import Extracted
from fastmesh.errors import UrlError

if TYPE_CHECKING:
    from fastmesh.crawl.extract.grades import Load

Extract = Callable[..., Extracted]

NICENESS: Final = 5  # the loop goes first; where it may, the pool has it stand back further (standing.py)
OOM_SCORE: Final = 500  # of 1000, added to the daemon's: when memory is short a page is lost, and not all streams
# The costliest 20 MB of HTML measured took 1.7 GB: 2,097,152 open links.
MAX_MEMORY_BYTES: Final = 4 << 30
# What a page leaves behind in a worker stays there for the daemon's life; a worker has 70 MB, with trafilatura 150.
MAX_RESIDENT_BYTES: Final = 512 << 20


def main(extractors: Mapping[str, Load] | None = None, max_resident_bytes: int = MAX_RESIDENT_BYTES) -> None:
    """Serve the socket whose number is the only argument; *extractors* in place of the product's own."""
    # Ctrl-C and systemd's stop reach the whole group, but the daemon still drains: it says when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(NICENESS)
    # What a library has to say of a page is in its result; standard error is the daemon's log.
    logging.disable()
    _limit_memory()
    # Here, after all that: the parsers take most of a worker's start.
    from fastmesh.crawl.extract.extract import extract
    from fastmesh.crawl.extract.grades import EXTRACTORS

    with socket.socket(fileno=int(sys.argv[1])) as link:
        link.sendall(ready())
        try:
            while _serve(link, partial(extract, extractors=extractors or EXTRACTORS), max_resident_bytes):
                pass
        except (BrokenPipeError, ConnectionResetError):
            pass  # nobody waits for the answer any more


def _serve(link: socket.socket, extract: Extract, max_resident_bytes: int) -> bool:
    """Answer one job; False when there are no more, or this worker should take no more."""
    prefix = read(link, JOB.size)
    if not prefix:
        return False
    head_bytes, body_bytes = JOB.unpack(prefix)
    head, body = read(link, head_bytes), read(link, body_bytes)
    if len(head) < head_bytes or len(body) < body_bytes:
        return False
    status, (answer, gate) = _answer(JobHead.read(head), body, extract)
    last = _resident_bytes() > max_resident_bytes
    link.sendall(answer_head(status | LAST if last else status, len(answer), gate))
    link.sendall(answer)
    return not last


def _answer(job: JobHead, body: bytes, extract: Extract) -> tuple[int, Extracted]:
    # Not caught, so it ends the process, and within the parser's C as well.
    signal.setitimer(signal.ITIMER_REAL, job.limit_s)
    signal.setitimer(signal.ITIMER_PROF, job.core_s)
    try:
        return DONE, extract(body, job.spec, url=job.url, content_type=job.content_type)
    except UrlError as error:
        return FAILED, Extracted(failure(error), NO_PAGE)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)


def read(link: socket.socket, size: int) -> bytes:
    """*size* bytes, or fewer when they end before."""
    data = bytearray(size)
    view, got = memoryview(data), 0
    while got < size and (received := link.recv_into(view[got:])):
        got += received
    return bytes(view[:got])


def _resident_bytes() -> int:
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def _limit_memory() -> None:
    # Writing out the memory of one that crashed would keep its successor waiting.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = MAX_MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(hard, MAX_MEMORY_BYTES)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    with open("/proc/self/oom_score_adj", "r+") as score:
        inherited = int(score.read())
        score.seek(0)
        score.write(str(min(1000, inherited + OOM_SCORE)))


if __name__ == "__main__":
    main()
