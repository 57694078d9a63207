"""The import table: which room may know which (docs/architecture.md, Rooms)."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "fastmesh"

VALUES = {
    "version",
    "errors",
    "config",
    "events",
    "telemetry",
}

# A room, and the rooms that it may import from beside itself.
MAY_IMPORT: dict[str, set[str]] = {
    "_core": set(),
    "version": set(),
    "errors": set(),
    "config": {"version", "errors"},
    "events": {"errors"},
    "telemetry": {"_core", "config", "errors", "version"},
    "wire": {"_core"} | VALUES,
    "store": {"_core"},
    "streaming": {"_core", "store", "wire"} | VALUES,
    "crawl": VALUES,
    "api": {"_core", "streaming", "crawl", "wire"} | VALUES,
    "server": {"_core", "api", "streaming", "wire"} | VALUES,
    "demo": VALUES,
    "client": {"version", "errors"},
    "commands": {"server", "api", "streaming", "wire", "demo", "client"} | VALUES,
    "cli": {"commands", "server", "api"} | VALUES,
}

# Within a room: a folder or a file, and which others of the room it may import from.
WITHIN: dict[str, dict[str, set[str]]] = {
    "errors": {"base": set(), "api": {"base"}, "url": {"base"}},
    "config": {
        "cores": set(),
        "declare": set(),
        "sections": {"cores", "declare"},
        "model": {"declare", "sections"},
        "describe": {"declare", "model"},
        "sources": {"model", "describe"},
    },
    "telemetry": {
        "log": set(),
        "rates": set(),
        "trace": set(),
        "standard_files": set(),
        "bugs": {"log", "rates"},
        "metrics": {"bugs"},
        "spans": {"bugs", "log", "trace"},
    },
    "wire": {"http1": set(), "websocket": {"http1"}, "encoders": set()},
    "streaming": {
        # values, policies and machines
        "lifecycle": set(),
        "pacer": set(),
        "dropping": set(),
        "window": set(),
        "memory": {"window"},
        "ports": set(),
        # one stream
        "subscriber": {"dropping", "ports", "window"},
        "audience": {"subscriber"},
        "retention": {"memory", "pacer", "ports", "subscriber"},
        "admission": {"lifecycle", "retention"},
        "pipeline": {
            *("lifecycle", "pacer", "memory", "ports"),
            *("subscriber", "audience", "retention", "admission"),
        },
        "fill": {"lifecycle", "pipeline", "ports"},
        # all streams
        "clients": set(),
        "lag": set(),
        "registry": {
            *("clients", "dropping", "memory", "ports", "subscriber", "pipeline"),
        },
        "reclaim": {"memory", "registry", "retention"},
        "upkeep": {"lag", "memory", "pipeline", "registry", "subscriber"},
        "health": {"memory", "registry", "upkeep"},
        "module": {"health", "memory", "pipeline", "reclaim", "registry", "upkeep"},
    },
    "crawl": {
        "net": set(),
        "fairness": set(),
        "single_flight": set(),
        "extract": {"net", "fairness"},
        "options": {"extract"},
        "cache": {"net", "extract", "options"},
        "schedule": {"net", "fairness", "options"},
        "fetch": {"net", "fairness", "options", "single_flight", "cache", "schedule"},
        "robots": {"net", "fairness", "options", "single_flight", "schedule", "fetch"},
        "search": {"net", "fairness", "fetch"},
        "documents": {"fairness", "single_flight", "cache", "extract"},
        "admission": {"net", "fairness", "schedule", "robots"},
        "orchestrator": {"net", "options", "cache", "schedule", "fetch", "robots", "extract", "documents", "admission"},
    },
    "api": {
        "access": set(),
        "requests": set(),
        "calls": {"access"},
        "plans": {"requests"},
        "router": {"access", "calls"},
        "ticket_office": {"access", "requests", "calls"},
        "websocket": {"requests", "plans"},
        "streams": {"access", "requests", "calls", "plans", "router"},
        "openapi": {"requests", "calls", "router", "websocket"},
        "engine": {"plans", "streams"},
        "health": {"calls", "engine"},
    },
    "client": {
        "address": set(),
        "errors": set(),
        "frames": set(),
        "loop_thread": set(),
        "retry": set(),
        "decode": {"errors", "frames"},
        "framing": {"errors"},
        "refusals": {"errors"},
        "sequence": {"errors", "frames"},
        "http": {"address", "errors", "framing", "refusals"},
        "connections": {"errors", "frames", "decode", "framing", "refusals", "sequence", "http"},
        "stream": {"errors", "frames", "retry", "sequence", "http", "connections"},
        "client": {"address", "errors", "retry", "sequence", "http", "stream"},
        "sync": {"frames", "loop_thread", "stream", "client"},
    },
}

# Machines and policies: told facts, they own no socket, clock or task.
WITHOUT_IO = [
    "wire/**/*.py",
    *(
        f"streaming/{name}.py"
        for name in (
            "lifecycle",
            "memory",
            "window",
            "clients",
            "subscriber",
            "pacer",
            "ports",
            "audience",
            "retention",
            "admission",
            "fill/results",
        )
    ),
    "telemetry/rates.py",
    "errors/*.py",
    *(
        f"crawl/{name}.py"
        for name in (
            "cache/*",
            "extract/protocol",
            "extract/spec",
            "fairness/line",
            "schedule/backlog",
            "schedule/politeness",
            "schedule/shares",
            "robots/known",
            "robots/rules",
        )
    ),
    *(f"server/{name}.py" for name in ("timers", "intake", "per_peer")),
    "api/requests/*.py",
    "api/websocket/*.py",
    *(f"client/{name}.py" for name in ("framing", "frames", "decode", "sequence", "retry", "errors")),
]
IO = {"asyncio", "socket", "selectors", "ssl", "threading", "subprocess", "time", "uvloop"}


def modules() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if "__pycache__" not in path.parts)


def imported(path: Path) -> set[str]:
    """The dotted names that *path* imports, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            assert node.module is not None
            names |= (
                {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "fastmesh" else {node.module}
            )
    return names


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    here = room(path)
    if here == "__init__":
        return
    known = {name.split(".")[1] for name in imported(path) if name.startswith("fastmesh.")}
    assert known - {here} <= MAY_IMPORT[here]


@pytest.mark.parametrize("whole", WITHIN)
def test_imports_go_one_way_within_a_room(whole: str) -> None:
    allowed = WITHIN[whole]
    assert {name for name in allowed if not list(ROOT.joinpath(whole).glob(f"{name}*"))} == set()
    for path in ROOT.joinpath(whole).rglob("*.py"):
        here = path.relative_to(ROOT / whole).parts[0].removesuffix(".py")
        known = {name.split(".")[2] for name in imported(path) if name.startswith(f"fastmesh.{whole}.")}
        assert here == "__init__" or known - {here} <= allowed[here], path


@pytest.mark.parametrize(
    "path", sorted({p for pattern in WITHOUT_IO for p in ROOT.glob(pattern)}), ids=lambda p: p.name
)
def test_machines_without_io_import_none(path: Path) -> None:
    assert {name.split(".")[0] for name in imported(path)} & IO == set()


def test_the_table_has_no_cycle_and_no_room_too_many() -> None:
    rooms = {room(path) for path in modules()} - {"__init__"} | {"_core"}
    assert rooms == set(MAY_IMPORT)
    for table in (MAY_IMPORT, *WITHIN.values()):
        done: set[str] = set()
        while len(done) < len(table):
            ready = {name for name, allowed in table.items() if name not in done and allowed - {name} <= done}
            assert ready, f"a cycle among {set(table) - done}"
            done |= ready


def test_extraction_workers_load_no_network_code() -> None:
    """They start fast and small: their imports, followed through, reach neither aiohttp nor the streaming room."""
    seen: set[Path] = set()
    todo = [ROOT / "crawl" / "extract" / "worker.py"]
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in imported(path):
            assert name.split(".")[0] not in {"aiohttp", "uvloop", "prometheus_client", "pydantic"}, f"{path}: {name}"
            parts = name.split(".")
            if parts[0] == "fastmesh":
                for depth in range(len(parts), 1, -1):
                    place = ROOT.joinpath(*parts[1:depth])
                    found = [path for path in (place.with_suffix(".py"), place / "__init__.py") if path.exists()]
                    if found:
                        todo += found
                        break
    assert len(seen) > 1


def test_the_map_names_files_that_are_there() -> None:
    text = (ROOT.parent / "docs" / "architecture.md").read_text("utf-8")
    named = set(re.findall(r"`([\w/]+\.(?:pyx|pyi|py))`", text))
    there = {
        path.as_posix() for folder in ("fastmesh", "cext", "tests") for path in Path(ROOT.parent, folder).rglob("*")
    }
    assert len(named) > 50
    assert not [name for name in named if not any(path.endswith(f"/{name}") for path in there)]


def test_no_module_is_long() -> None:
    assert not {str(path): lines for path in modules() if (lines := len(path.read_text("utf-8").splitlines())) > 300}
