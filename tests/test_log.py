"""What a log line may show."""

from __future__ import annotations

import json
import logging
import unicodedata
from collections.abc import Callable, Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from fastmesh.telemetry import log
from fastmesh.telemetry.log import printable, without_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:secret@site.test/path", "https://***@site.test/path"),
        ("https://user:se@cret@site.test/", "https://***@site.test/"),
        ("https://secret@site.test", "https://***@site.test"),
        ("http://site.test/a?q=x&token=abc", "http://site.test/a?q=***&token=***"),
        ("http://site.test/a?q=x;sid=abc", "http://site.test/a?q=***;sid=***"),
        ("http://site.test/?secret", "http://site.test/?***"),
        ("http://site.test/#access_token=abc", "http://site.test/#***"),
        ("http://site.test/a?b=http://u:p@c/?d=e", "http://site.test/a?b=***"),
        ("HTTP:\\\\user:secret@site.test\\?a=b", "HTTP:\\\\***@site.test\\?a=***"),
        ("postgres://user:secret@db", "postgres://***@db"),
        (
            "'http://site.test/?a=b' failed, http://c.test/?d=e too",
            "'http://site.test/?a=***' failed, http://c.test/?d=*** too",
        ),
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer ***"),
        ("basic dXNlcjpzZWNyZXQ=", "basic ***"),
        ("nothing: to? see= here@all", "nothing: to? see= here@all"),
        ("http://site.test/plain/path", "http://site.test/plain/path"),
    ],
)
def test_no_secret_of_a_url_or_a_header_is_shown(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


@given(st.text(), st.text("abcdefgh", min_size=3).map("SECRET{}".format))
def test_wherever_it_stands_a_password_is_hidden(around: str, secret: str) -> None:
    assert secret not in without_secrets(
        f"{around} http://user:{secret}@site.test/?key={secret}&{secret}#{secret} {around}"
    )


@given(st.text())
def test_a_terminal_obeys_nothing_that_is_shown(text: str) -> None:
    shown = printable(text)
    assert not {unicodedata.category(char) for char in shown} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    if all(unicodedata.category(char)[0] in "LNPS" for char in text):
        assert shown == text


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """Says what was logged; the rest of the process logs as before."""
    root = logging.getLogger()
    before, bound = (root.handlers, root.level), log.get_logger().bound
    yield lambda: capsys.readouterr().err
    root.handlers, root.level = before
    logging.captureWarnings(False)
    structlog.reset_defaults()
    log.get_logger().bound = bound


HOSTILE = "http://u:pass@a.test/?k=v \x1b]0;title\x07\x9b31m\x7f\u202e\u2028\r\n"


@pytest.mark.parametrize("format_", ["json", "console"])
def test_fields_nested_ones_and_tracebacks_are_safe(written: Callable[[], str], format_: str) -> None:
    log.configure("info", format_)  # type: ignore[arg-type]
    try:
        raise ValueError(HOSTILE)
    except ValueError as error:
        log.get_logger().error(
            "event.name", text=HOSTILE, inner={"url": HOSTILE, HOSTILE: [HOSTILE]}, token="abcdef", exc_info=error
        )
    text = written()
    assert "pass" not in text.replace("bypass", "")
    assert "abcdef" not in text
    assert "k=v" not in text
    assert not set(text) & set("\x1b\x07\x9b\x7f\u202e\u2028\r")
    assert "ValueError" in text
    if format_ == "json":
        (line,) = text.splitlines()
        event = json.loads(line)
        assert (event["event"], event["level"], event["token"]) == ("event.name", "error", "***")
        assert "\\x1b" in event["text"]


def test_what_libraries_log_becomes_an_event(written: Callable[[], str]) -> None:
    log.configure("info", "json")
    logging.getLogger("some.library").warning("cannot reach %s", "http://u:p@a.test/?k=v \x1b")
    logging.getLogger("some.library").info("chatter")
    event = json.loads(written())
    event.pop("timestamp")
    assert event == {
        "event": "library.message",
        "level": "warning",
        "logger": "some.library",
        "message": "cannot reach http://***@a.test/?k=*** \\x1b",
    }
