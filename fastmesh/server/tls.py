"""TLS on the daemon's own socket: the certificate that new connections are shown."""

from __future__ import annotations

import ssl
from typing import NoReturn

from fastmesh.config import TlsSettings
from fastmesh.errors import ConfigError


class Certificate:
    """Certificate and key as a context for connections.  Raises ConfigError for files that cannot be used."""

    def __init__(self, cert: str, key: str) -> None:
        self._cert, self._key = cert, key
        self.context = self._load()

    @classmethod
    def of(cls, settings: TlsSettings) -> Certificate | None:
        """What *settings* ask for; None without TLS."""
        if settings.cert is None or settings.key is None:
            return None
        return cls(settings.cert, settings.key)

    def reload(self) -> None:
        """Read both files anew, for connections to come.  Raises ConfigError when that fails, and the old ones stay."""
        self.context = self._load()

    def _load(self) -> ssl.SSLContext:
        for name, path in (("TLS__CERT", self._cert), ("TLS__KEY", self._key)):
            try:
                with open(path, "rb"):
                    pass
            except OSError as error:
                raise ConfigError(f"{name}={path!r} cannot be read: {error.strerror}") from None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        # No renegotiation: it costs a client little and the daemon much.
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        try:
            context.load_cert_chain(self._cert, self._key, password=self._no_password)
        except ssl.SSLError as error:
            both = f"TLS__CERT={self._cert!r} with TLS__KEY={self._key!r}"
            if error.reason == "KEY_VALUES_MISMATCH":
                raise ConfigError(f"{both}: the key is not the certificate's") from None
            why = error.reason or "no certificate or no key in them"
            raise ConfigError(f"{both}: want one certificate and its key as PEM ({why})") from None
        return context

    def _no_password(self) -> NoReturn:
        raise ConfigError(f"TLS__KEY={self._key!r} wants a password: a daemon has nobody to ask")
