"""The command line with a bug in the callbacks that read a head; stands before it as a prefix."""

from __future__ import annotations

import sys

from fastmesh.cli import main
from fastmesh.wire.http1 import head

whole = head._Fields.on_header


def on_header(self: head._Fields, name: bytes, value: bytes) -> None:
    if name == b"X-Break":
        raise ZeroDivisionError("secret")
    whole(self, name, value)


head._Fields.on_header = on_header  # type: ignore[method-assign]
sys.exit(main(sys.argv[4:]))  # behind this file: python -m fastmesh.cli
