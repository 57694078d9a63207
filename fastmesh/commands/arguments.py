"""What was asked on the command line: a daemon, settings, and the body that a daemon would be sent."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fastmesh import config
from fastmesh.errors import ValidationError

# A request's options, each with a flag whose destination is its name.
OPTIONS: Final = (
    *("concurrency", "timeout_ms", "include", "extractor", "cache_mode", "max_age_s", "cookies", "user_agent"),
    *("max_body_bytes", "retries", "order", "dedupe", "stop_after_errors", "respect_robots"),
)


@dataclass(frozen=True, slots=True)
class Server:
    """A daemon that runs, and what it is shown."""

    address: str
    token: str | None = None
    cacert: str | None = None


def server_of(asked: argparse.Namespace) -> Server:
    """The daemon that ``--server`` names."""
    return Server(asked.server, asked.token or os.environ.get(config.TOKEN_VARIABLE) or None, asked.cacert)


def settings_of(asked: argparse.Namespace, defaults: dict[str, str] | None = None) -> config.LoadedSettings:
    """The settings of all sources; *defaults* are this command's own, where no source says anything."""
    flags = {name: value for name, value in vars(asked).items() if "__" in name}  # SECTION__NAME
    return config.load(flags, config=asked.config, defaults=defaults)


def request_of(asked: argparse.Namespace) -> dict[str, Any]:
    """The body that the daemon would be sent.  Raises ValidationError."""
    urls = [*asked.urls]
    for name in asked.file:
        urls += _lines(name)
    if not urls:
        raise ValidationError("no URL was given: name some, or --file F with one a line (- is standard input)")
    options = {name: value for name in OPTIONS if (value := getattr(asked, name)) is not None}
    if headers := _headers(asked.header):
        options["headers"] = headers
    return {
        "urls": urls,
        "options": options,
        "stream": {} if asked.deadline_s is None else {"deadline_s": asked.deadline_s},
    }


def _lines(name: str) -> list[str]:
    """The URLs in a file, one a line; empty lines and those that begin with # are passed over."""
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text("utf-8")
    except OSError as error:
        raise ValidationError(f"--file {name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ValidationError(f"--file {name} is not UTF-8: {error}") from None
    lines = (line.strip() for line in text.removeprefix("\ufeff").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for text in lines:
        name, colon, value = text.partition(":")
        if not colon:
            raise ValidationError(f"--header {text!r}: want 'Name: value'")
        if (name := name.strip()) in headers:
            raise ValidationError(f"--header: {name} is there more than once, and which value is meant is not said")
        headers[name] = value.strip()
    return headers
