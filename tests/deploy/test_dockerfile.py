"""The Dockerfile: read here; in the long form built without an engine, and what it makes is run."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from conftest import need
from daemons import PATIENCE_S
from deploy.dockerfile import Builder, Stage, ignored, inside, passed_on, stages, words

ROOT = Path(__file__).parent.parent.parent
BUILD, FINAL = stages((ROOT / "deploy/Dockerfile").read_text())
SYSTEM = Path("/etc/apt/sources.list.d/debian.sources")
# Where this machine gets its packages, and whom it trusts for it.
OF_THE_MACHINE = ["etc/apt/sources.list.d", "etc/apt/apt.conf.d", "etc/pip.conf", "etc/xdg/pip", "etc/resolv.conf",
                  "etc/hosts", "usr/local/share/ca-certificates"]  # fmt: skip


def test_the_last_stage_has_no_compiler_and_no_root() -> None:
    assert "gcc" in " ".join(rest for _, rest in BUILD.instructions)
    assert not re.search(r"\bgcc|-dev\b|\bpip install", " ".join(rest for _, rest in FINAL.instructions))
    assert FINAL.only("USER") == "10001"
    assert FINAL.only("STOPSIGNAL") == "SIGTERM"
    assert words(FINAL.only("ENTRYPOINT")) + words(FINAL.only("CMD")) == ["fastmesh", "serve"]
    assert FINAL.environ["FASTMESH_SERVER__PORT"] == FINAL.only("EXPOSE")


def test_what_it_copies_is_there_and_not_ignored() -> None:
    kept = list(ignored((ROOT / "deploy/Dockerfile.dockerignore").read_text()))
    for word, rest in BUILD.instructions:
        if word == "COPY":
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert source in {name.removesuffix("/*.pyx") for name in kept}, source


def test_an_instruction_that_is_not_known_is_seen() -> None:
    with pytest.raises(ValueError, match="ADD is not known"):
        stages("FROM x\nADD a b\n")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Debian as small as it comes, which debian:bookworm-slim is, too."""
    sources = SYSTEM.read_text()
    found = re.search(r"^URIs: (\S+)$", sources, re.MULTILINE)
    assert found is not None
    root = tmp_path_factory.mktemp("base") / "root"
    command = [need("debootstrap"), "--variant=minbase", "--include=ca-certificates", "bookworm", str(root), found[1]]
    subprocess.run(command, check=True, capture_output=True)
    (root / "etc/apt/sources.list").unlink()
    for name in OF_THE_MACHINE:
        path, target = Path("/", name), root / name
        if path.is_dir():
            shutil.copytree(path, target, dirs_exist_ok=True)
        elif path.exists():
            shutil.copy(path, target)
    subprocess.run(inside(root, ["update-ca-certificates"]), check=True, env=passed_on(), capture_output=True)
    return root


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.skipif(os.getuid() != 0, reason="only root may chroot")
def test_built_without_an_engine_it_serves_as_nobody_is_healthy_and_ends_by_sigterm(base: Path, tmp_path: Path) -> None:
    context = tmp_path / "context"
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in listed.split():
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, context / name)
    builder = Builder(tmp_path, base, context)
    builder.build(BUILD)
    root = builder.build(FINAL)
    assert not list((root / "usr/bin").glob("*gcc*"))

    refused = subprocess.run(entry(root, FINAL), env=environ(), capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "AUTH__TOKENS_FILE" in refused.stderr

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    variables = environ() | {"FASTMESH_SERVER__PORT": str(port), "FASTMESH_AUTH__INSECURE": "true"}
    process = subprocess.Popen(entry(root, FINAL), env=variables, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline().endswith(f"http://0.0.0.0:{port}\n")
        check = words(FINAL.only("HEALTHCHECK").partition(" CMD ")[2])
        subprocess.run(inside(root, check, FINAL.only("USER")), env=variables, check=True)
        process.send_signal(getattr(signal, FINAL.only("STOPSIGNAL")))
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def entry(root: Path, stage: Stage) -> list[str]:
    return inside(root, words(stage.only("ENTRYPOINT")) + words(stage.only("CMD")), stage.only("USER"))


def environ() -> dict[str, str]:
    return FINAL.environ | {"HOME": "/"}
