"""The head of an answer: what is handed on, what is left out and what is refused, the same wherever it is cut."""

from __future__ import annotations

import pytest
from steps import steps

from fastmesh.crawl.fetch.head import MAX_FIELDS, MAX_HEAD_BYTES, MAX_INTERIM_ANSWERS, AnswerHead
from fastmesh.errors import BadResponse

OK = b"HTTP/1.1 200 OK\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
# What one feed may call however the bytes are cut, and what each line of a head may on top of it.
STEPS_A_FEED, STEPS_A_LINE = 24, 12


def read(*parts: bytes) -> tuple[bytes, bytes] | str | None:
    """What becomes of *parts*: the head and what follows it, why it is refused, or None while it is not whole."""
    machine, found, after = AnswerHead(), None, b""

    def feed() -> None:
        nonlocal found, after
        for part in parts:
            if found is None:
                found = machine.feed(part)
            else:
                after += part

    lines = sum(part.count(b"\n") for part in parts)
    try:
        steps(feed, STEPS_A_FEED * (1 + len(parts)) + STEPS_A_LINE * lines)
    except BadResponse as refusal:
        return refusal.message
    assert machine.whole is (found is not None)
    return None if found is None else (found[0], found[1] + after)


def read_everywhere(whole: bytes) -> tuple[bytes, bytes] | str | None:
    """What becomes of *whole*, in two pieces cut at every byte and byte by byte: always the same."""
    found = read(whole)
    for cut in range(len(whole) + 1):
        assert read(whole[:cut], whole[cut:]) == found
    assert read(*(bytes([byte]) for byte in whole)) == found
    return found


@pytest.mark.parametrize(
    ("sent", "head"),
    [
        (OK + b"\r\n", OK + b"\r\n"),
        (OK + b"A: b\r\nSet-Cookie: c=d\r\n\r\n", OK + b"A: b\r\nSet-Cookie: c=d\r\n\r\n"),
        (b"HTTP/1.0 404\r\n\r\n", b"HTTP/1.0 404\r\n\r\n"),
        (b"HTTP/1.1 200 OK\nA: b\n\n", b"HTTP/1.1 200 OK\nA: b\n\n"),
        (b"\r\n\r\n" + OK + b"\r\n", OK + b"\r\n"),
        (b"\n\n" + OK + b"\r\n", OK + b"\r\n"),
        (b"\n\n\n" + INTERIM + b"\n\n\n" + INTERIM + OK + b"\r\n", OK + b"\r\n"),
        (b"HTTP/1.1 100 C\n\n" + OK + b"\r\n", OK + b"\r\n"),
        (b"HTTP/1.1 103 C\r\n\n\n\n" + OK + b"\r\n", OK + b"\r\n"),
        (b"HTTP/1.1 101 Switching\r\n\r\n", b"HTTP/1.1 101 Switching\r\n\r\n"),
        (OK + b"A: \xff\x01\t\x1b\r\n\r\n", OK + b"A: \xff\x01\t\x1b\r\n\r\n"),
        # No fields: left out.
        (OK + b"X-Echo : a\r\nB: c\r\n\r\n", OK + b"B: c\r\n\r\n"),
        (OK + b"PHP Warning: no x.so in Unknown on line 0\r\nB: c\r\n\r\n", OK + b"B: c\r\n\r\n"),
        (OK + b"Lost connection to the database\r\nB: c\r\n\r\n", OK + b"B: c\r\n\r\n"),
        (OK + b": a\r\nB: c\r\n\r\n", OK + b"B: c\r\n\r\n"),
        (OK + b"\xc3\x84: a\r\nB: c\r\n\r\n", OK + b"B: c\r\n\r\n"),
        (OK + b" X: a\r\nB: c\r\n\r\n", OK + b"B: c\r\n\r\n"),
        (OK + b"no field\r\n and more of it\r\nB: c\r\n\r\n", OK + b"B: c\r\n\r\n"),
        # Folded: one line.
        (OK + b"A: b\r\n\tc  \r\n  d: e\r\nF: g\r\n\r\n", OK + b"A: b c d: e\r\nF: g\r\n\r\n"),
    ],
)
def test_a_head_is_cut_out_and_made_plain(sent: bytes, head: bytes):
    assert read_everywhere(sent + b"\r\nbody\n\n") == (head, b"\r\nbody\n\n")


@pytest.mark.parametrize(
    "sent",
    [
        b"\n\nx",
        b"x",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"<html>",
        b"ICY 200 OK\r\n\r\n",
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"http/1.1 200 OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.2 200 OK\r\n\r\n",
        b"HTTP/1.1 000 X\r\n\r\n",
        b"HTTP/1.1 099 X\r\n\r\n",
        b"HTTP/1.1 20 X\r\n\r\n",
        b"HTTP/1.1 2000 X\r\n\r\n",
        b"HTTP/1.1 -20 X\r\n\r\n",
        b"HTTP/1.1 200OK\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 200 a\rb\r\n\r\n",
        b"HTTP/1.1 200 \0\r\n\r\n",
        INTERIM + b"x",
        INTERIM + b"HTTP/1.1 020 X\r\n\r\n",
        OK + b"A: b\0\r\n\r\n",
        OK + b"A: \rTransfer-Encoding: chunked\r\n\r\n",
        OK + b"Content-Length : 5\r\n\r\n",
        OK + b"content-length\t: 5\r\n\r\n",
        OK + b"Content -Length: 5\r\n\r\n",
        OK + b"Content-Length\x0b: 5\r\n\r\n",
        OK + b"\xa0Content-Length: 5\r\n\r\n",
        OK + b" Content-Length: 5\r\n\r\n",
        OK + b"Content-Length 5\r\n\r\n",
        OK + b"Content-Length\r\n\r\n",
        OK + b"TRANSFER-ENCODING : chunked\r\n\r\n",
        OK + b"Content-Encoding : gzip\r\n\r\n",
        OK + b"Connection : close\r\n\r\n",
        OK + b"A: b\r\n Transfer-Encoding: chunked\r\n\r\n",
        OK + b"no field\r\n Transfer-Encoding: chunked\r\n\r\n",
        OK + b"Transfer-Encoding:\r\n chunked\r\n\r\n",
        OK + b"Content-Length: 5\r\n 5\r\n\r\n",
    ],
)
def test_what_is_no_http_or_could_be_read_in_two_ways_is_refused(sent: bytes):
    assert isinstance(read_everywhere(sent), str)


@pytest.mark.parametrize("sent", [b"", b"H", b"\r\n\r\n\n", b"HTTP/1.", b"HTTP/1.1 200 OK\r\n", INTERIM, OK + b"A: b"])
def test_a_part_of_a_head_is_waited_for(sent: bytes):
    assert read_everywhere(sent) is None


# ── its bounds, each where all others hold ──────────────────────────────────────────────


def filled(size: int, before: bytes = b"") -> bytes:
    """*before* and a head, *size* bytes together."""
    return before + OK + b"A: " + b"a" * (size - len(before) - len(OK) - 7) + b"\r\n\r\n"


@pytest.mark.parametrize("before", [b"", b"\n" * 60_000, INTERIM * MAX_INTERIM_ANSWERS])
@pytest.mark.parametrize("over", [0, 1])
def test_so_many_bytes_of_head_are_read_and_no_more(before: bytes, over: int):
    whole = filled(MAX_HEAD_BYTES + over, before)
    expected = (
        f"the origin sent {MAX_HEAD_BYTES} bytes of head without an answer" if over else (filled_head(whole), b"x")
    )
    assert read(whole + b"x") == expected
    for cut in (1, len(before), len(before) + 5, MAX_HEAD_BYTES - 2, MAX_HEAD_BYTES - 1, MAX_HEAD_BYTES):
        assert read(whole[:cut], whole[cut:] + b"x") == expected


def filled_head(whole: bytes) -> bytes:
    return whole[whole.rindex(OK) :]


@pytest.mark.parametrize("over", [0, 1])
def test_so_many_interim_answers_are_passed_over_and_no_more(over: int):
    whole = b"HTTP/1.1 100 C\r\n\r\n" * (MAX_INTERIM_ANSWERS + over) + OK + b"\r\n"
    expected = f"the origin sent more than {MAX_INTERIM_ANSWERS} interim answers" if over else (OK + b"\r\n", b"")
    assert read_everywhere(whole) == expected


@pytest.mark.parametrize("over", [0, 1])
@pytest.mark.parametrize("line", [b"Set-Cookie: a=b\r\n", b"no field\r\n"])
def test_so_many_fields_are_read_and_no_more(over: int, line: bytes):
    found = read(OK + line * (MAX_FIELDS + over) + b"\r\n")
    assert isinstance(found, str) is bool(over)


@pytest.mark.parametrize("endless", [b"\r\n", b"HTTP/1.1 200 " + b"x" * 20_000, INTERIM[:-2]])
def test_a_head_without_end_costs_no_more_than_its_bytes(endless: bytes):
    """In small segments: none of what came before is looked at again."""
    whole = (endless * MAX_HEAD_BYTES)[: MAX_HEAD_BYTES + 1]
    machine = AnswerHead()
    for at in range(0, MAX_HEAD_BYTES - 8, 8):
        assert steps(lambda at=at: machine.feed(whole[at : at + 8]), STEPS_A_FEED) <= STEPS_A_FEED
        assert len(machine._pending) - machine._searched <= 2
    with pytest.raises(BadResponse):
        machine.feed(whole[-9:])
