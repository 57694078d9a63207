"""Every setting that exists, and the rules between sections."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Self

from pydantic import model_validator

from fastmesh.config.declare import Section
from fastmesh.config.sections.crawl import CacheSettings, FetchSettings, SearchSettings, WorkersSettings
from fastmesh.config.sections.server import (
    AuthSettings,
    CorsSettings,
    LogSettings,
    ServerSettings,
    TlsSettings,
    TraceSettings,
)
from fastmesh.config.sections.streams import BufferSettings, FirehoseSettings, StreamSettings
from fastmesh.errors import ConfigError


class Settings(Section):
    """Every setting that exists."""

    server: ServerSettings = ServerSettings()
    stream: StreamSettings = StreamSettings()
    buffer: BufferSettings = BufferSettings()
    fetch: FetchSettings = FetchSettings()
    workers: WorkersSettings = WorkersSettings()
    cache: CacheSettings = CacheSettings()
    auth: AuthSettings = AuthSettings()
    cors: CorsSettings = CorsSettings()
    tls: TlsSettings = TlsSettings()
    log: LogSettings = LogSettings()
    trace: TraceSettings = TraceSettings()
    firehose: FirehoseSettings = FirehoseSettings()
    search: SearchSettings = SearchSettings()

    @model_validator(mode="after")
    def _public_only_on_purpose(self) -> Self:
        if self.server.uds is None and (refusal := _public(self.server.host, self)):
            raise ValueError(f"SERVER__HOST={refusal}")
        return self


def refuse_public(host: str, settings: Settings) -> None:
    """Judge *host*, which an inherited socket is bound to, as SERVER__HOST is judged.  Raises ConfigError."""
    if refusal := _public(host, settings):
        raise ConfigError(f"the socket unit's {refusal}")


def _public(host: str, settings: Settings) -> str | None:
    """Why *host* may not be bound; None when it may."""
    if settings.auth.insecure or settings.auth.tokens_file is not None or _is_loopback(host):
        return None
    return (
        f"{host!r} is not a loopback address, and anybody who reaches it could crawl:"
        " allowed are 127.0.0.1, ::1, localhost, a Unix socket (SERVER__UDS), or any address"
        " with tokens (AUTH__TOKENS_FILE) or with AUTH__INSECURE=true"
    )


def _is_loopback(host: str) -> bool:
    """Whether *host*, an address or ``localhost``, can only be reached from this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
