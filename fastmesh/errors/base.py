"""The root of the tree, and what holds for every error below it."""

from __future__ import annotations

from typing import ClassVar, TypeVar

E = TypeVar("E", bound=BaseException)


class FastmeshError(Exception):
    """The root: everything that fastmesh raises on purpose."""


class ConfigError(FastmeshError):
    """A setting is unknown or not allowed; the message names it, its value and its source."""


class TypedError(FastmeshError):
    """An error that a client is told of, by its *type* and its *message*."""

    type: ClassVar[str]
    retryable: bool = False  # whether the same may succeed later

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def types_of(root: type[TypedError]) -> list[str]:
    """The types that *root* and the errors below it have, each once."""
    types = {root.type}
    for error in root.__subclasses__():
        types.update(types_of(error))
    return sorted(types)


def bare(error: E) -> E:
    """*error* without its frames, its cause and its context; all of these let go of theirs, too.

    For every place where an error comes to rest: in a result, in a task that several wait for, in a
    connection.  Its traceback holds all that was at hand where it was raised, a body and its decoder among that,
    and often whoever keeps the error: then it would stay until the collector of cycles looks for it.
    """
    linked: list[BaseException | None] = [error]
    while linked:
        one = linked.pop()
        if one is None:
            continue
        linked += (one.__cause__, one.__context__)
        if isinstance(one, BaseExceptionGroup):
            linked += one.exceptions
        one.__traceback__ = one.__cause__ = one.__context__ = None
    return error
