"""The root of the tree, and what holds for all errors below it."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

E = TypeVar("E", bound=BaseException)


class FastmeshError(Exception):
    """Everything that fastmesh raises on purpose."""


class ConfigError(FastmeshError):
    """A setting is unknown or not allowed; the message names it, its value and its source."""


class TypedError(FastmeshError):
    """An error that a client is told of; *type* is one of docs/protocol.md."""

    type: ClassVar[str]
    retryable: bool = False  # whether the same may succeed later

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def as_json(self) -> dict[str, Any]:
        """What a client is told."""
        return {"type": self.type, "message": self.message, "retryable": self.retryable}


def types_of(root: type[TypedError]) -> list[str]:
    """The types that *root* and the errors below it have, each once."""
    types = {root.type}
    for error in root.__subclasses__():
        types.update(types_of(error))
    return sorted(types)


def bare(error: E) -> E:
    """*error* without its traceback, its cause and its context, which lose theirs, too.

    For every place that keeps an error: a result, a task that several wait for, a connection.  A traceback holds
    the local variables of each function that the error passed, a page's body and its decoder among them, and
    often the object that keeps the error: such a cycle would stay until the garbage collector looks for it.
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
