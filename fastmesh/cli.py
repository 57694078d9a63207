"""The command ``fastmesh``.

Exit status: 0 success, 1 could not run, 2 usage, 3 some URLs failed, 130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from fastmesh import config
from fastmesh.api.requests.bodies import CrawlRequest
from fastmesh.api.requests.reading import read_value
from fastmesh.commands.config import reference, show_settings
from fastmesh.errors import ConfigError, FastmeshError, ValidationError
from fastmesh.telemetry import log, standard_files
from fastmesh.version import __version__

if TYPE_CHECKING:
    from fastmesh.commands.remote import Server

COULD_NOT_RUN, USAGE, INTERRUPTED = 1, 2, 130

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
    parser = _parser()
    asked = parser.parse_args(arguments)
    try:
        status = asked.run(asked)
        sys.stdout.flush()
        return int(status)
    except FastmeshError as error:
        print(f"fastmesh: {error}", file=sys.stderr)
        return USAGE if isinstance(error, ValidationError) else COULD_NOT_RUN
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Python would complain once more when it flushes standard output at its end.
        sys.stdout = None
        return COULD_NOT_RUN


# ── the commands ─────────────────────────────────────────────────────────────────────────


def _serve(asked: argparse.Namespace) -> int:
    from fastmesh.server.serve import serve

    standard_files.unblock(log.report_lost)
    first = _loaded(asked)  # what a start refuses is told with their sources

    def load() -> config.Settings:
        settings = _loaded(asked).values
        log.configure(settings.log.level, settings.log.format)
        return settings

    def announce(address: str) -> None:
        print(f"fastmesh {__version__} listening on {address}", flush=True)

    _run(serve(load, announce), first)
    return 0


def _crawl(asked: argparse.Namespace) -> int:
    if asked.server is not None:
        return _crawl_at(asked)
    for name in ("protocol", "token", "cacert"):
        if getattr(asked, name) is not None:
            raise ValidationError(f"--{name} is how a running daemon is asked: it goes with --server only")
    from fastmesh.commands.crawl import crawl

    loaded = _loaded(asked, {"LOG__LEVEL": "error"})
    settings = loaded.values
    log.configure(settings.log.level, settings.log.format)
    request = read_value(CrawlRequest, _request(asked))
    return int(_run(crawl(settings, request, table=asked.output == "table"), loaded))


def _crawl_at(asked: argparse.Namespace) -> int:
    from fastmesh.commands.remote import crawl_at

    for name, flag in SETTING_FLAGS.items():
        if getattr(asked, name) is not None:
            raise ValidationError(f"{flag} is the daemon's own setting: it does not go with --server")
    server, request = _server(asked), _request(asked)
    return int(_run(crawl_at(server, asked.protocol or "ndjson", request, table=asked.output == "table")))


def _server(asked: argparse.Namespace) -> Server:
    """The daemon that is asked, and what it is shown."""
    from fastmesh.commands.remote import Server

    return Server(asked.server, asked.token or os.environ.get(config.TOKEN_VARIABLE) or None, asked.cacert)


def _demo(asked: argparse.Namespace) -> int:
    from fastmesh.commands.demo import run

    return run(asked.keep)


def _top(asked: argparse.Namespace) -> int:
    from fastmesh.commands.top import top

    return int(_run(top(_server(asked), asked.interval_s, once=asked.once)))


def _token(asked: argparse.Namespace) -> int:
    from fastmesh.api.access.tokens import line_of, new_token

    token = new_token()
    try:
        line = line_of(token, asked.name)
    except ValueError as error:
        raise ValidationError(f"--name: {error}") from None
    print(f"{token}\n{line}")
    print("The first line is the token, for the client; the second one is for AUTH__TOKENS_FILE.", file=sys.stderr)
    return 0


def _config(asked: argparse.Namespace) -> int:
    if asked.reference:
        print(reference(), end="")
        return 0
    loaded = _loaded(asked)
    if asked.check:
        from fastmesh.server.serve import check

        log.configure("warning", loaded.values.log.format)
        _run(check(loaded.values), loaded)
        print("the settings are valid")
    else:
        show_settings(loaded)
    return 0


def _open_standard_files() -> None:
    """Those that were closed are /dev/null: a socket would get their number, and be closed or written to as one."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - for as long as the process lives


def _run(main_task: Coroutine[Any, Any, Any], loaded: config.LoadedSettings | None = None) -> Any:
    """Run it; what it refuses of the settings *loaded* is told with their sources."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main_task)
    except ConfigError as error:
        raise error if loaded is None else loaded.explained(error) from None


# ── what was asked ───────────────────────────────────────────────────────────────────────


def _loaded(asked: argparse.Namespace, defaults: dict[str, str] | None = None) -> config.LoadedSettings:
    """The settings of all sources; *defaults* are this command's own, where no source says anything."""
    return config.load(_flags(asked), config=asked.config, defaults=defaults)


def _flags(asked: argparse.Namespace) -> dict[str, Any]:
    """The flags that stand for settings: those whose destination is a setting's name."""
    return {name: value for name, value in vars(asked).items() if "__" in name}


def _request(asked: argparse.Namespace) -> dict[str, Any]:
    """The body that the daemon would be sent.  Raises ValidationError."""
    urls = [*asked.urls]
    for name in asked.file:
        urls += _lines(name)
    if not urls:
        raise ValidationError("no URL was given: name some, or --file F with one a line (- is standard input)")
    options = {
        "concurrency": asked.concurrency,
        "timeout_ms": asked.timeout_ms,
        "include": asked.include and asked.include.split(","),
        "extractor": asked.extractor,
        "cache_mode": asked.cache_mode,
        "max_age_s": asked.max_age_s,
        "cookies": asked.cookies,
        "user_agent": asked.user_agent,
        "max_body_bytes": asked.max_body_bytes,
        "retries": asked.retries,
        "order": asked.order,
        "dedupe": False if asked.no_dedupe else None,
        "stop_after_errors": asked.stop_after_errors,
        "respect_robots": False if asked.no_robots else None,
        "headers": _headers(asked.header) or None,
    }
    return {
        "urls": urls,
        "options": {name: value for name, value in options.items() if value is not None},
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
    headers = dict(map(_header, lines))
    if len(headers) < len(lines):
        raise ValidationError("--header: one name is there more than once, and which value is meant is not said")
    return headers


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise ValidationError(f"--header {text!r}: want 'Name: value'")
    return name.strip(), value.strip()


# ── the flags ────────────────────────────────────────────────────────────────────────────


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastmesh",
        description="Fetches a batch of URLs side by side and streams each page's result the moment it is ready.",
        epilog="Exit status: 0 success, 1 could not run, 2 usage, 3 some URLs failed, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"fastmesh {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    serve = commands.add_parser("serve", help="run the daemon", description="Run the daemon until SIGTERM or SIGINT.")
    _add_settings(serve)
    serve.set_defaults(run=_serve)

    crawl = commands.add_parser(
        "crawl",
        help="crawl URLs, without a daemon or by a running one",
        description="Crawl URLs without a daemon, or by a running one: one JSON frame a line on standard output.",
    )
    crawl.add_argument("urls", metavar="URL", nargs="*")
    crawl.add_argument("--file", metavar="F", action="append", default=[], help="URLs, one a line; - is standard input")
    crawl.add_argument("--server", metavar="ADDRESS", help="use the daemon at http://host:port or unix:/path")
    crawl.add_argument("--protocol", choices=("ndjson", "sse", "ws"), help="how that daemon is asked (ndjson)")
    _add_access(crawl)
    crawl.add_argument("--output", choices=("ndjson", "table"), default="ndjson")
    crawl.add_argument("--concurrency", type=int, metavar="N", help="URLs under way at once, 1 to 256 (16)")
    crawl.add_argument("--timeout-ms", type=float, metavar="MS", help="for one URL")
    crawl.add_argument("--max-body-bytes", type=int, metavar="N", help="of one page, decompressed")
    crawl.add_argument("--retries", type=int, metavar="N", help="of one URL, where trying again may help (2)")
    crawl.add_argument("--order", choices=("completion", "input"), help="in which results come (completion)")
    crawl.add_argument("--no-dedupe", action="store_true", help="fetch a URL as often as it is named")
    crawl.add_argument("--stop-after-errors", type=int, metavar="N", help="end when as many URLs have failed")
    crawl.add_argument("--no-robots", action="store_true", help="fetch what robots.txt disallows, too")
    crawl.add_argument("--deadline-s", type=float, metavar="S", help="for all of them")
    crawl.add_argument("--include", metavar="PARTS", help="of text,markdown,links,metadata,html (all but html)")
    crawl.add_argument(
        "--cache-mode",
        choices=("read_through", "bypass", "refresh", "cache_only"),
        help="whether kept pages are read and pages kept (read_through)",
    )
    crawl.add_argument("--max-age-s", type=float, metavar="S", help="take nothing from the cache that is as old")
    crawl.add_argument(
        "--cookies", choices=("redirects", "none"), help="whether what a redirect sets is given back (redirects)"
    )
    crawl.add_argument("--extractor", choices=("fast", "quality"), help="how main content is found (fast)")
    crawl.add_argument("--user-agent", metavar="TEXT")
    crawl.add_argument("--header", metavar="'NAME: VALUE'", action="append", default=[], help="sent with every fetch")
    _add_common(crawl)
    crawl.set_defaults(run=_crawl)

    demo = commands.add_parser(
        "demo",
        help="a sample site, a daemon and one stream, without network",
        description="Start a sample site and a daemon on loopback and show one stream over it as a table.",
    )
    demo.add_argument("--keep", action="store_true", help="leave both running until Ctrl-C")
    demo.set_defaults(run=_demo)

    top = commands.add_parser(
        "top",
        help="streams, buffers and rates of a running daemon, live",
        description="Show streams, buffers and rates of a running daemon, live, until Ctrl-C.",
    )
    top.add_argument(
        "--server",
        metavar="ADDRESS",
        default="http://127.0.0.1:8080",
        help="the daemon at http://host:port or unix:/path (http://127.0.0.1:8080)",
    )
    _add_access(top)
    top.add_argument("--once", action="store_true", help="print one picture and end")
    top.add_argument("--interval-s", type=float, metavar="S", default=1.0, help="between pictures, 0.1 to 60 (1)")
    top.set_defaults(run=_top)

    token = commands.add_parser("token", help="make a token", description="Make tokens for clients of a daemon.")
    kinds = token.add_subparsers(title="commands", metavar="COMMAND", required=True)
    new = kinds.add_parser(
        "new",
        help="print a token and its line for AUTH__TOKENS_FILE",
        description="Print a new token, and on a second line what AUTH__TOKENS_FILE has of it: its hash.",
    )
    new.add_argument("--name", metavar="NAME", help="of its client; tokens of one name are one client")
    new.set_defaults(run=_token)

    show = commands.add_parser(
        "config", help="show every setting", description="Show every setting with its value, source and unit."
    )
    instead = show.add_mutually_exclusive_group()
    instead.add_argument("--check", action="store_true", help="only say whether a daemon would start with them")
    instead.add_argument(
        "--reference",
        action="store_true",
        help="what there is to set, as Markdown: defaults, bounds, what a reload takes",
    )
    _add_settings(show)
    show.set_defaults(run=_config)
    return parser


def _add_access(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--token", help="shown to that daemon; FASTMESH_TOKEN is better, which no process list shows")
    parser.add_argument("--cacert", metavar="FILE", help="PEM: who signed that daemon's certificate, if not the system")


def _add_settings(parser: argparse.ArgumentParser) -> None:
    flags = parser.add_argument_group("settings (all of them: fastmesh config)")
    flags.add_argument("--host", dest="SERVER__HOST", metavar="ADDRESS", help="address to bind (127.0.0.1)")
    flags.add_argument("--port", dest="SERVER__PORT", metavar="PORT", help="port to bind, 0 picks a free one (8080)")
    flags.add_argument("--uds", dest="SERVER__UDS", metavar="PATH", help="Unix socket to bind instead")
    _add_common(flags)


def _add_common(flags: argparse._ActionsContainer) -> None:
    flags.add_argument("--config", metavar="FILE", help="settings as TOML")
    flags.add_argument(
        "--allow-network",
        dest="FETCH__ALLOW_NETWORKS",
        metavar="NETWORK",
        action=_Joined,
        help="may be fetched although private or loopback, e.g. 127.0.0.0/8; may be repeated",
    )
    flags.add_argument("--log-format", dest="LOG__FORMAT", metavar="FORMAT", help="json or console")
    flags.add_argument("--log-level", dest="LOG__LEVEL", metavar="LEVEL", help="debug, info, warning or error")


class _Joined(argparse.Action):
    """A list that may be written with commas or with the flag repeated."""

    def __call__(self, parser: object, namespace: object, values: Any, option_string: object = None) -> None:
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, values if before is None else f"{before},{values}")


if __name__ == "__main__":
    sys.exit(main())
