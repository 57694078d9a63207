"""A real nginx with a configuration of its own, serving a folder on a free loopback port."""

from __future__ import annotations

import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONFIGURATION = """
daemon off; master_process off; pid {temp}/nginx.pid; error_log {temp}/error.log; worker_rlimit_nofile 4096;
events {{ worker_connections 1024; }}
http {{
    access_log off; sendfile on; gzip on; gzip_types *; gzip_min_length 1;
    types {{ text/html html; text/plain txt; image/png png; text/css css; }}
    client_body_temp_path {temp}/a; proxy_temp_path {temp}/b; fastcgi_temp_path {temp}/c;
    uwsgi_temp_path {temp}/d; scgi_temp_path {temp}/e;
    server {{ listen 127.0.0.1:{port} backlog=1024; root {root}; }}
}}
"""


def free_port() -> int:
    """For a server that cannot say which port it got."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait for the server that *process* is; one that ends instead fails the test by what its *log* says."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except ConnectionRefusedError:
            assert process.poll() is None, log.read_text()


@contextmanager
def nginx(command: str, root: Path) -> Iterator[str]:
    """Serve *root* by the program *command*; yields the base URL."""
    port = free_port()
    with tempfile.TemporaryDirectory() as temp:
        path = Path(temp, "nginx.conf")
        path.write_text(CONFIGURATION.format(temp=temp, port=port, root=root))
        process = subprocess.Popen([command, "-e", f"{temp}/error.log", "-c", str(path)])
        try:
            until_it_listens(process, port, Path(temp, "error.log"))
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()
