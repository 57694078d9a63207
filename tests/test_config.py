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
    ("name", "value", "words"),
    [
        ("SERVER__PORT", "65536", "less than or equal to 65535"),
        ("SERVER__PORT", "http", "integer"),
        ("SERVER__PORT", "", "integer"),
        ("SERVER__UDS", "", "at least 1 character"),
        ("SERVER__HEADER_TIMEOUT_S", "0", "greater than 0"),
        ("SERVER__HEADER_TIMEOUT_S", "nan", "finite"),
        ("SERVER__HEADER_TIMEOUT_S", "inf", "finite"),
        ("STREAM__MAX_FRAME_BYTES", "4095", "4096"),
        ("FETCH__ALLOW_NETWORKS", "10.0.0.0/33", "127.0.0.0/8"),
        ("FETCH__ALLOW_NETWORKS", "localhost", "127.0.0.0/8"),
        ("FETCH__ALLOW_PORTS", "0", "1 to 65535"),
        ("FETCH__ALLOW_PORTS", "90-80", "lower one first"),
        ("FETCH__ALLOW_PORTS", "http", "80,443"),
        ("FETCH__USER_AGENT", "a\r\nb", "pattern"),
        ("WORKERS__EXTRACT", "0", "greater than or equal to 1"),
        ("LOG__LEVEL", "loud", "'debug', 'info', 'warning' or 'error'"),
        ("LOG__FORMAT", "xml", "'json' or 'console'"),
        ("FIREHOSE__ENABLED", "maybe", "boolean"),
    ],
)
def test_a_wrong_value_is_named_with_its_source_and_what_is_allowed(name: str, value: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        load({}, environ={f"FASTMESH_{name}": value})
    message = str(error.value)
    assert message.startswith(f"{name}={value!r} (environment): ")
    assert words in message


@pytest.mark.parametrize(
    "name",
    ["SERVER__COLOUR", "STREAM__COLOUR", "TLS__COLOUR", "DATA_DIR", "X"],
)
def test_an_unknown_setting_is_refused_from_every_source(name: str, file) -> None:
    with pytest.raises(ConfigError, match=rf"unknown setting {name}='1' \(environment\)"):
        load({}, environ={f"FASTMESH_{name}": "1"})
    section, _, rest = name.lower().partition("__")
    with pytest.raises(ConfigError, match=name if rest else name.upper()):
        load({}, environ={}, config=file(f"[{section}]\n{rest} = 1" if rest else f"{section} = 1"))


def test_the_first_wrong_one_in_the_models_order_is_named() -> None:
    with pytest.raises(ConfigError, match="SERVER__PORT"):
        load({}, environ={"FASTMESH_LOG__LEVEL": "x", "FASTMESH_SERVER__PORT": "x", "FASTMESH_FETCH__TIMEOUT_MS": "x"})


def test_rules_between_settings_name_both() -> None:
    with pytest.raises(ConfigError, match=r"BUFFER__LOW_WATER_BYTES.*BUFFER__HIGH_WATER_BYTES"):
        load({"BUFFER__LOW_WATER_BYTES": "5", "BUFFER__HIGH_WATER_BYTES": "4"}, environ={})
    with pytest.raises(ConfigError, match=r"SERVER__HOST='192.0.2.1'.*AUTH__TOKENS_FILE.*AUTH__INSECURE=true"):
        load({"SERVER__HOST": "192.0.2.1"}, environ={})
    assert load({"SERVER__HOST": "192.0.2.1", "AUTH__TOKENS_FILE": "/t"}, environ={}).values.server.host == "192.0.2.1"
    with pytest.raises(ConfigError, match=r"TLS__CERT and TLS__KEY, or neither: TLS__KEY is not set"):
        load({"TLS__CERT": "/c"}, environ={})
    with pytest.raises(ConfigError, match=r"TLS__CERT and TLS__KEY, or neither: TLS__CERT is not set"):
        load({"TLS__KEY": "/k"}, environ={})


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


def test_every_setting_is_described_and_has_a_readable_default() -> None:
    for name, value, source, _unit, text in load({}, environ={}).table():
        assert name == name.upper()
        assert source == "default"
        assert shown(value)
        assert text or name in {"FETCH__USER_AGENT", "LOG__LEVEL", "FIREHOSE__ENABLED"}
    assert config.setting_name("a", "b") == "A__B"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"BUFFER__MIN_FRAMES": "3000"}, "want BUFFER__MIN_FRAMES <= BUFFER__MAX_FRAMES, got 3000 and 2048"),
        (
            {"BUFFER__INITIAL_FRAMES_SSE": "3000"},
            "want BUFFER__INITIAL_FRAMES_SSE <= BUFFER__MAX_FRAMES, got 3000 and 2048",
        ),
        ({"BUFFER__MAX_BYTES": "1000"}, "want BUFFER__INITIAL_BYTES <= BUFFER__MAX_BYTES, got 65536 and 1000"),
    ],
)
def test_windows_whose_bounds_cross_are_refused(given: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        load({}, environ={f"FASTMESH_{name}": value for name, value in given.items()})
    assert words in str(error.value)
