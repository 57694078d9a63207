"""Structured logs on stderr: events with fields, JSON or, on a terminal, for people.

Whatever a line is made of (fields, tracebacks, what libraries say), it shows no
secret of a URL or a header, and a terminal that it is written to obeys nothing.
"""

from __future__ import annotations

import logging
import re
import sys
import unicodedata
from contextlib import suppress
from typing import Any, Final, Literal, TextIO, cast

import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
HIDDEN: Final = "***"

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[/\\]{2}[^\s\"'<>`]+")
_USER: Final = re.compile(r"(:[/\\]{2})[^/\\?#]*@")
_PARAMETER: Final = re.compile(r"([^&;=]*)(=?)[^&;]*")
_CREDENTIALS: Final = re.compile(r"\b(bearer|basic|digest)(\s+|%20)[^\s\"',;]+", re.IGNORECASE)
_SECRET_NAME: Final = re.compile(r"authorization|cookie|passw|secret|token|api.?key", re.IGNORECASE)
# Controls, code points that are not assigned, and marks that turn the direction of text or hide it.
_OBEYED: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def configure(level: str, format_: Literal["json", "console"] | None) -> None:
    """Set up logging for this process; *format_* None means console on a terminal, else JSON."""
    console = sys.stderr.isatty() if format_ is None else format_ == "console"
    people = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    last: Any = people if console else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _safe,
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Unfailing())),
        cache_logger_on_first_use=False,
    )
    _OURS.bound = structlog.get_logger().bind()
    library = logging.getLogger()
    library.handlers = [_FromLibraries()]
    library.setLevel(logging.WARNING)
    logging.captureWarnings(True)


class Logger:
    """All events go through it.

    structlog's own logger makes two objects and looks up a lock for each event, also for those that are not written:
    a stream has eight.  *bound* is the logger that configure() made last; before that, structlog's default.
    """

    def __init__(self) -> None:
        self.bound = structlog.get_logger()

    def __getattr__(self, method: str) -> Any:
        return getattr(self.bound, method)


_OURS: Final = Logger()


def get_logger() -> Any:
    """The logger; its methods take an event's name and fields."""
    return _OURS


def report_lost(lines: int) -> None:
    """So many *lines* are missing here, since nobody read them; an error, since they may have been of any level."""
    get_logger().error("log.lines_lost", lines=lines)


class _Unfailing:
    """Standard error.  When it takes nothing any more (disk full, reader gone) lines are lost, and not streams."""

    def write(self, text: str) -> None:
        """As much of *text* as it takes."""
        with suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        """And now."""
        with suppress(OSError):
            sys.stderr.flush()


class _FromLibraries(logging.Handler):
    """What libraries log becomes events like ours."""

    def emit(self, record: logging.LogRecord) -> None:
        """One record."""
        fields = {"logger": record.name, "message": record.getMessage()}
        get_logger().log(record.levelno, "library.message", exc_info=record.exc_info or None, **fields)


# ── what may be shown ────────────────────────────────────────────────────────────────────


def without_secrets(text: str) -> str:
    """*text*, in which URLs have no user, no password and no values in their query, and headers no credentials."""
    return _CREDENTIALS.sub(rf"\1 {HIDDEN}", _URL.sub(_bare, text))


def printable(text: str, *, lines: bool = False) -> str:
    """*text* with everything escaped that a terminal would obey; with *lines* line ends and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char
        if unicodedata.category(char) not in _OBEYED or (lines and char in "\n\t")
        else char.encode("unicode_escape", "surrogatepass").decode("ascii")
        for char in text
    )


def _bare(found: re.Match[str]) -> str:
    url, hash_, fragment = _USER.sub(rf"\1{HIDDEN}@", found[0]).partition("#")
    url, mark, query = url.partition("?")
    hidden = "".join(
        part if part in "&;" else _PARAMETER.sub(_hidden, part, count=1) for part in re.split(r"([&;])", query)
    )
    return f"{url}{mark}{hidden}{hash_}{HIDDEN if fragment else ''}"


def _hidden(parameter: re.Match[str]) -> str:
    """A name and its hidden value; text without a name is a value."""
    return f"{parameter[1]}={HIDDEN}" if parameter[2] else HIDDEN if parameter[0] else ""


def _safe(_logger: object, _method: str, event: Any) -> Any:
    """Every event as it may be shown: the last processor but the renderer."""
    return {key: _shown(key, value) for key, value in event.items()}


def _shown(key: str, value: Any) -> Any:
    if isinstance(value, str):
        if _SECRET_NAME.search(key):
            return HIDDEN
        return printable(without_secrets(value), lines=key in ("exception", "stack"))
    if isinstance(value, dict):
        return {printable(without_secrets(str(name))): _shown(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_shown(key, inner) for inner in value]
    return value if isinstance(value, int | float | None) else _shown(key, str(value))
