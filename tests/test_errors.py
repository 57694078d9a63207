"""What an error says of itself, and that errors at rest hold nothing of where they came from."""

from __future__ import annotations

import weakref

import pytest

from fastmesh.errors import ApiError, BlockedAddress, ConnectFailed, HttpStatus, Reach, UrlError, bare


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


def below(root: type[UrlError]) -> list[type[UrlError]]:
    return [root, *(deeper for child in root.__subclasses__() for deeper in below(child))]


def test_a_fault_is_where_nobody_answered_in_time_or_nothing_could_be_made_of_it() -> None:
    faults = {kind.type for kind in below(UrlError)[1:] if kind.fault}
    assert faults == {"dns", "connect", "tls", "timeout", "extract", "internal"}


def test_what_may_be_there_in_a_moment_is_unreached_and_what_nobody_may_fetch_is_absent() -> None:
    reach: dict[Reach, set[str]] = {one: set() for one in Reach}
    for kind in below(UrlError):
        if kind not in (HttpStatus, BlockedAddress):
            reach[kind.reach].add(kind.type)
    assert reach == {
        Reach.UNREACHED: {"dns", "connect", "tls", "timeout", "bad_response"},
        Reach.ABSENT: {"invalid_url", "too_many_redirects"},
        Reach.BROKEN: set("internal robots too_large unsupported_content decode cache_miss extract".split()),
    }


@pytest.mark.parametrize(
    ("error", "reach"),
    [
        (HttpStatus(404), Reach.ABSENT),
        (HttpStatus(429), Reach.ABSENT),
        (HttpStatus(499), Reach.ABSENT),
        (HttpStatus(500), Reach.BROKEN),
        (BlockedAddress("10.0.0.1"), Reach.ABSENT),
        (BlockedAddress("a name that leads to 10.0.0.1", by_name=True), Reach.UNREACHED),
    ],
)
def test_a_status_and_a_refused_address_say_it_by_what_they_are_of(error: UrlError, reach: Reach) -> None:
    assert error.reach is reach


def test_only_a_stream_that_asked_for_its_error_is_no_fault_of_the_daemon() -> None:
    assert {kind.type for kind in ApiError.__subclasses__() if kind.asked_for} == {"too_many_errors"}
