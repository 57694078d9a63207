"""The units, as systemd's own tools judge them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import need
from daemons import Daemon
from origins import Origin

from fastmesh.demo.pages import paper

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with a program that is there."""
    for name in ("fastmesh.service", "fastmesh.socket"):
        text = (DEPLOY / name).read_text()
        (tmp_path / name).write_text(text.replace("/opt/fastmesh/bin/fastmesh", sys.executable))
    return tmp_path


def analyzed(*arguments: str) -> str:
    done = subprocess.run([need("systemd-analyze"), *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_both_units_verify_without_a_word(units: Path) -> None:
    assert analyzed("verify", str(units / "fastmesh.service"), str(units / "fastmesh.socket")) == ""


def test_the_exposure_is_2_at_most(units: Path) -> None:
    said = analyzed("security", "--offline=true", "--threshold=20", str(units / "fastmesh.service"))
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found is not None
    assert float(found[1]) <= 2.0


def test_others_may_not_connect_to_the_socket_nor_look_into_the_folder() -> None:
    assert "SocketMode=0660\n" in (DEPLOY / "fastmesh.socket").read_text()
    assert "RuntimeDirectoryMode=0750\n" in (DEPLOY / "fastmesh.service").read_text()


def calls(group: str) -> set[str]:
    """The system calls of one of systemd's groups."""
    lines = (line.split("#")[0].strip() for line in analyzed("syscall-filter", group).splitlines()[1:])
    return set().union(*(calls(line) if line.startswith("@") else {line} for line in lines if line))


def allowed() -> set[str]:
    """What SystemCallFilter= of the service leaves, its lines in their order (systemd.exec(5))."""
    found: set[str] = set()
    for line in re.findall(r"^SystemCallFilter=(.+)$", (DEPLOY / "fastmesh.service").read_text(), re.MULTILINE):
        names = line.removeprefix("~").split()
        meant = set().union(*(calls(name) if name.startswith("@") else {name} for name in names))
        found = found - meant if line.startswith("~") else found | meant
    return found


def test_under_the_filter_of_its_unit_it_does_all_its_work(origin: Origin) -> None:
    page = origin.page("/filtered", "<title>filtered</title><p>" + "words and words " * 200)
    pdf = origin.page("/filtered.pdf", paper("a paper"), content_type="application/pdf")
    prefix = (sys.executable, str(Path(__file__).with_name("filtered.py")), ",".join(allowed()))
    settings = {"FETCH__ALLOW_NETWORKS": "127.0.0.0/8", "FIREHOSE__ENABLED": "true"}
    with Daemon(prefix=prefix, **settings) as daemon:
        for extractor in ("fast", "quality"):
            frames = daemon.crawl(page, pdf, "http://nowhere.invalid/", extractor=extractor)
            results = {frame["index"]: frame["result"] for frame in frames if frame["type"] == "result"}
            assert [results[at]["document"]["title"] for at in (0, 1)] == ["filtered", "a paper"]
            assert results[2]["error"]["type"] == "dns"
        assert daemon.ask("GET", "/firehose/sse?frames=100").status == 200
        assert daemon.ask("GET", "/metrics").status == 200
        assert daemon.ask("GET", "/healthz").json["dependencies"]["extract_workers"]["deaths"] == 0
        assert [line for line in daemon.stderr().splitlines() if "Operation not permitted" in line] == []


@pytest.mark.parametrize("also", [{"sched_setscheduler"}, set()], ids=["allowed", "refused"])
def test_a_worker_stands_back_as_far_as_the_filter_lets_it(origin: Origin, also: set[str]) -> None:
    """That this is SCHED_IDLE where nothing else keeps the cores busy, tests/crawl/test_standing.py holds."""
    filtered = (allowed() - {"sched_setscheduler"}) | also
    prefix = (sys.executable, str(Path(__file__).with_name("filtered.py")), ",".join(filtered))
    with Daemon(prefix=prefix, FETCH__ALLOW_NETWORKS="127.0.0.0/8", WORKERS__EXTRACT=1) as daemon:
        frames = daemon.crawl(origin.page("/behind", "<title>behind</title>"))
        assert [frame["result"]["document"]["title"] for frame in frames if frame["type"] == "result"] == ["behind"]
        (worker,) = map(int, Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split())
        idle = os.sched_getscheduler(worker) == os.SCHED_IDLE
        assert os.getpriority(os.PRIO_PROCESS, worker) == 5
        assert not idle or also
