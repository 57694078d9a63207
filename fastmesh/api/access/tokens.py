"""The tokens of AUTH__TOKENS_FILE, which let callers in.

Each line has one: the token or, better, its hash, and a name if it shall have one.

    # comments and empty lines are passed over
    sha256:<64 hexadecimal digits>  reports
    <the token itself>              console

A token is 256 random bits, so one round of SHA-256 hides it as well as any slow hash would.  Two tokens with one name
are one client: so a token is replaced without losing its streams.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final

from fastmesh.errors import ConfigError
from fastmesh.telemetry.log import get_logger

log = get_logger()

MAX_FILE_BYTES: Final = 4_194_304
MIN_PLAIN: Final = 32  # characters; a shorter token may be one that somebody thought up
MAX_TOKEN: Final = 512
PREFIX: Final = "fm_"  # so that a token that went astray is known for what it is
HASHED: Final = "sha256:"

_TOKEN = re.compile(rf"[A-Za-z0-9._~+/-]{{1,{MAX_TOKEN}}}={{0,2}}", re.ASCII)  # RFC 6750's b64token
_HASH = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


def new_token() -> str:
    """A token of 256 random bits, which also fits a WebSocket's subprotocol."""
    return PREFIX + secrets.token_urlsafe(32)


def line_of(token: str, name: str | None) -> str:
    """The line of the file that lets *token* in.  Raises ValueError for a name that is none."""
    if name is not None and _NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is no name: want 1 to 64 characters of A-Z a-z 0-9 . _ -")
    return HASHED + _digest(token).hex() + (f"  {name}" if name else "")


class Tokens:
    """The tokens that are let in, and whose they are.  Raises ConfigError for a file that cannot be used."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._clients: dict[bytes, str] = {}
        self._names: frozenset[str] = frozenset()
        self.reload()

    def reload(self) -> None:
        """Read the file anew.  Raises ConfigError when that fails, and all stays as it was."""
        self._clients = self._read()
        self._names = frozenset(self._clients.values())

    def client_of(self, token: str) -> str | None:
        """Whose *token* is, or None; its hash is compared: the time for that tells nothing about a token not known."""
        return self._clients.get(_digest(token)) if _TOKEN.fullmatch(token) else None

    def knows(self, client: str) -> bool:
        """Whether a token of *client* is still let in."""
        return client in self._names

    def __len__(self) -> int:
        return len(self._clients)

    def _read(self) -> dict[bytes, str]:
        try:
            with open(self._path, "rb") as file:
                shared = bool(os.fstat(file.fileno()).st_mode & stat.S_IROTH)
                data = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise self._wrong(f"cannot be read: {error.strerror}") from None
        if len(data) > MAX_FILE_BYTES:
            raise self._wrong(f"is over {MAX_FILE_BYTES} bytes")
        try:
            lines = data.decode("utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise self._wrong("is not UTF-8") from None
        clients: dict[bytes, str] = {}
        plain = False
        for at, digest, name, is_plain in self._entries(lines):
            if digest in clients:
                raise self._wrong("has this token before already", at)
            clients[digest] = f"name:{name}" if name else f"hash:{digest.hex()[:16]}"
            plain = plain or is_plain
        if not clients:
            raise self._wrong("has no token, and nobody could ask: `fastmesh token new` makes one")
        if plain and shared:
            log.warning("tokens.readable_by_all", path=str(Path(self._path)))
        return clients

    def _entries(self, lines: list[str]) -> Iterator[tuple[int, bytes, str, bool]]:
        """(line, hash, name, whether the token itself stood there) of each; no message repeats what may be a secret."""
        for at, line in enumerate(lines, 1):
            entry, *names = line.partition("#")[0].split() or [""]
            if not entry:
                continue
            if len(names) > 1 or not all(map(_NAME.fullmatch, names)):
                raise self._wrong("want a token or its hash, and at most one name of A-Z a-z 0-9 . _ -", at)
            name = names[0] if names else ""
            if entry.lower().startswith(HASHED):
                text = entry[len(HASHED) :]
                if _HASH.fullmatch(text) is None:
                    raise self._wrong("want sha256: and 64 hexadecimal digits", at)
                yield at, bytes.fromhex(text), name, False
                continue
            if len(entry) < MIN_PLAIN:
                raise self._wrong(
                    f"a token of under {MIN_PLAIN} characters can be guessed: `fastmesh token new` makes one", at
                )
            if _TOKEN.fullmatch(entry) is None:
                raise self._wrong(f"want a token of at most {MAX_TOKEN} characters of A-Z a-z 0-9 . _ ~ + / - =", at)
            yield at, _digest(entry), name, True

    def _wrong(self, what: str, line: int | None = None) -> ConfigError:
        return ConfigError(f"AUTH__TOKENS_FILE={self._path!r}{f', line {line}' if line else ''}: {what}")


def _digest(token: str) -> bytes:
    return sha256(token.encode()).digest()
