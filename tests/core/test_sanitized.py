"""The C code under AddressSanitizer and UndefinedBehaviorSanitizer; its short form is the same stress without them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_hostile import HERE, run

ROOT = HERE.parent.parent
FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g1 -O1"
SCRIPTS = {
    "stress": ("stress.py", "2000", "1"),
    "another stress": ("stress.py", "2000", "2"),
    "hostile arguments": ("hostile.py",),
    "hostile arguments at random": ("hostile.py", "2"),
    "hostile callbacks": ("reentry.py",),
}


def test_a_stress_of_journal_reader_and_pump() -> None:
    run(str(HERE / "stress.py"), "300", "1")


@pytest.fixture(scope="session")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which the package is one that was built under sanitizers."""
    if shutil.which("gcc") is None:
        pytest.fail("gcc is not installed") if os.environ.get("CI") else pytest.skip("gcc is not installed")
    into = tmp_path_factory.mktemp("sanitized")
    for name in ("cext", "fastmesh"):
        shutil.copytree(ROOT / name, into / name, ignore=shutil.ignore_patterns("*.so", "_core.c", "__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, into)
    environment = {**os.environ, "CC": "gcc", "CFLAGS": FLAGS, "LDFLAGS": FLAGS}
    build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(build, cwd=into, env=environment, check=True, capture_output=True)
    asan = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    return {
        **os.environ,
        "PYTHONPATH": str(into),
        "PYTHONMALLOC": "malloc",  # each object its own, or a use after free is inside of an arena
        "LD_PRELOAD": str(Path(asan.stdout.strip()).resolve()),
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=1:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_no_sanitizer_finds_anything(sanitized: dict[str, str], script: tuple[str, ...]) -> None:
    ran = subprocess.run(
        [sys.executable, *script], cwd=HERE, env=sanitized, capture_output=True, text=True, check=False
    )
    said = ran.stdout.splitlines()
    assert (ran.returncode, said[-1:]) == (0, ["done"]), "\n".join([*said[-3:], ran.stderr[-8000:]])
    assert "runtime error" not in ran.stderr


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_c_code_leaves_nothing_behind(sanitized: dict[str, str]) -> None:
    looks = {"ASAN_OPTIONS": "detect_leaks=1:fast_unwind_on_malloc=0", "LSAN_OPTIONS": "exitcode=0"}
    stress = [sys.executable, "stress.py", "200", "3"]
    ran = subprocess.run(stress, cwd=HERE, env=sanitized | looks, capture_output=True, text=True, check=True)
    # The interpreter itself leaves some behind.
    leaks = [leak for leak in ran.stderr.split("\n\n") if "leak of" in leak and "_core.c:" in leak]
    assert not leaks, leaks[0]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_sanitizer_would_find_something(sanitized: dict[str, str]) -> None:
    imported = "import fastmesh._core as core; print(core.__file__)"
    run_it = [sys.executable, "-c", imported]
    ran = subprocess.run(run_it, cwd=HERE, env=sanitized, capture_output=True, text=True, check=True)
    assert b"__asan_report_load" in Path(ran.stdout.strip()).read_bytes()
