"""How a command ends: its exit status, and what a crawl says when it could not be shown to its end."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

from fastmesh.errors import FastmeshError

SUCCESS: Final = 0
COULD_NOT_RUN: Final = 1
USAGE: Final = 2
SOME_FAILED: Final = 3
INTERRUPTED: Final = 130


async def outcome(shown: Awaitable[dict[str, Any]], stop: Callable[[], object], give_up: Callable[[], object]) -> int:
    """The exit status of a crawl: *shown* shows its frames, and returns the last, the summary.

    The first SIGINT or SIGTERM calls *stop*, and the summary is still waited for; the second calls *give_up*,
    which cancels *shown*.  Raises the FastmeshError that ended the crawl, unless a signal came before it.
    """
    signals: list[None] = []

    def signalled() -> None:
        signals.append(None)
        if len(signals) == 1:
            stop()
        else:
            give_up()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled)
    try:
        summary = await shown
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # its reader has seen enough
            print(f"fastmesh: standard output cannot be written: {error.strerror}", file=sys.stderr)
        return COULD_NOT_RUN
    except FastmeshError as error:
        if not signals:
            raise
        print(f"fastmesh: {error}", file=sys.stderr)
        return INTERRUPTED
    except asyncio.CancelledError:
        return INTERRUPTED
    if signals:
        return INTERRUPTED
    return SUCCESS if summary["successful"] == summary["total_urls"] else SOME_FAILED
