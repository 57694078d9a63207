"""Errors that come to rest hold nothing of where they came from."""

from __future__ import annotations

import weakref

from fastmesh.errors import ConnectFailed, bare


class Body:
    """What a frame holds."""


def failed(held: list[weakref.ref[Body]]) -> None:
    body = Body()
    held.append(weakref.ref(body))
    raise OSError("reset")


def test_a_bare_error_holds_no_frame_of_its_own_or_of_what_it_came_from() -> None:
    held: list[weakref.ref[Body]] = []
    rest: list[BaseException] = []
    try:
        try:
            failed(held)
        except OSError as error:
            first = error
            body = Body()
            held.append(weakref.ref(body))
            del body
            raise ConnectFailed("broken") from error
    except ConnectFailed as error:
        rest.append(bare(error))
    assert (str(rest[0]), rest[0].__traceback__, rest[0].__cause__, rest[0].__context__) == ("broken", None, None, None)
    assert first.__traceback__ is None  # and whoever keeps that one, keeps it alone
    assert [ref() for ref in held] == [None, None]


def test_a_group_is_bare_with_all_that_it_holds() -> None:
    held: list[weakref.ref[Body]] = []
    errors = []
    for _ in range(2):
        try:
            failed(held)
        except OSError as error:
            errors.append(error)
    bare(BaseExceptionGroup("two", errors))
    assert [error.__traceback__ for error in errors] == [None, None]
    assert [ref() for ref in held] == [None, None]
