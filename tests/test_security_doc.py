"""docs/security.md names defences and tests: all of them are there."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILE = re.compile(r"[\w./-]+\.(?:py|pyx|service|socket)")
SETTING = re.compile(r"[A-Z]+__[A-Z0-9_]+")
NAME = re.compile(r"[A-Za-z_]\w*")

Row = tuple[str, str, str]


def rows() -> list[Row]:
    """Attack, defence and tests, of all tables."""
    lines = (ROOT / "docs/security.md").read_text("utf-8").splitlines()
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines if line.startswith("| ")]
    return [(attack, defence, tests) for attack, defence, tests in cells if tests != "test"]


def quoted(cell: str) -> list[str]:
    """What stands between backquotes."""
    return re.findall(r"`([^`]+)`", cell)


@functools.cache
def text_of(name: str) -> str:
    """The text of a file that is named from the root, or from fastmesh/ on."""
    found = [path for path in (ROOT / name, ROOT / "fastmesh" / name) if path.is_file()]
    assert found, f"there is no {name}"
    return found[0].read_text("utf-8")


@functools.cache
def defined_in(name: str) -> frozenset[str]:
    """The tests that *name* defines, those of a class by both names; it is read, and not imported."""
    found = set()
    for node in ast.parse(text_of(name)).body:
        for inner in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and inner.name.startswith("test_"):
                found.add(f"{node.name}::{inner.name}" if isinstance(node, ast.ClassDef) else inner.name)
    return frozenset(found)


def test_there_are_tables_and_every_row_is_whole() -> None:
    assert len(rows()) > 100
    assert all(all(row) for row in rows())
    assert len({row[0] for row in rows()}) == len(rows())


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:60])
def test_what_a_row_names_is_there(row: Row) -> None:
    _, defence, tests = row
    file = None
    for token in quoted(defence):
        if FILE.fullmatch(token):
            file = token
            assert text_of(file)
        elif NAME.fullmatch(token) and not SETTING.fullmatch(token) and file is not None:
            assert re.search(rf"\b{token}\b", text_of(file)), f"{file} has no {token}"
    file = None
    assert quoted(tests)
    for token in quoted(tests):
        name, colons, test = token.partition("::")
        file = name or file
        assert file, token
        assert file.startswith("tests/"), token
        assert colons, token
        plain, _, case = test.removesuffix("]").partition("[")
        assert plain in defined_in(file), f"{file} has no {plain}"
        assert case in text_of(file), f"{file} has no case {case}"
