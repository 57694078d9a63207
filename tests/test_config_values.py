"""What a value may be: how it is written, and that every wrong one is told with what is allowed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fastmesh.config import LoadedSettings, Setting, every_setting, load
from fastmesh.errors import ConfigError

SETTINGS = list(every_setting())
LISTS = {"hosts", "networks", "addresses", "ports", "origins"}  # the units of those that hold several
MOST = 10**12


class Sources:
    """Each way to give a setting, by the name that messages have for it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "fastmesh.toml"
        self.names = ("environment", "flag", f"file {self._path}")

    def give(self, source: str, name: str, value: str) -> LoadedSettings:
        if source == "environment":
            return load({}, environ={f"FASTMESH_{name}": value})
        if source == "flag":
            return load({name: value}, environ={})
        return self.toml(name, repr(value))

    def toml(self, name: str, text: str) -> LoadedSettings:
        section, _, rest = name.lower().partition("__")
        self._path.write_text(f"[{section}]\n{rest} = {text}\n")
        return load({}, environ={}, config=str(self._path))


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return Sources(tmp_path)


def value_of(loaded: LoadedSettings, name: str) -> Any:
    return next(value for known, value, *_ in loaded.table() if known == name)


def refusal(sources: Sources, source: str, name: str, value: str) -> str:
    with pytest.raises(ConfigError) as error:
        sources.give(source, name, value)
    return str(error.value)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_a_wrong_value_is_told_with_its_source_and_what_is_allowed(sources: Sources, setting: Setting) -> None:
    wrong = "?" if setting.unit in LISTS else ""
    assert setting.allowed
    for source in sources.names:
        said = refusal(sources, source, str(setting), wrong)
        assert said == f"{setting}={wrong!r} ({source}): want {setting.allowed}"


def bounded() -> Iterator[Any]:
    """(setting, highest, lowest, whether that one is excluded, least step), as the words have them."""
    for setting in SETTINGS:
        if found := re.fullmatch(r"an integer from (\d+) to (\d+|10\^12)", setting.allowed):
            yield pytest.param(setting, int(found[1]), high(found[2]), 1, id=str(setting))
        elif found := re.fullmatch(r"a number (?:from|above) (\d+)(?: to|, up to) (10\^12)", setting.allowed):
            yield pytest.param(setting, int(found[1]), high(found[2]), 0.001, id=str(setting))


def high(words: str) -> int:
    return MOST if words == "10^12" else int(words)


@pytest.mark.parametrize(("setting", "low", "high", "step"), list(bounded()))
def test_the_bounds_are_what_the_words_say(
    sources: Sources, setting: Setting, low: int, high: int, step: float
) -> None:
    name = str(setting)

    def taken(value: float) -> bool:
        try:
            sources.give("environment", name, str(value))
        except ConfigError as error:  # one bound of a pair may be beyond the other
            return not str(error).startswith(f"{name}=")
        return True

    assert taken(high)
    assert not taken(high + step)
    assert not taken(low - step)
    assert taken(low) is not setting.allowed.startswith("a number above")
    assert taken(low + step)


@pytest.mark.parametrize(
    ("name", "written", "read"),
    [
        # Booleans, in the spellings that shells and people use.
        *(("AUTH__INSECURE", text, True) for text in ("true", "True", "TRUE", "1", "yes", "on")),
        *(("FETCH__RESPECT_ROBOTS", text, False) for text in ("false", "False", "FALSE", "0", "no", "off")),
        ("SERVER__PORT", "0080", 80),
        ("SERVER__PORT", " 80 ", 80),
        ("STREAM__MAX_URLS", "1000000000000", MOST),
        ("FETCH__TIMEOUT_MS", "1e3", 1000.0),
        ("FETCH__TIMEOUT_MS", "0.5", 0.5),
        ("FETCH__ALLOW_NETWORKS", " 127.0.0.0/8 , ::1/128,10.1.2.3 ", "127.0.0.0/8 ::1/128 10.1.2.3/32"),
        ("FETCH__ALLOW_NETWORKS", "10.1.2.3/8,", "10.0.0.0/8"),
        ("FETCH__ALLOW_NETWORKS", "", ""),
        ("FETCH__ALLOW_PORTS", "80", ((80, 80),)),
        ("FETCH__ALLOW_PORTS", "80,8000-9000", ((80, 80), (8000, 9000))),
        ("FETCH__NAMESERVERS", "192.0.2.1,[2001:db8::1]:5353,2001:db8::1", "192.0.2.1 [2001:db8::1]:5353 2001:db8::1"),
        ("SERVER__ALLOWED_HOSTS", "", ()),
        ("SERVER__ALLOWED_HOSTS", "*", ("*",)),
        ("SERVER__ALLOWED_HOSTS", "a.example,192.0.2.1,[::1],::1", ("a.example", "192.0.2.1", "[::1]", "::1")),
        ("CORS__ALLOW_ORIGINS", "https://a.example,http://[::1]:8080", ("https://a.example", "http://[::1]:8080")),
        ("FETCH__USER_AGENT", "me (+https://me.example/)", "me (+https://me.example/)"),
        ("AUTH__TOKENS_FILE", "/a path/with, commas", "/a path/with, commas"),
        ("TRACE__OTLP_URL", "http://127.0.0.1:4318/v1/traces", "http://127.0.0.1:4318/v1/traces"),
    ],
)
def test_a_value_is_read_as_it_is_meant(sources: Sources, name: str, written: str, read: object) -> None:
    for source in sources.names:
        value = value_of(sources.give(source, name, written), name)
        if isinstance(read, str) and isinstance(value, tuple):
            value = " ".join(map(str, value))
        assert value == read


@pytest.mark.parametrize(
    ("name", "text", "read"),
    [
        ("SERVER__PORT", "80", 80),
        ("SERVER__PORT", "8e1", 80),
        ("FETCH__TIMEOUT_MS", "5", 5.0),
        ("AUTH__INSECURE", "true", True),
        ("FETCH__ALLOW_NETWORKS", "['10.0.0.0/8', '::1/128']", "10.0.0.0/8 ::1/128"),
        ("FETCH__ALLOW_NETWORKS", "[]", ""),
        ("FETCH__ALLOW_PORTS", "[80, '90-91']", ((80, 80), (90, 91))),
        ("SERVER__ALLOWED_HOSTS", "['a.example', '*']", ("a.example", "*")),
        ("CORS__ALLOW_ORIGINS", "['https://a.example']", ("https://a.example",)),
    ],
)
def test_a_file_has_types_of_its_own(sources: Sources, name: str, text: str, read: object) -> None:
    value = value_of(sources.toml(name, text), name)
    assert (" ".join(map(str, value)) if isinstance(read, str) else value) == read


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("SERVER__PORT", "true", True),
        ("SERVER__PORT", "80.5", 80.5),
        ("SERVER__PORT", "[80]", [80]),
        ("SERVER__PORT", "1979-05-27T07:32:00Z", datetime(1979, 5, 27, 7, 32, tzinfo=UTC)),
        ("FETCH__TIMEOUT_MS", "true", True),
        ("FETCH__TIMEOUT_MS", "nan", float("nan")),
        ("FETCH__TIMEOUT_MS", "inf", float("inf")),
        ("AUTH__INSECURE", "2", 2),
        ("AUTH__INSECURE", "[]", []),
        ("SERVER__HOST", "1", 1),
        ("TLS__KEY", "'''a\\u0000b'''".replace("'''", '"'), "a\0b"),
        ("AUTH__TOKENS_FILE", "false", False),
        ("LOG__LEVEL", "10", 10),
        ("TRACE__OTLP_URL", "4318", 4318),
        ("FETCH__ALLOW_PORTS", "80", 80),
        ("FETCH__ALLOW_NETWORKS", "10", 10),
        ("SERVER__ALLOWED_HOSTS", "{a = 1}", {"a": 1}),
    ],
)
def test_another_type_in_a_file_is_refused(sources: Sources, name: str, text: str, value: object) -> None:
    with pytest.raises(ConfigError) as error:
        sources.toml(name, text)
    allowed = next(setting.allowed for setting in SETTINGS if str(setting) == name)
    assert str(error.value) == f"{name}={value!r} ({sources.names[2]}): want {allowed}"


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        *(("SERVER__PORT", text) for text in ("http", "-1", "65536", "80.5", "1e3", "0x50", "10" * 400, "nan")),
        *(("SERVER__HEADER_TIMEOUT_S", text) for text in ("10s", "-1", "0", "-0.0", "nan", "inf", "-inf", "1e400")),
        *(("AUTH__INSECURE", text) for text in ("maybe", "2", "truetrue")),
        *(("LOG__LEVEL", text) for text in ("INFO", "loud")),
        *(("SERVER__ALLOWED_HOSTS", text) for text in ("http://a.example", "a.example:80", "a b", "a.", "[::1]:80")),
        *(("FETCH__ALLOW_NETWORKS", text) for text in ("10.0.0.0/33", "localhost", "10", "10.0.0.0-10.0.0.9")),
        *(("FETCH__ALLOW_PORTS", text) for text in ("0", "90-80", "http", "65536", "-80", "80-", "80--90", "٨٠")),
        *(("FETCH__NAMESERVERS", text) for text in ("dns.example", "192.0.2.1:0", "192.0.2.1:dns", "[::1]:", "[::1]")),
        *(("CORS__ALLOW_ORIGINS", text) for text in ("*", "null", "a.example", "https://a.example/", "https://A.example")),
        *(("FETCH__USER_AGENT", text) for text in ("a\r\nb", " ", "Grüße")),
        *(("SEARCH__URL", text) for text in ("search.example", "ftp://a.example", "http://a.example/?q=", "http://")),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(sources: Sources, name: str, wrong: str) -> None:
    allowed = next(setting.allowed for setting in SETTINGS if str(setting) == name)
    assert refusal(sources, "environment", name, wrong) == f"{name}={wrong!r} (environment): want {allowed}"


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("FETCH__ALLOW_NETWORKS", "10.0.0.0/8,localhost", "'localhost'"),
        ("FETCH__ALLOW_PORTS", "80,90-80", "'90-80'"),
        ("SERVER__ALLOWED_HOSTS", "a.example,b.example:80", "'b.example:80'"),
        ("FETCH__NAMESERVERS", "192.0.2.1,dns.example", "'dns.example'"),
        ("CORS__ALLOW_ORIGINS", "https://a.example,*", "'*'"),
    ],
)
def test_of_a_list_the_wrong_part_is_named(sources: Sources, name: str, value: str, part: str) -> None:
    said = refusal(sources, "environment", name, value)
    assert said.startswith(f"{name}={value!r} (environment): want ")
    assert said.endswith(f"; {part} is none")
