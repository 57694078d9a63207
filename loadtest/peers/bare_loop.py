"""The bare loop: the least that any server in Python could do, and so the measure of one.

It builds and encodes the same frames, joins about 16 KiB of them to a chunk and
sends that by a blocking socket, one connection after the other.  No event loop,
no journal, no window, no pressure, no limits: what a server costs is its
distance from this.

    python -m loadtest.peers.bare_loop CONNECTIONS
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator

from loadtest.peers.frames import asked, lines

CHUNK_BYTES = 16_384
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"


def main() -> None:
    """Accept as many connections as the argument says, then serve all of them to their end."""
    count = int(sys.argv[1])
    with socket.create_server(("127.0.0.1", 0), backlog=count) as listener:
        print(f"bare loop on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        streams = [_accepted(listener) for _ in range(count)]
    while streams:
        streams = [stream for stream in streams if _send_chunk(*stream)]


def _accepted(listener: socket.socket) -> tuple[socket.socket, Iterator[bytes]]:
    connection, _ = listener.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    head = b""
    while b"\r\n\r\n" not in head:
        if not (data := connection.recv(65_536)):
            raise ConnectionError("the client left before it had asked")
        head += data
    _, _, query = head.split(b" ", 2)[1].partition(b"?")
    connection.sendall(HEAD)
    return connection, lines(*asked(query.decode("ascii")))


def _send_chunk(connection: socket.socket, frames: Iterator[bytes]) -> bool:
    """Build and send one chunk; return whether there may be more."""
    batch, size = [], 0
    for frame in frames:
        batch.append(frame)
        size += len(frame)
        if size >= CHUNK_BYTES:
            break
    # Without frames this is the last chunk, of size 0.
    try:
        connection.sendall(b"".join((b"%x\r\n" % size, *batch, b"\r\n")))
    except ConnectionError:
        return False  # the client has measured what it wanted
    return bool(batch)


if __name__ == "__main__":
    main()
