"""How much a body may hold, judged before its model reads it.

The loop stands still while a body is read, and its bytes do not bound for how long: a parser of JSON makes an object in
a tenth of a microsecond, a model takes one or two for a value and sixteen for an error, and 1 MB holds half a million
of any of them, which took seconds.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from fastmesh.errors import ValidationError

MAX_FIELDS: Final = 64  # of an object, and of a list other than urls; those of our models have half of it at most
VALUES_A_URL: Final = 16  # a URL object with every option has so many, and a few headers
SMALL_BYTES: Final = 512  # so few hold 85 fields at most
MARKS_A_VALUE: Final = 4  # brackets, colons and commas in a text, where those in strings count too
LEAST_MARKS: Final = 65_536  # so many take a millisecond or two to parse

_HOLD_PARTS: Final = (dict, list)


def too_many_urls(count: int, most: int) -> ValidationError:
    """The refusal of *count* URLs where *most* are allowed."""
    return ValidationError(f"urls: {count} were given, {most} are allowed (STREAM__MAX_URLS)", field="urls")


def parsed(text: bytes, max_urls: int) -> Any:
    """The JSON of *text*, which asks for *max_urls* URLs at most; refuse_crowd() judges what came out.

    Raises ValidationError where it is none, or would take long.  Of a name that is
    given twice the last one counts, as in JavaScript and Python.
    """
    if len(text) > LEAST_MARKS:
        marks = len(text) - len(text.translate(None, b"[{:,"))
        if marks > max(LEAST_MARKS, MARKS_A_VALUE * _most(max_urls)):
            raise ValidationError(f"there are {marks} brackets, colons and commas: more than any request has")
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValidationError(f"want JSON: {error}") from None


def refuse_crowd(given: Any, text: bytes, max_urls: int) -> None:
    """Raises ValidationError where *given*, the JSON of *text*, holds more than a request with *max_urls* may."""
    if len(text) <= SMALL_BYTES:
        return
    urls = given.get("urls") if type(given) is dict else None
    if type(urls) is list and len(urls) > max_urls:
        raise too_many_urls(len(urls), max_urls)
    most = _most(max_urls)
    left = most
    waiting = [given] if type(given) in _HOLD_PARTS else []
    for value in waiting:  # which grows
        left -= len(value)
        if left < 0:
            raise ValidationError(f"there are over {most} values, {VALUES_A_URL} for each URL that may be given")
        if len(value) > MAX_FIELDS and value is not urls:
            raise ValidationError(f"an object or a list may have {MAX_FIELDS} values, there is one of {len(value)}")
        parts = value.values() if type(value) is dict else value
        waiting.extend([part for part in parts if type(part) in _HOLD_PARTS])


def _most(max_urls: int) -> int:
    return 2 * MAX_FIELDS + VALUES_A_URL * max_urls
