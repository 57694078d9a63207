"""Structured logs on stderr: events with fields, JSON or, on a terminal, for people."""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal

import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

# A URL or a header that an event carries may hold what a terminal would obey.
_UNPRINTABLE = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}


def configure(level: str, format_: Literal["json", "console"] | None) -> None:
    """Set up logging for this process; *format_* None means console on a terminal, else JSON."""
    console = sys.stderr.isatty() if format_ is None else format_ == "console"
    people = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    last: list[Any] = [people if console else structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            *([_escape] if console else []),
            *last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def get_logger() -> Any:
    """The logger; its methods take an event's name and fields."""
    return structlog.get_logger()


def _escape(_logger: object, _method: str, event: Any) -> Any:
    return {
        key: value.translate(_UNPRINTABLE) if isinstance(value, str) and key != "exception" else value
        for key, value in event.items()
    }
