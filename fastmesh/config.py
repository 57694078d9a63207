"""The settings: one typed model, and where each value comes from.

Sources, the later wins: defaults, a TOML file, the environment
(``FASTMESH_<SECTION>__<NAME>``), flags.  Each value is data with a unit; an
unknown or impossible one raises ConfigError with its name, value and source and
what is allowed.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

from fastmesh.cores import usable_cores
from fastmesh.errors import ConfigError
from fastmesh.version import __version__

PREFIX = "FASTMESH_"
CONFIG_VARIABLE = "FASTMESH_CONFIG"
TOKEN_VARIABLE = "FASTMESH_TOKEN"  # of a client, and no setting

# Of any number: more than that means nothing, and it still fits every C type that one is handed to.
MOST: Final = 10**12

_ORIGIN = re.compile(r"https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_HTTP_URL = re.compile(r"https?://[^\s/?#]+(/[^\s?#]*)?")
_PORT_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_HOST_NAME = re.compile(r"\*|[A-Za-z0-9._-]*[A-Za-z0-9_-]|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*|\[[0-9A-Fa-f:.]+\]")

Network = IPv4Network | IPv6Network
PortRange = tuple[int, int]


# A validator only says no: what is allowed stands with the setting, in words.


def _listed(value: object) -> object:
    """A comma-separated string as a list; empty is the empty list."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _network(value: object) -> object:
    if isinstance(value, int):  # 10 would be 0.0.0.10
        raise ValueError(value)
    return ip_network(value, strict=False) if isinstance(value, str) else value


def _port_range(value: object) -> object:
    if not isinstance(value, str | int):
        return value
    found = _PORT_RANGE.fullmatch(str(value))
    if found is None:
        raise ValueError(value)
    pair = int(found[1]), int(found[2] or found[1])
    if not 1 <= pair[0] <= pair[1] <= 65535:
        raise ValueError(value)
    return pair


def _nameserver(value: object) -> object:
    text = value if isinstance(value, str) else ""
    host, _, port = text.removeprefix("[").rpartition("]:" if text.startswith("[") else ":")
    if text.count(":") > 1 and not text.startswith("["):
        host, port = text, "53"
    if not host:
        host, port = text, "53"
    ip_address(host)
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise ValueError(value)
    return value


def _matching(pattern: re.Pattern[str]) -> BeforeValidator:
    def check(value: object) -> object:
        if isinstance(value, str) and pattern.fullmatch(value) is None:
            raise ValueError(value)
        return value

    return BeforeValidator(check)


Networks = Annotated[tuple[Annotated[Network, BeforeValidator(_network)], ...], BeforeValidator(_listed)]
Ports = Annotated[tuple[Annotated[PortRange, BeforeValidator(_port_range)], ...], BeforeValidator(_listed)]
HostNames = Annotated[tuple[Annotated[str, _matching(_HOST_NAME)], ...], BeforeValidator(_listed)]
Nameservers = Annotated[tuple[Annotated[str, BeforeValidator(_nameserver)], ...], BeforeValidator(_listed)]
Origins = Annotated[tuple[Annotated[str, _matching(_ORIGIN)], ...], BeforeValidator(_listed)]
HttpUrl = Annotated[str | None, _matching(_HTTP_URL)]
# An empty one is refused: that a variable was empty by mistake must not mean "no tokens".
Text = Annotated[str, Field(pattern=r"^[^\x00]+$")]


def _setting(
    default: Any, unit: str = "", /, description: str = "", *, allowed: str = "", instead: str = "", **bounds: Any
) -> Any:
    """A setting; *allowed* says what its type and *bounds* do not, *instead* a default that differs by machine."""
    if isinstance(default, int | float) and not isinstance(default, bool):
        bounds.setdefault("le", MOST)
    extra: JsonDict = {"unit": unit, "allowed": allowed, "instead": instead}
    return Field(default, description=description, json_schema_extra=extra, **bounds)


class Section(BaseModel):
    """A group of settings, frozen once read."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        """``port = true`` of a file is no 1."""
        assert info.field_name is not None
        if isinstance(value, bool) and cls.model_fields[info.field_name].annotation in (int, float):
            raise ValueError(value)
        return value


class ServerSettings(Section):
    """Where the daemon listens, and for how long and how much it listens to a client."""

    host: Text = _setting("127.0.0.1", "", "address to bind", allowed="an address of this machine, or localhost")
    port: int = _setting(8080, "port", "to bind; 0 picks a free one", ge=0, le=65535)
    uds: Text | None = _setting(None, "path", "Unix socket to bind instead of host and port", allowed="a path")
    allowed_hosts: HostNames | None = _setting(
        None,
        "hosts",
        "Host values that are served; unset: loopback names and the bound address, with tokens all; * serves all",
        allowed="names and addresses without scheme and port, such as crawl.example,192.0.2.1,[2001:db8::1], or *",
    )
    max_connections: int = _setting(10_000, "connections", "at once; over it 503", ge=1)
    max_connections_per_peer: int = _setting(
        0,
        "connections",
        "of one address (IPv6: of 64 bits of it); over it 429; loopback and Unix sockets have no limit; 0 is off",
        ge=0,
    )
    max_age_s: float = _setting(
        0,
        "s",
        "an older connection is closed as soon as nothing is under way on it, never during a stream; 0 is off",
        ge=0,
    )
    header_timeout_s: float = _setting(10, "s", "for a whole request head", gt=0)
    body_timeout_s: float = _setting(30, "s", "for a whole request body", gt=0)
    keepalive_timeout_s: float = _setting(75, "s", "an idle connection is closed", gt=0)
    write_stall_timeout_s: float = _setting(60, "s", "a client that accepts no byte is disconnected", gt=0)
    max_header_bytes: int = _setting(65_536, "bytes", "over it 431", ge=256)
    max_body_bytes: int = _setting(1_048_576, "bytes", "over it 413, counted as received", ge=0)
    drain_timeout_s: float = _setting(30, "s", "deadline of a graceful shutdown", gt=0)


class StreamSettings(Section):
    """How many streams there may be, and how large and how long."""

    max_concurrent: int = _setting(1000, "streams", "that are not closed; over it 503", ge=1)
    max_per_client: int = _setting(
        100, "streams", "of one client; over it 429; without tokens, loopback and Unix sockets have no limit", ge=1
    )
    rate_limit_rps: float = _setting(
        0, "1/s", "new streams of one client, told apart as for MAX_PER_CLIENT; over it 429; 0 is off", ge=0
    )
    rate_limit_burst: int = _setting(20, "streams", "so many at once after a pause", ge=1)
    max_urls: int = _setting(1000, "URLs", "in one request", ge=1)
    heartbeat_s: float = _setting(15, "s", "after so long without a frame, a heartbeat (NDJSON, SSE)", gt=0)
    sse_retry_ms: int = _setting(5000, "ms", "how long a browser waits before it reconnects", ge=0)
    ws_ping_s: float = _setting(25, "s", "a WebSocket that sent nothing for so long is pinged", gt=0)
    ws_pong_timeout_s: float = _setting(20, "s", "and closed after so long without a byte", gt=0)
    ws_max_message_bytes: int = _setting(1_048_576, "bytes", "a larger message closes with 1009", ge=1024)
    ws_deflate: bool = _setting(False, "", "permessage-deflate for clients that offer it")
    deadline_s: float = _setting(3600, "s", "a whole stream, waiting included", gt=0)
    resume_window_s: float = _setting(120, "s", "how long an abandoned or a closed stream can be resumed", ge=0)
    journal_bytes: int = _setting(1_048_576, "bytes", "kept of a stream behind its reader, for resume", ge=0)
    detached_bytes: int = _setting(67_108_864, "bytes", "held of a detached stream that nobody reads yet", ge=4096)
    max_frame_bytes: int = _setting(4_194_304, "bytes", "a larger document is shortened", ge=4096)


class BufferSettings(Section):
    """How far a stream may run ahead of its reader."""

    initial_frames_ndjson: int = _setting(256, "frames", "window of an NDJSON reader", ge=1)
    initial_frames_sse: int = _setting(128, "frames", "of an SSE reader", ge=1)
    initial_frames_websocket: int = _setting(64, "frames", "of a WebSocket subscription", ge=1)
    min_frames: int = _setting(64, "frames", "a window shrinks to this for a slow reader", ge=1)
    max_frames: int = _setting(2048, "frames", "and grows to this for a fast one", ge=1)
    initial_bytes: int = _setting(65_536, "bytes", "the same window in bytes, at first and at least", ge=1)
    max_bytes: int = _setting(1_048_576, "bytes", "and at most", ge=1)
    slow_ms: float = _setting(100, "ms", "a frame that waits longer for the transport is a slow one", gt=0)
    drop_threshold: int = _setting(1000, "frames", "with on_slow drop a stuck reader lags by no more", ge=1)
    high_water_bytes: int = _setting(65_536, "bytes", "the transport pauses its writer above this", ge=1, le=1 << 30)
    low_water_bytes: int = _setting(16_384, "bytes", "and resumes it at this", ge=0, le=1 << 30)
    total_bytes: int = _setting(
        268_435_456, "bytes", "all journals together, as allocated, and the URLs of open streams", ge=1
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low_water_bytes > self.high_water_bytes:
            raise ValueError(
                "want BUFFER__LOW_WATER_BYTES <= BUFFER__HIGH_WATER_BYTES,"
                f" got {self.low_water_bytes} and {self.high_water_bytes}"
            )
        for name in ("min_frames", "initial_frames_ndjson", "initial_frames_sse", "initial_frames_websocket"):
            if (frames := getattr(self, name)) > self.max_frames:
                raise ValueError(
                    f"want BUFFER__{name.upper()} <= BUFFER__MAX_FRAMES, got {frames} and {self.max_frames}"
                )
        if self.initial_bytes > self.max_bytes:
            raise ValueError(
                f"want BUFFER__INITIAL_BYTES <= BUFFER__MAX_BYTES, got {self.initial_bytes} and {self.max_bytes}"
            )
        return self


class FetchSettings(Section):
    """How pages are fetched, and what may be fetched at all."""

    concurrency: int = _setting(256, "fetches", "over all streams; one alone has four fifths of many", ge=1)
    per_host_concurrency: int = _setting(8, "fetches", "to one host, over all streams", ge=1)
    per_host_rps: float = _setting(0, "1/s", "fetches begun at one host, over all streams; 0 is off", ge=0)
    timeout_ms: float = _setting(
        15_000, "ms", "a URL, with redirects and retries; waiting for its turn does not count", gt=0
    )
    connect_timeout_ms: float = _setting(3_000, "ms", "one connection", gt=0)
    max_body_bytes: int = _setting(20_971_520, "bytes", "a body, after decompression", ge=0)
    total_bytes: int = _setting(268_435_456, "bytes", "bodies in memory at once; over it reading waits", ge=1)
    max_redirects: int = _setting(10, "redirects", "more fail the URL", ge=0)
    retries: int = _setting(2, "retries", "of a URL, where its error says that this may help", ge=0, le=20)
    user_agent: str = _setting(
        f"fastmesh/{__version__} (+https://pypi.org/project/fastmesh/)",
        "",
        "sent with every fetch, and the name that robots.txt is read for; a request may name another",
        allowed="text of ASCII characters, at least one of them visible",
        instead="fastmesh/VERSION (+https://pypi.org/project/fastmesh/)",
        pattern=r"^[\x20-\x7e]*[\x21-\x7e][\x20-\x7e]*$",
    )
    respect_robots: bool = _setting(True, "", "pages that robots.txt disallows are not fetched; a request may differ")
    allow_networks: Networks = _setting(
        (),
        "networks",
        "may be fetched although private, loopback or special",
        allowed="networks such as 127.0.0.0/8,::1/128",
    )
    nameservers: Nameservers = _setting(
        (),
        "addresses",
        "asked for names instead of the system's own",
        allowed="addresses such as 192.0.2.1,192.0.2.1:5353,[2001:db8::1]:5353",
    )
    allow_ports: Ports = _setting(
        ((80, 80), (443, 443), (1024, 65535)),
        "ports",
        "may be fetched",
        allowed="ports from 1 to 65535 such as 80,443,1024-65535, of a range the lower one first",
    )


class WorkersSettings(Section):
    """The processes that parse pages, so that the loop never does."""

    extract: int = _setting(
        max(1, usable_cores() - 1),
        "processes",
        "that parse side by side",
        instead="cores that it may use − 1, at least 1",
        ge=1,
        le=256,
    )


class CacheSettings(Section):
    """Pages that were fetched before, in memory."""

    ttl_s: float = _setting(3600, "s", "a page is fresh that says nothing about it; 0: none is", ge=0)
    max_bytes: int = _setting(268_435_456, "bytes", "of bodies and documents; 0: nothing is kept", ge=0)


class AuthSettings(Section):
    """Who may ask, and who may bind a public address."""

    tokens_file: Text | None = _setting(
        None,
        "path",
        "one token or its hash a line (fastmesh token new); with it every request needs one",
        allowed="a path",
    )
    insecure: bool = _setting(
        False, "", "allow to bind an address that is not loopback although anybody may then crawl"
    )


class CorsSettings(Section):
    """Which pages of other origins may ask."""

    allow_origins: Origins = _setting(
        (),
        "origins",
        "pages of these may use the daemon; of any other, none",
        allowed="origins such as https://example.com:8443, each by its full name, in lower case",
    )


class TlsSettings(Section):
    """The certificate that the daemon shows; with it, it speaks TLS only."""

    cert: Text | None = _setting(
        None, "path", "PEM: the certificate, and those between it and its root", allowed="a path"
    )
    key: Text | None = _setting(None, "path", "PEM: its private key, without a password", allowed="a path")

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.cert is None) != (self.key is None):
            missing = "TLS__KEY" if self.key is None else "TLS__CERT"
            raise ValueError(f"want TLS__CERT and TLS__KEY, or neither: {missing} is not set")
        return self


class LogSettings(Section):
    """What is logged, on stderr."""

    level: Literal["debug", "info", "warning", "error"] = _setting("info", "", "the least that is logged")
    format: Literal["json", "console"] | None = _setting(None, "", "unset: console on a terminal, else json")


class TraceSettings(Section):
    """Where spans are sent, with the extra ``otel``."""

    otlp_url: HttpUrl = _setting(
        None,
        "URL",
        "OpenTelemetry's OTLP over HTTP; unset: no spans",
        allowed="an http or https URL without query and fragment, such as http://127.0.0.1:4318/v1/traces",
    )


class FirehoseSettings(Section):
    """The stream that measures the core without the network."""

    enabled: bool = _setting(False, "", "/firehose/stream, /firehose/sse and /firehose/ws are there")


class SearchSettings(Section):
    """Where deepsearch finds its URLs."""

    provider: Literal["none", "searxng", "static"] = _setting("none", "", "what a query is asked of")
    url: HttpUrl = _setting(
        None,
        "URL",
        "of the SearXNG instance; its JSON format must be on",
        allowed="an http or https URL without query and fragment, such as http://127.0.0.1:8888",
    )
    static_file: Text | None = _setting(None, "path", "JSON: an object of query to a list of URLs", allowed="a path")

    @model_validator(mode="after")
    def _provided(self) -> Self:
        if self.provider == "searxng" and self.url is None:
            raise ValueError("SEARCH__PROVIDER='searxng' wants SEARCH__URL: the instance's http or https URL")
        if self.provider == "static" and self.static_file is None:
            raise ValueError("SEARCH__PROVIDER='static' wants SEARCH__STATIC_FILE: a JSON file of query to URLs")
        return self


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
    """A socket that was inherited may not be bound where SERVER__HOST may not.  Raises ConfigError."""
    if refusal := _public(host, settings):
        raise ConfigError(f"the socket unit's {refusal}")


def _public(host: str, settings: Settings) -> str | None:
    """Why *host* may not be bound."""
    if settings.auth.insecure or settings.auth.tokens_file is not None or is_loopback(host):
        return None
    return (
        f"{host!r} is not a loopback address, and anybody who reaches it could crawl:"
        " allowed are 127.0.0.1, ::1, localhost, a Unix socket (SERVER__UDS), or any address"
        " with tokens (AUTH__TOKENS_FILE) or with AUTH__INSECURE=true"
    )


def is_loopback(host: str) -> bool:
    """Whether *host*, an address or ``localhost``, can only be reached from this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# ── the model, as people read it ─────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Setting:
    """What is said of a setting; *default* is as a person would write it."""

    section: str
    name: str
    default: str
    unit: str
    allowed: str
    meaning: str

    def __str__(self) -> str:
        return setting_name(self.section, self.name)


def every_setting() -> Iterator[Setting]:
    """Every setting, in the model's order."""
    for section, field in Settings.model_fields.items():
        for name, inner in _section(field).model_fields.items():
            extra = inner.json_schema_extra
            assert isinstance(extra, dict)
            default = str(extra["instead"]) or shown(inner.default)
            allowed = str(extra["allowed"]) or _allowed(inner)
            yield Setting(section, name, default, str(extra["unit"]), allowed, inner.description or "")


def every_section() -> Iterator[tuple[str, str]]:
    """(name, what it is about) of every section, in the model's order."""
    for section, field in Settings.model_fields.items():
        yield section, _section(field).__doc__ or ""


def setting_name(section: str, name: str) -> str:
    """``SECTION__NAME``, as every message names a setting."""
    return f"{section}__{name}".upper()


def shown(value: Any) -> str:
    """A setting's value as a person would write it."""
    if value is None:
        return "-"
    if value == ():
        return "(empty)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(value).removesuffix(".0")
    if isinstance(value, tuple):
        return ",".join("-".join(map(str, dict.fromkeys(v))) if isinstance(v, tuple) else str(v) for v in value)
    return str(value)


def _section(field: FieldInfo) -> type[Section]:
    model = field.annotation
    assert isinstance(model, type)
    assert issubclass(model, Section)
    return model


def _allowed(field: FieldInfo) -> str:
    """What the type and the bounds of *field* allow."""
    kind = field.annotation
    if kind is bool:
        return "true or false"
    if kind in (int, float):
        number = "an integer" if kind is int else "a number"
        above = _bound(field, "gt")
        low = f"from {_bound(field, 'ge')} to" if above is None else f"above {above}, up to"
        most = _bound(field, "le")
        return f"{number} {low} {'10^12' if most == MOST else most}"
    *words, last = (word for part in (kind, *get_args(kind)) if get_origin(part) is Literal for word in get_args(part))
    return f"{', '.join(words)} or {last}"


def _bound(field: FieldInfo, name: str) -> Any:
    return next((getattr(part, name) for part in field.metadata if hasattr(part, name)), None)


# ── sources ──────────────────────────────────────────────────────────────────────────────

Key = tuple[str, str]  # section and name
Given = dict[Key, tuple[Any, str]]  # to a value as it was written, and its source


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """The settings, and which source each value that is not a default came from."""

    values: Settings
    given: Given

    def table(self) -> Iterator[tuple[str, Any, str, str, str]]:
        """(name, value, source, unit, meaning) of every setting, in the model's order."""
        for setting in every_setting():
            source = self.given.get((setting.section, setting.name), (None, "default"))[1]
            value = getattr(getattr(self.values, setting.section), setting.name)
            yield str(setting), value, source, setting.unit, setting.meaning

    def explained(self, refusal: ConfigError) -> ConfigError:
        """*refusal*, of a start with these settings, with the sources of those that it names."""
        return ConfigError(_with_sources(str(refusal), self.given))


def load(
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    config: str | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> LoadedSettings:
    """Read all sources.

    *flags* maps ``SECTION__NAME`` to a value; *config* is the TOML file (else
    ``FASTMESH_CONFIG`` names it); *defaults* go before the model's own.  Raises ConfigError for the first setting
    that is unknown or wrong, in the model's order.
    """
    given = _from((defaults or {}).items(), "default")
    path = (environ.get(CONFIG_VARIABLE) or None) if config is None else config
    if path is not None:
        given |= _from_file(Path(path))
    given |= _from_environment(environ)
    given |= _from(((name, value) for name, value in (flags or {}).items() if value is not None), "flag")
    _refuse_unknown(given)
    nested: dict[str, dict[str, Any]] = {}
    for (section, name), (value, _) in given.items():
        nested.setdefault(section, {})[name] = value
    try:
        return LoadedSettings(Settings.model_validate(nested), given)
    except ValidationError as error:
        raise ConfigError(_explain(error, given)) from None


def _from(named: Iterable[tuple[str, Any]], source: str) -> Given:
    """What one source says; names are read in any case."""
    given: Given = {}
    for name, value in named:
        if (key := _key(name)) in given:
            raise ConfigError(f"{name.upper()}={value!r} ({source}) is there twice, in upper and in lower case")
        given[key] = value, source
    return given


def _key(name: str) -> Key:
    section, _, rest = name.lower().partition("__")
    return section, rest


def _from_file(path: Path) -> Given:
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"the settings file {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"the settings file {path} is not TOML: {error}") from None
    source = f"file {path}"
    named = []
    for section, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(f"{section.upper()}={table!r} ({source}): settings stand in tables such as [server]")
        if section.lower() not in Settings.model_fields:
            raise ConfigError(f"unknown section [{section}] ({source}): want {_sections()}")
        named += [(f"{section}__{name}", value) for name, value in table.items()]
    return _from(named, source)


def _from_environment(environ: Mapping[str, str]) -> Given:
    names = (name for name in environ if name.startswith(PREFIX) and name not in (CONFIG_VARIABLE, TOKEN_VARIABLE))
    return _from(((name.removeprefix(PREFIX), environ[name]) for name in names), "environment")


def _refuse_unknown(given: Given) -> None:
    known = {(setting.section, setting.name) for setting in every_setting()}
    for key, (value, source) in given.items():
        if key not in known:
            section, name = key
            siblings = sorted(setting_name(*other) for other in known if other[0] == section)
            allowed = ", ".join(siblings) or f"SECTION__NAME, with the section one of {_sections()}"
            full = setting_name(section, name) if name else section.upper()
            raise ConfigError(f"unknown setting {full}={value!r} ({source}): want {allowed}")


def _sections() -> str:
    return ", ".join(Settings.model_fields).upper()


def _explain(error: ValidationError, given: Given) -> str:
    """Name the first wrong setting, its value, its source and what is allowed."""
    settings: dict[Any, Setting] = {(setting.section, setting.name): setting for setting in every_setting()}
    order = [*settings]

    def place(found: Any) -> int:
        return order.index(found["loc"][:2]) if found["loc"][:2] in settings else len(order)

    first = min(error.errors(include_url=False), key=place)
    setting = settings.get(first["loc"][:2])
    if setting is None:  # a rule between settings: its message names them
        return _with_sources(first["msg"].removeprefix("Value error, "), given)
    value, source = given[setting.section, setting.name]
    part = f"; {first['input']!r} is none" if len(first["loc"]) > 2 and first["input"] != value else ""
    return f"{setting}={value!r} ({source}): want {setting.allowed}{part}"


def _with_sources(message: str, given: Given) -> str:
    """*message*, and where the settings that it names came from, but for defaults."""
    named = dict.fromkeys(re.findall(r"[A-Z]+__[A-Z_]*[A-Z]", message))
    sources = ((name, given[key][1]) for name in named if (key := _key(name)) in given)
    said = ", ".join(f"{name} from {source}" for name, source in sources)
    return f"{message} ({said})" if said else message
