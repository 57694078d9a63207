"""The table for people: every row once, and nothing that strangers wrote is obeyed."""

from __future__ import annotations

import io
import re
import sys
import unicodedata
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from fastmesh.commands.table import ResultTable, clean

Frame = dict[str, Any]

HOSTILE = [
    "\x1b[2J\x1b[31mred",
    "\x9b31mred",
    "\x1b]0;title\x07",
    "\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\",
    "over\rwrite\b\b",
    "two\nlines\u2028three",
    "\u202egnp.exe\u2066",
    "[bold red]markup[/] [/nothing] [link=http://evil.example]x[/link]",
    "\ud800 half \udfff",
    "Z" + "\u0335" * 3000,
    "\0\x7f\x85\ue000\ufdd0",
    ":smile: \\[x]",
]


def result(index: int, url: str = "http://127.0.0.1/page", title: str | None = "A page", **error: Any) -> Frame:
    document = None if error else {"title": title, "word_count": 12}
    found = {
        "url": url,
        "status": error.pop("status", 200),
        "bytes": 345,
        "processing_time_ms": 6.7,
        "document": document,
        "error": error or None,
    }
    return {"type": "result", "index": index, "result": found, "progress": {"completed": index + 1, "total": 1000}}


METADATA: Frame = {"type": "metadata", "seq": 1, "total_urls": 2}
SUMMARY: Frame = {
    "type": "summary",
    "status": "cancelled",
    "total_urls": 3,
    "successful": 1,
    "failed": 1,
    "cancelled": 1,
    "throughput_per_second": 2.0,
    "total_processing_time_ms": 1000.0,
}


def shown(
    frames: list[Frame], *, terminal: bool = False, columns: int = 100, encoding: str = "utf-8", **kw: Any
) -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="")
    with ResultTable(Console(file=file, force_terminal=terminal, width=columns, height=10), **kw) as table:
        for frame in frames:
            table.take(frame)
    file.flush()
    return raw.getvalue().decode(encoding)


def test_a_pipe_gets_plain_lines():
    frames = [METADATA, result(1), result(0, title=None, type="http_status", status=404), SUMMARY]
    assert [line.split() for line in shown(frames).splitlines()] == [
        ["#", "URL", "result", "title", "words", "bytes", "ms"],
        ["1", "127.0.0.1/page", "200", "A", "page", "12", "345", "7"],
        ["0", "127.0.0.1/page", "404", "http_status", "-", "-", "7"],
        "cancelled: 3 URLs in 1.0 s (2.0/s), 1 succeeded, 1 failed, 1 not fetched".split(),
    ]


def test_a_pipe_gets_each_line_at_once_and_whole():
    read = io.StringIO()
    url, title = "http://a.example/" + "x" * 200, "long " * 90 + "title"
    table = ResultTable(Console(file=read, force_terminal=False, width=40))
    table.take(result(0, url, title))
    assert url.removeprefix("http://") in read.getvalue()
    assert title in read.getvalue()


def test_a_pipe_stays_plain_when_colours_are_forced(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setattr(sys, "stdout", read := io.StringIO())
    with ResultTable() as table:
        table.take(METADATA)
        table.take(result(0, type="timeout"))
        table.take(SUMMARY)
    assert "\x1b" not in read.getvalue()
    assert "timeout" in read.getvalue()


def test_the_base_is_left_out():
    assert " /page  " in shown([result(0)], base="http://127.0.0.1")


def test_a_reader_that_went_away_is_an_error_and_not_an_exit():
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        ResultTable(Console(file=Gone(), force_terminal=False)).take(METADATA)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("terminal", [False, True])
def test_hostile_text_is_shown_and_not_obeyed(text: str, terminal: bool):
    harmless = shown([METADATA, result(0, "http://a.example/x", "x")], terminal=terminal)
    hostile = shown([METADATA, result(0, "http://a.example/" + text, text, type=text), SUMMARY], terminal=terminal)
    both = shown([METADATA, result(0, "http://a.example/" + text, text), SUMMARY], terminal=terminal)
    for output in (hostile, both):
        # Of controls there are those that the table itself writes, and in a pipe none but line ends.
        assert controls(output) <= (controls(harmless) if terminal else {"\n"})
        assert "\x1b]" not in output
        assert "\x1b[2J" not in output
        assert output.count("\n") == harmless.count("\n") + 1
        assert "\u0335" * 3 not in output


def controls(text: str) -> set[str]:
    return {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}


@pytest.mark.parametrize("text", HOSTILE)
def test_cleaned_text_is_one_line_without_controls(text: str):
    assert not controls(clean(text))


def test_ordinary_text_stays_as_it_is():
    for text in ("Grüße", "山の温泉案内", "Чай в дороге", "e\u0301te\u0301", "[1] x", "हिन्दी", "שלום", "🦊"):
        assert clean(text) == text


def test_markup_in_a_title_is_text():
    title = "[bold red]not red[/]"
    assert title in shown([result(0, title=title)], terminal=True, columns=140)


def test_a_file_that_knows_fewer_characters_gets_question_marks():
    output = shown([METADATA, result(0, title="山 and …"), SUMMARY], encoding="ascii")
    assert " ? and ?" in output


@pytest.mark.parametrize("columns", [20, 60, 80, 100, 200])
def test_a_terminal_row_fits_its_width(columns: int):
    url, title = "http://site.example/" + "漢字/" * 40, "山の温泉案内 " * 30
    for line in rows(shown([METADATA, result(0, url, title)], terminal=True, columns=columns)):
        assert cell_len(line) <= columns


def test_a_long_url_keeps_its_host_and_its_end():
    output = shown([result(0, "http://site.example/" + "deep/" * 40 + "page.html")], terminal=True, columns=120)
    assert "site.example/" in output
    assert "/page.html" in output


def test_a_long_batch_leaves_every_row_on_a_terminal():
    frames = [{**METADATA, "total_urls": 1000}, *(result(n, f"http://a.example/{n}.html") for n in range(1000))]
    output = shown([*frames, SUMMARY], terminal=True)
    assert [line.split()[1] for line in rows(output) if ".html" in line] == [f"a.example/{n}.html" for n in range(1000)]
    assert "cancelled: 3 URLs" in rows(output)[-1]


def test_frames_that_are_not_for_people_are_passed_over():
    frames: list[Frame] = [{"type": "heartbeat"}, {"type": "progress"}, {"type": "news"}]
    assert shown(frames) == ""


def test_a_gap_and_a_failed_stream_are_said():
    gap = {"type": "gap", "from_seq": 3, "to_seq": 9, "reason": "slow_client"}
    error = {"type": "error", "error": {"type": "internal", "message": "a\x1b[31m fault"}}
    assert shown([gap, error]).splitlines() == [
        "frames 3 to 9 were not sent here: slow_client",
        "the stream failed: internal: a\ufffd[31m fault",
    ]


def rows(output: str) -> list[str]:
    """What stays on the screen: *output* without escapes and without lines that were written over."""
    lines = [line.split("\x1b[2K")[-1] for line in output.splitlines()]
    plain = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in lines]
    return [line for line in plain if line.strip() and "━" not in line]
