"""Who is served, and where: the listener, tokens, origins and TLS; and what the daemon says of itself."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from fastmesh.config.declare import HostNames, HttpUrl, Origins, Section, Text, live, setting


class ServerSettings(Section):
    """Where the daemon listens, and for how long and how much it listens to a client."""

    host: Text = setting("127.0.0.1", "", "address to bind", allowed="an address of this machine, or localhost")
    port: int = setting(8080, "port", "to bind; 0 picks a free one", ge=0, le=65535)
    uds: Text | None = setting(None, "path", "Unix socket to bind instead of host and port", allowed="a path")
    allowed_hosts: HostNames | None = live(
        None,
        "hosts",
        "Host values that are served; unset: loopback names and the bound address, with tokens all; * serves all",
        allowed="names and addresses without scheme and port, such as crawl.example,192.0.2.1,[2001:db8::1], or *",
    )
    max_connections: int = live(10_000, "connections", "at once; over it 503", ge=1)
    max_connections_per_peer: int = live(
        0,
        "connections",
        "of one address (IPv6: of 64 bits of it); over it 429; loopback and Unix sockets have no limit; 0 is off",
        ge=0,
    )
    max_age_s: float = live(
        0,
        "s",
        "an older connection is closed as soon as nothing is under way on it, never during a stream; 0 is off",
        ge=0,
    )
    header_timeout_s: float = live(10, "s", "for a whole request head", gt=0)
    body_timeout_s: float = live(30, "s", "for a whole request body", gt=0)
    keepalive_timeout_s: float = live(75, "s", "an idle connection is closed", gt=0)
    write_stall_timeout_s: float = live(60, "s", "a client that accepts no byte is disconnected", gt=0)
    max_header_bytes: int = live(65_536, "bytes", "over it 431", ge=256)
    max_body_bytes: int = live(1_048_576, "bytes", "over it 413, counted as received", ge=0)
    drain_timeout_s: float = live(30, "s", "deadline of a graceful shutdown", gt=0)


class AuthSettings(Section):
    """Who may ask, and who may bind a public address."""

    tokens_file: Text | None = setting(
        None,
        "path",
        "one token or its hash a line (fastmesh token new); with it every request needs one",
        allowed="a path",
    )
    insecure: bool = setting(False, "", "allow to bind an address that is not loopback although anybody may then crawl")


class CorsSettings(Section):
    """Which pages of other origins may ask."""

    allow_origins: Origins = live(
        (),
        "origins",
        "pages of these may use the daemon; of any other, none",
        allowed="origins such as https://example.com:8443, each by its full name, in lower case",
    )


class TlsSettings(Section):
    """The certificate that the daemon shows; with it, it speaks TLS only."""

    cert: Text | None = setting(
        None, "path", "PEM: the certificate, and those between it and its root", allowed="a path"
    )
    key: Text | None = setting(None, "path", "PEM: its private key, without a password", allowed="a path")

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.cert is None) != (self.key is None):
            missing = "TLS__KEY" if self.key is None else "TLS__CERT"
            raise ValueError(f"want TLS__CERT and TLS__KEY, or neither: {missing} is not set")
        return self


class LogSettings(Section):
    """What is logged, on stderr."""

    level: Literal["debug", "info", "warning", "error"] = live("info", "", "the least that is logged")
    format: Literal["json", "console"] | None = live(None, "", "unset: console on a terminal, else json")


class TraceSettings(Section):
    """Where spans are sent, with the extra ``otel``."""

    otlp_url: HttpUrl = setting(
        None,
        "URL",
        "OpenTelemetry's OTLP over HTTP; unset: no spans",
        allowed="an http or https URL without query and fragment, such as http://127.0.0.1:4318/v1/traces",
    )
