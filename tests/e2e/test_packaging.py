"""What is shipped: built, installed and used from the sdist, on every Python that is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SUPPORTED = ["3.11", "3.12", "3.13", "3.14"]

USE = """
import subprocess, sys
from fastmesh._core import RingBuffer
ring = RingBuffer()
assert ring.append(b"x", 0.0) == 1
done = subprocess.run([sys.executable, "-m", "fastmesh.cli", "demo"], capture_output=True, text=True)
assert done.returncode == 0, done.stdout + done.stderr
"""


def run(*command: object, cwd: Path | None = None) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what the repository holds, so that nothing that lies about slips in."""
    copy = tmp_path_factory.mktemp("source")
    listed = run("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).splitlines()
    for name in listed:
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--sdist", "--outdir", out, copy)
    (path,) = out.glob("fastmesh-*.tar.gz")
    return path


def python(version: str) -> str:
    """The interpreter of *version*; the test is skipped by its name where there is none."""
    candidates = [
        shutil.which(f"python{version}"),
        *sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python")),
    ]
    for candidate in candidates:
        if (
            candidate
            and subprocess.run([candidate, "-c", "import venv, ensurepip"], capture_output=True).returncode == 0
        ):
            return str(candidate)
    pytest.skip(f"Python {version} is not installed")


def test_the_sdist_holds_the_sources_of_the_extension(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"cext/_core.pyx", "cext/ring.pyx", "cext/reader.pyx", "fastmesh/_core.pyi", "fastmesh/py.typed"} <= names
    assert not [name for name in names if name.endswith((".so", ".pyc"))]


@pytest.mark.parametrize("version", SUPPORTED)
def test_installs_from_the_sdist_and_runs(version: str, sdist: Path, tmp_path: Path) -> None:
    """The wheel is built by this Python from the sdist; the demo is the whole way through it."""
    interpreter = python(version)
    run(interpreter, "-m", "venv", tmp_path / "venv")
    installed = tmp_path / "venv/bin/python"
    run(installed, "-m", "pip", "install", "--quiet", sdist)
    assert run(tmp_path / "venv/bin/fastmesh", "--version").startswith("fastmesh ")
    run(installed, "-W", "error::SyntaxWarning", "-c", USE, cwd=tmp_path)
    # Tools for load and development are extras.
    names = run(installed, "-m", "pip", "list").lower()
    assert not {"pytest", "hypothesis", "mypy", "uvicorn", "granian"} & set(names.split())


def test_the_wheel_has_the_extension_and_no_sources(sdist: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, sdist)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in names if name.startswith("fastmesh/_core.") and name.endswith(".so")]
    assert {"fastmesh/_core.pyi", "fastmesh/py.typed", "fastmesh/demo/pages.py"} <= set(names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"fastmesh"}
