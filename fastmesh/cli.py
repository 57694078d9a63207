"""The command ``fastmesh``.  Exit status: 0 success, 1 could not run, 2 usage, 3 some URLs failed, 130 interrupted."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

import uvloop

from fastmesh import config
from fastmesh.commands.arguments import request_of, server_of, settings_of
from fastmesh.commands.outcome import COULD_NOT_RUN, INTERRUPTED, SUCCESS, USAGE
from fastmesh.commands.parser import make_parser
from fastmesh.errors import ConfigError, FastmeshError, ValidationError
from fastmesh.telemetry import log, standard_files
from fastmesh.version import __version__

T = TypeVar("T")

# What is decided where the fetching is done.
SETTING_FLAGS = {
    "config": "--config",
    "FETCH__ALLOW_NETWORKS": "--allow-network",
    "LOG__FORMAT": "--log-format",
    "LOG__LEVEL": "--log-level",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    _open_standard_files()
    asked = make_parser().parse_args(arguments)
    try:
        status = COMMANDS[asked.command](asked)
        sys.stdout.flush()
        return status
    except FastmeshError as error:
        print(f"fastmesh: {error}", file=sys.stderr)
        return USAGE if isinstance(error, ValidationError) else COULD_NOT_RUN
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Python would complain once more when it flushes standard output at its end.
        sys.stdout = None
        return COULD_NOT_RUN


def _serve(asked: argparse.Namespace) -> int:
    from fastmesh.server.serve import serve

    standard_files.unblock(log.report_lost)
    first = settings_of(asked)  # what a start refuses is told with their sources

    def load() -> config.Settings:
        settings = settings_of(asked).values
        log.configure(settings.log.level, settings.log.format)
        return settings

    def announce(address: str) -> None:
        print(f"fastmesh {__version__} listening on {address}", flush=True)

    _run(serve(load, announce), first)
    return SUCCESS


def _crawl(asked: argparse.Namespace) -> int:
    if asked.server is not None:
        return _crawl_at(asked)
    for name in ("protocol", "token", "cacert"):
        if getattr(asked, name) is not None:
            raise ValidationError(f"--{name} is how a running daemon is asked: it goes with --server only")
    from fastmesh.api.requests.bodies import CrawlRequest
    from fastmesh.api.requests.reading import read_value
    from fastmesh.commands.crawl import crawl

    loaded = settings_of(asked, {"LOG__LEVEL": "error"})
    settings = loaded.values
    log.configure(settings.log.level, settings.log.format)
    request = read_value(CrawlRequest, request_of(asked))
    return _run(crawl(settings, request, table=asked.output == "table"), loaded)


def _crawl_at(asked: argparse.Namespace) -> int:
    from fastmesh.commands.remote import crawl_at

    for name, flag in SETTING_FLAGS.items():
        if getattr(asked, name) is not None:
            raise ValidationError(f"{flag} is the daemon's own setting: it does not go with --server")
    server, request = server_of(asked), request_of(asked)
    return _run(crawl_at(server, asked.protocol or "ndjson", request, table=asked.output == "table"))


def _demo(asked: argparse.Namespace) -> int:
    from fastmesh.commands.demo import run

    return run(asked.keep)


def _top(asked: argparse.Namespace) -> int:
    from fastmesh.commands.top.live import top

    return _run(top(server_of(asked), asked.interval_s, once=asked.once))


def _token(asked: argparse.Namespace) -> int:
    from fastmesh.api.access.tokens import line_of, new_token

    token = new_token()
    try:
        line = line_of(token, asked.name)
    except ValueError as error:
        raise ValidationError(f"--name: {error}") from None
    print(f"{token}\n{line}")
    print("The first line is the token, for the client; the second one is for AUTH__TOKENS_FILE.", file=sys.stderr)
    return SUCCESS


def _config(asked: argparse.Namespace) -> int:
    from fastmesh.commands.config import reference, show_settings

    if asked.reference:
        print(reference(), end="")
        return SUCCESS
    loaded = settings_of(asked)
    if asked.check:
        from fastmesh.server.serve import check

        log.configure("warning", loaded.values.log.format)
        _run(check(loaded.values), loaded)
        print("the settings are valid")
    else:
        show_settings(loaded)
    return SUCCESS


def _open_standard_files() -> None:
    """Those that were closed are /dev/null: a socket would get their number, and be closed or written to as one."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - for as long as the process lives


def _run(work: Coroutine[Any, Any, T], loaded: config.LoadedSettings | None = None) -> T:
    """What *work* returns; what it refuses of the settings *loaded* is told with their sources."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)
    except ConfigError as error:
        raise error if loaded is None else loaded.explained(error) from None


COMMANDS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = {
    "serve": _serve,
    "crawl": _crawl,
    "demo": _demo,
    "top": _top,
    "token": _token,
    "config": _config,
}


if __name__ == "__main__":
    sys.exit(main())
