"""How many cores may be used, in containers and services of every kind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastmesh.config.cores import usable_cores

MANY = frozenset(range(64))


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of 64 cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: MANY)


def tree(folder: Path, groups: str, files: dict[str, str]) -> int:
    """The cores of a process in *groups*, with *files* below where they are mounted."""
    (said := folder / "cgroup").write_text(groups)
    for name, text in files.items():
        (path := folder / "mounted" / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return usable_cores(said, folder / "mounted")


V1 = "3:cpu,cpuacct:/docker/abc\n2:memory:/docker/abc\n1:name=systemd:/\n"


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),  # a container that sees its own group as the root
        ("0::/\n", {"cpu.max": "max 100000\n"}, 64),
        ("0::/system.slice/f.service\n", {"system.slice/f.service/cpu.max": "150000 100000\n"}, 1),
        ("0::/system.slice/f.service\n", {"system.slice/f.service/cpu.max": "50000 100000\n"}, 1),
        (  # the least of its own and those above
            "0::/a/b\n",
            {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n", "cpu.max": "800000 100000\n"},
            3,
        ),
        ("0::/../../elsewhere\n", {"cpu.max": "400000 100000\n"}, 4),
        (V1, {"cpu/docker/abc/cpu.cfs_quota_us": "250000\n", "cpu/docker/abc/cpu.cfs_period_us": "100000\n"}, 2),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/cpu.cfs_period_us": "50000\n"}, 5),
        (V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
        (V1 + "0::/\n", {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ("0::/\n", {}, 64),
        ("0::/\n", {"cpu.max": "nonsense"}, 64),
        ("0::/\n", {"cpu.max": "0 0"}, 64),
        ("no line of it", {}, 64),
        ("", {}, 64),
    ],
)
def test_a_quota_bounds_the_cores(tmp_path: Path, groups: str, files: dict[str, str], cores: int) -> None:
    assert tree(tmp_path, groups, files) == cores


def test_without_any_groups_the_cores_that_it_may_run_on_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert usable_cores(tmp_path / "none", tmp_path) == 64
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {7, 9})
    assert usable_cores(tmp_path / "none", tmp_path) == 2
    assert tree(tmp_path, "0::/\n", {"cpu.max": "400000 100000\n"}) == 2


def test_workers_are_counted_by_the_cores_that_the_process_may_use() -> None:
    code = """
import os, sys
os.cpu_count = lambda: 64
os.sched_getaffinity = lambda _: set(range(int(sys.argv[1])))
from fastmesh.config import Settings
print(Settings().workers.extract)
"""
    for cores, workers in ((1, 1), (2, 1), (3, 2)):
        done = subprocess.run([sys.executable, "-c", code, str(cores)], capture_output=True, text=True, check=True)
        assert int(done.stdout) <= workers  # a quota of this machine's may leave fewer
        assert int(done.stdout) >= 1
