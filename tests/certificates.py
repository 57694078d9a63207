"""Certificates that sign themselves, made by openssl."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from conftest import need

SIGNS_ITSELF = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2", "-subj", "/CN=test"]


@dataclass(frozen=True)
class Pair:
    """The files of a certificate and its key, both PEM."""

    cert: Path
    key: Path

    @property
    def settings(self) -> dict[str, object]:
        """The daemon's."""
        return {"TLS__CERT": self.cert, "TLS__KEY": self.key}


def made(folder: Path, name: str, *, subject: str = "IP:127.0.0.1", password: str | None = None) -> Pair:
    """A new pair for *subject*."""
    pair = Pair(folder / f"{name}.crt", folder / f"{name}.key")
    protection = ["-noenc"] if password is None else ["-passout", f"pass:{password}"]
    names = ["-addext", f"subjectAltName={subject}"]
    files = ["-out", str(pair.cert), "-keyout", str(pair.key)]
    command = [need("openssl"), "req", *SIGNS_ITSELF, *protection, *names, *files]
    subprocess.run(command, check=True, capture_output=True)
    return pair
