"""What the docs point at is there: files, headings, settings and types of errors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fastmesh.config import load
from fastmesh.errors import ApiError, UrlError, types_of

ROOT = Path(__file__).parent.parent
DOCS = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md",
        *sorted(ROOT.glob("docs/*.md")), ROOT / "loadtest/README.md"]  # fmt: skip
SETTINGS = {name for name, *_ in load({}, environ={}).table()}


def anchors(text: str) -> set[str]:
    """The anchors of its headings, as GitHub makes them, and those that are written out."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    made = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    return made | set(re.findall(r'<a id="([^"]+)">', text))


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file.read_text()), target


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_is_named_exists(path: Path) -> None:
    """From the root, from fastmesh/ as in the map of the house, or from deploy/ as in what stands about it."""
    named = set(
        re.findall(r"(?<![\w./:-])(?:[\w.-]+/)+[\w.-]+\.(?:py|pyx|pyi|md|json|svg|yml|conf|toml)\b", path.read_text())
    )
    folders = (ROOT, ROOT / "fastmesh", ROOT / "deploy", path.parent)
    assert [name for name in sorted(named) if not any((folder / name).exists() for folder in folders)] == []


def test_a_decision_has_its_four_parts_and_its_number() -> None:
    records = re.split(r"^### ", (ROOT / "docs/decisions.md").read_text(), flags=re.MULTILINE)[1:]
    for number, record in enumerate(records, 1):
        assert record.startswith(f"{number}. "), record[:60]
        labels = re.findall(r"^\*\*(\w+):\*\* (?=\S)", record, re.MULTILINE)
        assert labels == ["Context", "Decision", "Consequence", "Figures"], record[:60]
        assert "**Figures:** none." not in record, record[:60]  # it says what holds it instead


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_setting_that_is_named_exists(path: Path) -> None:
    named = set(re.findall(r"\b(?:FASTMESH_)?([A-Z]+__[A-Z0-9_]+)\b(?!…)", path.read_text()))
    assert named - SETTINGS <= {"SECTION__NAME", "STREAM__MAX_URL"}, named - SETTINGS


def test_every_type_of_error_is_in_the_protocol_and_has_a_way_out() -> None:
    protocol, troubleshooting = ((ROOT / f"docs/{name}.md").read_text() for name in ("protocol", "troubleshooting"))
    for kind in (*types_of(ApiError), *types_of(UrlError)):
        assert f"`{kind}`" in protocol or kind == "too_many_errors" or kind == "internal_error", kind
    for kind in types_of(UrlError):
        assert f"`{kind}`" in troubleshooting or kind in ("internal", "decode", "too_many_redirects"), kind


def test_every_type_of_error_that_has_a_way_out_exists() -> None:
    tables = re.findall(
        r"^\|[^|\n]*`error\.type` .*\n\|-.*\n((?:\|.*\n)+)",
        (ROOT / "docs/troubleshooting.md").read_text(),
        re.MULTILINE,
    )
    assert len(tables) == 2  # of requests and of pages
    named = {
        kind
        for table in tables
        for cell in re.findall(r"^\|([^|]*)", table, re.MULTILINE)
        for kind in re.findall(r"`(\w+)`", cell)
    }
    assert named <= {*types_of(ApiError), *types_of(UrlError)}
