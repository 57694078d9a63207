"""The settings: sources, what wins, and messages that name what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastmesh import config
from fastmesh.config import load, shown
from fastmesh.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path):
    def write(text: str) -> str:
        path = tmp_path / "fastmesh.toml"
        path.write_text(text, "utf-8")
        return str(path)

    return write


def test_the_later_source_wins(file) -> None:
    path = file("[server]\nport = 1\nhost = '::1'\nuds = '/a'\n[fetch]\ntimeout_ms = 1")
    environ = {"FASTMESH_SERVER__PORT": "2", "FASTMESH_SERVER__HOST": "localhost"}
    loaded = load({"SERVER__PORT": "3", "SERVER__HOST": None}, environ=environ, config=path)
    sources = {name: (value, source) for name, value, source, _, _ in loaded.table()}
    assert sources["SERVER__PORT"] == (3, "flag")
    assert sources["SERVER__HOST"] == ("localhost", "environment")
    assert sources["SERVER__UDS"] == ("/a", f"file {path}")
    assert sources["FETCH__TIMEOUT_MS"] == (1, f"file {path}")
    assert sources["STREAM__MAX_URLS"] == (1000, "default")


def test_a_commands_own_default_is_the_weakest() -> None:
    assert load({}, environ={}, defaults={"LOG__LEVEL": "error"}).values.log.level == "error"
    given = load({}, environ={"FASTMESH_LOG__LEVEL": "debug"}, defaults={"LOG__LEVEL": "error"})
    assert given.values.log.level == "debug"


def test_the_file_is_named_by_the_environment_too(file) -> None:
    path = file("[stream]\nmax_urls = 5")
    assert load({}, environ={"FASTMESH_CONFIG": path}).values.stream.max_urls == 5
    other = file("[stream]\nmax_urls = 6")
    assert load({}, environ={"FASTMESH_CONFIG": "/nonexistent"}, config=other).values.stream.max_urls == 6


def test_lists() -> None:
    environ = {
        "FASTMESH_FETCH__ALLOW_NETWORKS": " 127.0.0.0/8 , ::1/128,10.1.2.3 ",
        "FASTMESH_FETCH__ALLOW_PORTS": "80,443,8000-9000",
        "FASTMESH_SERVER__ALLOWED_HOSTS": "",
    }
    values = load({}, environ=environ).values
    assert list(map(str, values.fetch.allow_networks)) == ["127.0.0.0/8", "::1/128", "10.1.2.3/32"]
    assert values.fetch.allow_ports == ((80, 80), (443, 443), (8000, 9000))
    assert values.server.allowed_hosts == ()
    assert shown(values.fetch.allow_ports) == "80,443,8000-9000"


def test_lists_may_be_lists_in_a_file(file) -> None:
    values = load(
        {}, environ={}, config=file("[fetch]\nallow_networks = ['10.0.0.0/8']\nallow_ports = [80, '90-91']")
    ).values
    assert list(map(str, values.fetch.allow_networks)) == ["10.0.0.0/8"]
    assert values.fetch.allow_ports == ((80, 80), (90, 91))


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("SERVER__COLOUR", "want SERVER__ALLOWED_HOSTS, SERVER__BODY_TIMEOUT_S, "),
        ("TLS__COLOUR", "want TLS__CERT, TLS__KEY"),
        ("COLOUR__RED", "SECTION__NAME, with the section one of SERVER, STREAM, BUFFER, "),
        ("SERVER_PORT", "SECTION__NAME, with the section one of SERVER, "),
        ("DATA_DIR", "SECTION__NAME, with the section one of SERVER, "),
        ("X", "SECTION__NAME, with the section one of SERVER, "),
        ("SERVER__PORT__X", "want SERVER__ALLOWED_HOSTS, "),
    ],
)
def test_an_unknown_setting_is_refused_from_every_source(name: str, want: str) -> None:
    for source, given in (("environment", {"environ": {f"FASTMESH_{name}": "1"}}), ("flag", {"flags": {name: "1"}})):
        with pytest.raises(ConfigError) as error:
            load(**{"flags": {}, "environ": {}} | given)
        assert str(error.value).startswith(f"unknown setting {name}='1' ({source}): ")
        assert want in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\ncolour = 1", "unknown setting SERVER__COLOUR=1 (file {}): want SERVER__ALLOWED_HOSTS, "),
        ("[server.port]\nx = 1", "SERVER__PORT={{'x': 1}} (file {}): want an integer from 0 to 65535"),
        ("[colour]\nred = 1", "unknown section [colour] (file {}): want SERVER, STREAM, "),
        ("[colour]", "unknown section [colour] (file {}): want SERVER, STREAM, "),
        ("port = 1", "PORT=1 (file {}): settings stand in tables such as [server]"),
        ("server__port = 1", "SERVER__PORT=1 (file {}): settings stand in tables such as [server]"),
        ("[[server]]\nport = 1", "SERVER=[{{'port': 1}}] (file {}): settings stand in tables such as [server]"),
    ],
)
def test_an_unknown_name_in_a_file_is_refused(file, text: str, message: str) -> None:
    path = file(text)
    with pytest.raises(ConfigError) as error:
        load({}, environ={}, config=path)
    assert str(error.value).startswith(message.format(path))


def test_names_are_read_in_any_case_and_once(file) -> None:
    assert load({}, environ={"FASTMESH_server__Port": "7"}).values.server.port == 7
    assert load({}, environ={}, config=file("[SERVER]\nPort = 7")).values.server.port == 7
    with pytest.raises(ConfigError, match=r"SERVER__PORT='2' \(environment\) is there twice"):
        load({}, environ={"FASTMESH_SERVER__PORT": "1", "FASTMESH_server__port": "2"})
    for text in ("[server]\nport = 1\nPORT = 2", "[server]\nport = 1\n[Server]\nport = 2"):
        with pytest.raises(ConfigError, match=r"SERVER__PORT=2 \(file .*\) is there twice"):
            load({}, environ={}, config=file(text))


def test_the_first_wrong_one_in_the_models_order_is_named() -> None:
    with pytest.raises(ConfigError, match="SERVER__PORT"):
        load({}, environ={"FASTMESH_LOG__LEVEL": "x", "FASTMESH_SERVER__PORT": "x", "FASTMESH_FETCH__TIMEOUT_MS": "x"})


@pytest.mark.parametrize(
    ("file_says", "environ", "flags", "message"),
    [
        (
            "[buffer]\nlow_water_bytes = 5",
            {"BUFFER__HIGH_WATER_BYTES": "4"},
            {},
            "want BUFFER__LOW_WATER_BYTES <= BUFFER__HIGH_WATER_BYTES, got 5 and 4"
            " (BUFFER__LOW_WATER_BYTES from file {}, BUFFER__HIGH_WATER_BYTES from environment)",
        ),
        (
            "",
            {"BUFFER__MIN_FRAMES": "3000"},
            {},
            "want BUFFER__MIN_FRAMES <= BUFFER__MAX_FRAMES, got 3000 and 2048 (BUFFER__MIN_FRAMES from environment)",
        ),
        (
            "[buffer]\ninitial_frames_sse = 3000",
            {},
            {},
            "want BUFFER__INITIAL_FRAMES_SSE <= BUFFER__MAX_FRAMES, got 3000 and 2048"
            " (BUFFER__INITIAL_FRAMES_SSE from file {})",
        ),
        (
            "",
            {"BUFFER__MAX_BYTES": "1000"},
            {},
            "want BUFFER__INITIAL_BYTES <= BUFFER__MAX_BYTES, got 65536 and 1000 (BUFFER__MAX_BYTES from environment)",
        ),
        (
            "",
            {"TLS__CERT": "/c"},
            {},
            "want TLS__CERT and TLS__KEY, or neither: TLS__KEY is not set (TLS__CERT from environment)",
        ),
        (
            "[tls]\nkey = '/k'",
            {},
            {},
            "want TLS__CERT and TLS__KEY, or neither: TLS__CERT is not set (TLS__KEY from file {})",
        ),
        (
            "",
            {},
            {"SERVER__HOST": "192.0.2.1"},
            "SERVER__HOST='192.0.2.1' is not a loopback address, and anybody who reaches it could crawl: allowed are"
            " 127.0.0.1, ::1, localhost, a Unix socket (SERVER__UDS), or any address with tokens (AUTH__TOKENS_FILE)"
            " or with AUTH__INSECURE=true (SERVER__HOST from flag)",
        ),
        (
            "",
            {"SEARCH__PROVIDER": "searxng"},
            {},
            "SEARCH__PROVIDER='searxng' wants SEARCH__URL: the instance's http or https URL"
            " (SEARCH__PROVIDER from environment)",
        ),
    ],
)
def test_a_rule_between_settings_names_them_with_values_and_sources(
    file, file_says: str, environ: dict[str, str], flags: dict[str, str], message: str
) -> None:
    path = file(file_says)
    with pytest.raises(ConfigError) as error:
        load(flags, environ={f"FASTMESH_{name}": value for name, value in environ.items()}, config=path)
    assert str(error.value) == message.format(path)


def test_a_public_address_may_be_bound_with_tokens() -> None:
    assert load({"SERVER__HOST": "192.0.2.1", "AUTH__TOKENS_FILE": "/t"}, environ={}).values.server.host == "192.0.2.1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[server", "is not TOML"),
        ("port = 1", "PORT"),
        ("[server]\nport = [", "TOML"),
        ("port = " + "[" * 5000 + "]" * 5000, "is not TOML"),
    ],
)
def test_a_broken_file_is_named(file, text: str, words: str) -> None:
    path = file(text)
    with pytest.raises(ConfigError, match=words) as error:
        load({}, environ={}, config=path)
    assert path in str(error.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"/nonexistent\.toml cannot be read"):
        load({}, environ={}, config="/nonexistent.toml")


def test_other_variables_are_nobodys_business() -> None:
    environ = {"PATH": "x", "FASTMESHES": "x", "HTTP_PROXY": "x", "FASTMESH_TOKEN": "a client's"}
    assert load({}, environ=environ).given == {}
    assert load({}, environ={"FASTMESH_CONFIG": ""}).given == {}  # as if it were not there
    with pytest.raises(ConfigError, match=r"the settings file \. cannot be read"):
        load({}, environ={}, config="")


def test_every_setting_is_described_and_has_a_readable_default() -> None:
    for name, value, source, _unit, text in load({}, environ={}).table():
        assert name == name.upper()
        assert source == "default"
        assert shown(value)
        assert text
    assert config.setting_name("a", "b") == "A__B"


def test_a_value_is_shown_as_it_is() -> None:
    values = (None, (), True, 10.0, 0.125, 1234567.25, 1e12, 8080, ((80, 80), (90, 91)), "text")
    assert [shown(value) for value in values] == [
        "-", "(empty)", "true", "10", "0.125", "1234567.25", "1000000000000", "8080", "80,90-91", "text"
    ]  # fmt: skip
