"""A Dockerfile read and its build done without an engine: each stage in a root of its own, by chroot."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from conftest import need

KNOWN = {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"}


@dataclass
class Stage:
    """From one FROM to the next: its instructions in their order, without their continuation lines."""

    base: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def only(self, keyword: str) -> str:
        """What stands behind *keyword*, which is there once."""
        (rest,) = [rest for word, rest in self.instructions if word == keyword]
        return rest

    @property
    def environ(self) -> dict[str, str]:
        """All of ENV."""
        pairs = [part.partition("=") for word, rest in self.instructions if word == "ENV" for part in shlex.split(rest)]
        return {name: value for name, _, value in pairs}


def stages(text: str) -> list[Stage]:
    """The stages of a Dockerfile.  Raises ValueError for an instruction that is not known here."""
    found: list[Stage] = []
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines():
        word, _, rest = line.strip().partition(" ")
        if not word:
            continue
        if word not in KNOWN:
            raise ValueError(f"{word} is not known")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found.append(Stage(base, name))
        else:
            found[-1].instructions.append((word, rest.strip()))
    return found


class Builder:
    """Builds stages in *folder* on copies of *base*, the root of a system; *context* is what COPY copies from."""

    def __init__(self, folder: Path, base: Path, context: Path) -> None:
        self._folder = folder
        self._base = base
        self._context = context
        self._roots: dict[str, Path] = {}

    def build(self, stage: Stage) -> Path:
        """The root that *stage* makes; any of its commands that fails raises CalledProcessError."""
        root = self._folder / (stage.name or "last")
        subprocess.run(["cp", "-a", str(self._base), str(root)], check=True)
        self._roots[stage.name] = root
        where = "/"
        for word, rest in stage.instructions:
            if word == "WORKDIR":
                where = rest
                (root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
            elif word == "COPY":
                self._copy(rest, root, where)
            elif word == "RUN":
                command = ["sh", "-c", f"cd {where} && {rest}"]
                done = subprocess.run(inside(root, command), env=passed_on(), capture_output=True, text=True)
                assert done.returncode == 0, f"RUN {rest}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return root

    def _copy(self, rest: str, root: Path, where: str) -> None:
        *sources, target = shlex.split(rest)
        origin = self._context
        if sources[0].startswith("--from="):
            origin = self._roots[sources.pop(0).removeprefix("--from=")]
        into = root / (target if target.startswith("/") else f"{where}/{target}").lstrip("/")
        for source in sources:
            path = origin / source.lstrip("/")
            if path.is_dir():
                shutil.copytree(path, into, symlinks=True, dirs_exist_ok=True)
            else:
                into.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, into)


def inside(root: Path, command: list[str], user: str = "0") -> list[str]:
    """*command* as it runs with *root* as its whole system; its mounts go with it."""
    mounts = f'mount -t proc proc "{root}/proc" && mount --bind /dev "{root}/dev"'
    run = shlex.join([need("chroot"), f"--userspec={user}:{user}", str(root), *command])
    return [need("unshare"), "--mount", "/bin/sh", "-c", f"{mounts} && exec {run}"]


def passed_on() -> dict[str, str]:
    """The environment of a build: where packages come from is the machine's affair."""
    own = {name: value for name, value in os.environ.items() if re.match(r"PIP_|.*_proxy$", name, re.IGNORECASE)}
    return own | {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "DEBIAN_FRONTEND": "noninteractive",
    }


def words(text: str) -> list[str]:
    """The exec form of ENTRYPOINT and CMD."""
    found: list[str] = json.loads(text)
    return found


def ignored(text: str) -> Iterator[str]:
    """The exceptions of a .dockerignore that leaves everything out."""
    first, *rest = [line for line in text.splitlines() if line]
    assert first == "*"
    return (line[1:] for line in rest if line.startswith("!"))
