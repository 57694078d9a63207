"""``fastmesh top``: a running daemon's streams, buffers and rates, from its own API."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from contextlib import suppress

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from fastmesh.client import ClientError, Refused
from fastmesh.client.address import Address, checked_token, trusting
from fastmesh.client.http import Http
from fastmesh.commands.arguments import Server
from fastmesh.commands.outcome import COULD_NOT_RUN, SUCCESS
from fastmesh.commands.table import PLAIN_COLUMNS, clean
from fastmesh.commands.top.picture import picture
from fastmesh.commands.top.sample import Sample, sample_of
from fastmesh.errors import ValidationError

CONNECT_TIMEOUT_S, IDLE_TIMEOUT_S = 3.0, 5.0
ONCE_S = 0.5  # between the two looks that a rate needs
LEAST_S, MOST_S = 0.1, 60.0
UNWELL = frozenset({503})  # of /healthz, whose body says why


async def top(server: Server, interval_s: float, *, once: bool) -> int:
    """Show the daemon at *server* every *interval_s* seconds until SIGINT or SIGTERM; with *once* one picture.  Returns
    the exit status: a daemon that does not answer at first is 1, later it is waited for.  Raises ValidationError."""
    if not LEAST_S <= interval_s <= MOST_S:
        raise ValidationError(f"--interval-s: want {LEAST_S:g} to {MOST_S:g} seconds, got {interval_s:g}")
    terminal = sys.stdout.isatty()
    if not terminal and not once:
        raise ValidationError("standard output is no terminal: --once prints one picture")
    try:
        http = Http(
            Address.parse(server.address),
            token=checked_token(server.token),
            connect_timeout_s=CONNECT_TIMEOUT_S,
            idle_timeout_s=IDLE_TIMEOUT_S,
            tls=trusting(server.cacert),
        )
    except ValueError as error:
        raise ValidationError(f"--server: {error}") from None
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    # FORCE_COLOR must not put escapes into a pipe, so the file itself says whether it is a terminal.
    console = Console(force_terminal=terminal, highlight=False, width=None if terminal else PLAIN_COLUMNS)
    try:
        before = await _look(http)
        if not once:
            await _live(http, server.address, before, interval_s, console, ended)
        elif not await _over(ended, ONCE_S):
            now = await _look(http)
            console.print(picture(server.address, before, now, rows=None, columns=console.width))
    except ClientError as error:
        print(f"fastmesh: {clean(str(error))}", file=sys.stderr)
        return COULD_NOT_RUN
    finally:
        await http.close()
    return SUCCESS


async def _live(
    http: Http, server: str, before: Sample, interval_s: float, console: Console, ended: asyncio.Event
) -> None:
    """Pictures in the terminal's other screen, which leaves nothing behind."""
    with Live(console=console, screen=True, auto_refresh=False) as live:
        shown = picture(server, before, before, rows=console.height, columns=console.width)
        live.update(shown, refresh=True)
        while not await _over(ended, interval_s):
            try:
                now = await _look(http)
            except Refused:
                raise
            except ClientError as error:  # it may come back
                live.update(Group(Text(clean(str(error)), "red"), shown), refresh=True)
                continue
            shown = picture(server, before, now, rows=console.height, columns=console.width)
            live.update(shown, refresh=True)
            before = now


async def _look(http: Http) -> Sample:
    """What the daemon says now.  Raises ClientError."""
    health, streams, metrics = await asyncio.gather(
        http.get("/healthz", also=UNWELL), http.get("/streams"), http.get("/metrics")
    )
    return sample_of(time.monotonic(), health, streams, metrics)


async def _over(ended: asyncio.Event, wait_s: float) -> bool:
    """Wait; True when it shall end."""
    with suppress(TimeoutError):
        await asyncio.wait_for(ended.wait(), wait_s)
    return ended.is_set()
