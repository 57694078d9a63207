"""Reading the settings from their sources, and the message about a value that is wrong.  The later source wins:
defaults, a TOML file, the environment (``FASTMESH_<SECTION>__<NAME>``), flags."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fastmesh.config.describe import Setting, every_setting, setting_name
from fastmesh.config.model import Settings
from fastmesh.errors import ConfigError

PREFIX = "FASTMESH_"
CONFIG_VARIABLE = "FASTMESH_CONFIG"
TOKEN_VARIABLE = "FASTMESH_TOKEN"  # a client's token, which is no setting

Key = tuple[str, str]  # section and name
Given = dict[Key, tuple[Any, str]]  # the value as it was written, and its source


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """The settings, and the source of each value that is not a default."""

    values: Settings
    given: Given

    def table(self) -> Iterator[tuple[str, Any, str, str, str]]:
        """(name, value, source, unit, meaning) of every setting, in the model's order."""
        for setting in every_setting():
            source = self.given.get((setting.section, setting.name), (None, "default"))[1]
            value = getattr(getattr(self.values, setting.section), setting.name)
            yield str(setting), value, source, setting.unit, setting.meaning

    def explained(self, refusal: ConfigError) -> ConfigError:
        """*refusal*, which a start with these settings met, with the sources of the settings that it names."""
        return ConfigError(_with_sources(str(refusal), self.given))


def load(
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    config: str | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> LoadedSettings:
    """Read all sources.

    *flags* maps ``SECTION__NAME`` to a value; *config* is the TOML file (else ``FASTMESH_CONFIG`` names it); *defaults*
    go before the model's own.  Raises ConfigError for the first setting that is unknown or wrong, in the model's order.
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
    """The values of one source; a name may be in upper or in lower case."""
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
    """*message*, with the source of each setting that it names, unless that is its default."""
    named = dict.fromkeys(re.findall(r"[A-Z]+__[A-Z_]*[A-Z]", message))
    sources = ((name, given[key][1]) for name in named if (key := _key(name)) in given)
    said = ", ".join(f"{name} from {source}" for name, source in sources)
    return f"{message} ({said})" if said else message
