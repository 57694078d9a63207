"""Where a daemon is, and what it is shown: what a client is made with, checked."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from typing import Final, Self

from yarl import URL

_TOKEN: Final = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a daemon listens: *base*, and the Unix socket at *path* when it is one."""

    base: str
    path: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """From ``http://host:port[/prefix]``, ``https://…`` or ``unix:/path``.  Raises ValueError."""
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            if not path.startswith("/"):
                raise ValueError(f"{text!r} is no address: want the absolute path of a socket, as in unix:/run/x.sock")
            return cls("http://localhost", path)
        try:
            url = URL(text)
            fits = url.scheme in ("http", "https") and url.host and url.port and not (url.query_string or url.fragment)
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(f"{text!r} is no address: want http://host:port, https://host or unix:/path")
        if url.user is not None or url.password is not None:
            raise ValueError("an address holds no user and no password: the daemon takes a token")
        return cls(str(url).rstrip("/"))


def trusting(path: str | None) -> ssl.SSLContext | None:
    """TLS that trusts those whom the PEM file *path* holds, and nobody else.  Raises ValueError."""
    if path is None:
        return None
    try:
        return ssl.create_default_context(cafile=path)
    except ssl.SSLError as error:
        raise ValueError(f"{path} holds no certificates as PEM ({error.reason or 'broken'})") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def checked_token(token: str | None) -> str | None:
    """*token*.  Raises ValueError when it cannot be sent in a header."""
    if token is not None and _TOKEN.fullmatch(token) is None:
        raise ValueError("a token is of visible ASCII characters")
    return token
