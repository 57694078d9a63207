"""An nginx of the machine's own, on loopback, with one worker."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loadtest.servers import Server, children, pinned

CONFIG = """{modules} daemon off; worker_processes 1; pid {temp}/pid; error_log {temp}/error.log;
events {{ worker_connections 8192; }}
http {{ access_log off; types {{ text/html html; }} client_body_temp_path {temp}/a; proxy_temp_path {temp}/b;
fastcgi_temp_path {temp}/c; uwsgi_temp_path {temp}/d; scgi_temp_path {temp}/e; keepalive_requests 1000000000;
server {{ listen 127.0.0.1:{port} backlog=2048; {content} }} }}
"""


@contextmanager
def nginx(content: str, cores: set[int] | None = None, modules: str = "") -> Iterator[Server]:
    """Serve *content*, the inside of a server block, on *cores*; the pid is its worker's."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as temp:
        path = Path(temp, "nginx.conf")
        path.write_text(CONFIG.format(temp=temp, port=port, content=content, modules=modules))
        program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
        if program is None:
            raise RuntimeError("nginx is not installed")
        command = pinned([program, "-e", f"{temp}/error.log", "-c", str(path)], cores)
        with subprocess.Popen(command) as process:
            try:
                _wait(process, port, Path(temp, "error.log"))
                yield Server(children(process.pid)[0], "127.0.0.1", port)
            finally:
                process.terminate()


def _wait(process: subprocess.Popen[bytes], port: int, errors: Path) -> None:
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except ConnectionRefusedError:
            time.sleep(0.01)
        else:
            if children(process.pid):  # the master listens a moment before it has its worker
                return
    raise RuntimeError(f"nginx did not start: {errors.read_text()}")
