"""The flags of each command: what argparse reads.  Their meaning is in cli.py."""

from __future__ import annotations

import argparse
from typing import Any

from fastmesh.version import __version__


def make_parser() -> argparse.ArgumentParser:
    """The parser; what it returns has the name of a command in ``command``."""
    parser = argparse.ArgumentParser(
        prog="fastmesh",
        description="Fetches a batch of URLs side by side and streams each page's result the moment it is ready.",
        epilog="Exit status: 0 success, 1 could not run, 2 usage, 3 some URLs failed, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"fastmesh {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    serve = commands.add_parser("serve", help="run the daemon", description="Run the daemon until SIGTERM or SIGINT.")
    _add_settings(serve)
    serve.set_defaults(command="serve")

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
    _add_off(crawl, "--no-dedupe", "dedupe", "fetch a URL as often as it is named")
    crawl.add_argument("--stop-after-errors", type=int, metavar="N", help="end when as many URLs have failed")
    _add_off(crawl, "--no-robots", "respect_robots", "fetch what robots.txt disallows, too")
    crawl.add_argument("--deadline-s", type=float, metavar="S", help="for all of them")
    crawl.add_argument(
        "--include", type=_parts, metavar="PARTS", help="of text,markdown,links,metadata,html (all but html)"
    )
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
    crawl.set_defaults(command="crawl")

    demo = commands.add_parser(
        "demo",
        help="a sample site, a daemon and one stream, without network",
        description="Start a sample site and a daemon on loopback and show one stream over it as a table.",
    )
    demo.add_argument("--keep", action="store_true", help="leave both running until Ctrl-C")
    demo.set_defaults(command="demo")

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
    top.set_defaults(command="top")

    token = commands.add_parser("token", help="make a token", description="Make tokens for clients of a daemon.")
    kinds = token.add_subparsers(title="commands", metavar="COMMAND", required=True)
    new = kinds.add_parser(
        "new",
        help="print a token and its line for AUTH__TOKENS_FILE",
        description="Print a new token, and on a second line what AUTH__TOKENS_FILE has of it: its hash.",
    )
    new.add_argument("--name", metavar="NAME", help="of its client; tokens of one name are one client")
    new.set_defaults(command="token")

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
    show.set_defaults(command="config")
    return parser


def _add_off(parser: argparse.ArgumentParser, flag: str, option: str, help: str) -> None:
    parser.add_argument(flag, dest=option, action="store_false", default=None, help=help)


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


def _parts(text: str) -> list[str]:
    return text.split(",")


class _Joined(argparse.Action):
    """A list that may be written with commas or with the flag repeated."""

    def __call__(self, parser: object, namespace: object, values: Any, option_string: object = None) -> None:
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, values if before is None else f"{before},{values}")
