"""Build the Dockerfile and start what it makes, on a Linux machine that has no container engine (root is needed).

Each instruction is carried out as written: RUN in a mount namespace of its own with a fresh root, in which the
system's programs and libraries and a Python at /usr/local are read-only and stand for the base image; COPY by the
rules of .dockerignore. Then the result is started as the image says (user, environment, entry point), on a read-only
root with no privileges, against the Postgres given, and is asked to store and recall a turn.

What this does not prove: the base image itself, the engine's own build, layers, and another architecture.

    python -m tools.image_without_docker --python /usr/local --database-url postgresql://... [--keep DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from uuid import UUID

ROOT = Path(__file__).resolve().parent.parent
_SYSTEM = ("usr", "bin", "sbin", "lib", "lib64", "etc")
_AGENT = UUID("0d7c3c52-7d43-4c0e-8f5a-3c1b5f6a7e90")
_FRESH = ("opt", "build", "tmp", "proc", "dev", "run", "var/tmp")


@dataclass
class Stage:
    """One stage of the build."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    directory: str = "/"
    user: str = "0:0"
    commands: dict[str, list[str]] = field(default_factory=dict)


def instructions(text: str) -> list[tuple[str, str]]:
    """Read a Dockerfile: comments left out, continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [
        (word.upper(), rest.strip())
        for word, _, rest in (line.strip().partition(" ") for line in joined.splitlines() if line.strip())
    ]


def _expand(text: str, values: dict[str, str]) -> str:
    return re.sub(r"\$\{(\w+)\}|\$(\w+)", lambda match: values.get(match[1] or match[2], ""), text)


def _in_context(path: Path, patterns: list[str]) -> bool:
    """Tell whether .dockerignore lets a file through: the last pattern that fits it or a folder of it decides."""
    name = path.as_posix()
    parents = [name, *(parent.as_posix() for parent in path.parents)]
    kept = True
    for pattern in patterns:
        wanted = pattern.removeprefix("!")
        if any(
            fnmatch(each, wanted.removeprefix("**/"))
            for each in ([*path.parts] if "**" in wanted else parents)
        ):
            kept = pattern.startswith("!")
    return kept


class Builder:
    """Carries out a Dockerfile."""

    def __init__(self, work: Path, python: Path) -> None:
        self._work = work
        self._python = python
        self._stages: dict[str, Stage] = {}
        self._arguments: dict[str, str] = {}
        ignore = (ROOT / ".dockerignore").read_text().splitlines()
        self._patterns = [line for line in ignore if line and not line.startswith("#")]

    def build(self) -> Stage:
        """Give the last stage."""
        stage: Stage | None = None
        for word, rest in instructions((ROOT / "Dockerfile").read_text()):
            print(f"{word} {' '.join(rest.split())[:120]}", flush=True)
            if word == "ARG":
                name, _, value = rest.partition("=")
                self._arguments[name] = value
            elif word == "FROM":
                stage = self._begin(rest)
            elif stage is not None:
                self._carry_out(stage, word, rest)
        if stage is None:
            raise SystemExit("the Dockerfile has no stage")
        return stage

    def _begin(self, rest: str) -> Stage:
        name = rest.rpartition(" AS ")[2] if " AS " in rest else str(len(self._stages))
        root = self._work / name
        for folder in (*_SYSTEM, *_FRESH):
            (root / folder).mkdir(parents=True, exist_ok=True)
        stage = Stage(root, {"PATH": "/usr/local/bin:/usr/bin:/bin"})
        self._stages[name] = stage
        return stage

    def _carry_out(self, stage: Stage, word: str, rest: str) -> None:
        values = {**self._arguments, **stage.environment}
        if word == "ENV":
            for pair in shlex.split(rest):
                name, _, value = pair.partition("=")
                stage.environment[name] = _expand(value, values)
        elif word == "WORKDIR":
            stage.directory = rest
            (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "USER":
            stage.user = rest
        elif word == "COPY":
            self._copy(stage, rest.split())
        elif word == "RUN":
            self.run(stage, ["/bin/sh", "-c", rest], check=True)
        elif word in {"ENTRYPOINT", "CMD", "HEALTHCHECK"}:
            stage.commands[word] = json.loads(rest[rest.index("[") :])
        elif word not in {"LABEL", "EXPOSE", "STOPSIGNAL"}:
            raise SystemExit(f"{word} is not known here")

    def _copy(self, stage: Stage, words: list[str]) -> None:
        source_root, patterns = ROOT, self._patterns
        if words[0].startswith("--from="):
            source_root, patterns = self._stages[words.pop(0).removeprefix("--from=")].root, []
        *sources, destination = words
        target = stage.root / (Path(stage.directory) / destination).as_posix().lstrip("/")
        for name in sources:
            source = source_root / name.lstrip("/")
            if source.is_dir():
                for path in sorted(source.rglob("*")):
                    relative = path.relative_to(source_root)
                    if (path.is_file() or path.is_symlink()) and _in_context(relative, patterns):
                        _copy_file(path, target / path.relative_to(source))
            elif not _in_context(source.relative_to(source_root), patterns):
                raise SystemExit(f"COPY {name}: .dockerignore keeps it out")
            else:
                _copy_file(source, target / source.name if destination.endswith("/") else target)

    def run(self, stage: Stage, command: list[str], *, check: bool) -> int:
        """Run a command as root in a stage, writable."""
        script = (
            self._mounts(stage)
            + f"exec chroot {stage.root} /usr/bin/env -i -C {stage.directory} {_settings(stage)} "
        )
        process = subprocess.run(["unshare", "-m", "sh", "-ec", script + shlex.join(command)], check=check)
        return process.returncode

    def start(self, stage: Stage, command: list[str], extra: dict[str, str]) -> subprocess.Popen[bytes]:
        """Start a command as the image's user on a read-only root: only /tmp and /run can be written."""
        user, _, group = stage.user.partition(":")
        script = (
            self._mounts(stage)
            + f"mount --rbind {stage.root} {stage.root}; "
            + "".join(
                f"mount -t tmpfs -o mode=1777 tmpfs {stage.root}/{folder}; " for folder in ("tmp", "run")
            )
            + f"mount -o remount,ro,bind {stage.root}; "
            + f"exec chroot {stage.root} setpriv --reuid {user} --regid {group} --clear-groups --no-new-privs"
            + f" --bounding-set -all --inh-caps -all env -i -C {stage.directory} {_settings(stage, extra)} "
        )
        script += shlex.join(command)
        return subprocess.Popen(["unshare", "-m", "sh", "-ec", script])

    def _mounts(self, stage: Stage) -> str:
        parts = []
        for folder in _SYSTEM:
            source = Path("/", folder)
            if source.exists():
                parts.append(f"mount --bind -o ro {source} {stage.root}/{folder}")
        parts += [
            f"mount --bind -o ro {self._python} {stage.root}/usr/local",
            f"mount --rbind /dev {stage.root}/dev",
            f"mount -t proc proc {stage.root}/proc",
        ]
        return "; ".join(parts) + "; "


def _copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target, follow_symlinks=False)


def _settings(stage: Stage, extra: dict[str, str] | None = None) -> str:
    # How this machine reaches the package index belongs to the machine, as an engine's proxy settings do.
    index = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("PIP_", "SSL_", "HTTP", "HTTPS"))
    }
    # The base image has told the linker where its Python's library is.
    machine = {"HOME": "/run", "LD_LIBRARY_PATH": "/usr/local/lib"}
    settings = {**machine, **index, **stage.environment, **(extra or {})}
    return " ".join(shlex.quote(f"{name}={value}") for name, value in settings.items())


def _size(folder: Path) -> float:
    return sum(path.lstat().st_size for path in folder.rglob("*")) / 2**20


def prove(builder: Builder, stage: Stage, database_url: str) -> None:
    """Start the image's server and use it."""
    extra = {
        "DATABASE_URL": database_url,
        "MEMSIDECAR_LISTEN": "127.0.0.1:17700",
        "MEMSIDECAR_ADMIN_LISTEN": "127.0.0.1:17701",
    }
    server = builder.start(stage, stage.commands["ENTRYPOINT"] + stage.commands["CMD"], extra)
    try:
        began = time.monotonic()
        while builder.start(stage, stage.commands["HEALTHCHECK"], extra).wait() != 0:
            if server.poll() is not None or time.monotonic() - began > 60:
                raise SystemExit("the server does not become healthy")
            time.sleep(0.2)
        print(f"healthy {time.monotonic() - began:.1f} s after the start")
        for words in (
            [
                "append",
                "--agent",
                str(_AGENT),
                "--user",
                "u1",
                "--conversation",
                "c1",
                "The ferry to the island leaves at seven.",
            ],
            ["recall", "--user", "u1", "when does the boat leave?"],
        ):
            if builder.start(stage, [*stage.commands["ENTRYPOINT"], *words], extra).wait() != 0:
                raise SystemExit(f"{words[0]} failed")
        touch = ["sh", "-c", "touch /opt/memsidecar/x 2>/dev/null || touch /etc/x 2>/dev/null"]
        if builder.start(stage, touch, extra).wait() == 0:
            raise SystemExit("the root can be written")
        memory = Path(f"/proc/{server.pid}/status").read_text()
        print(
            "".join(
                line + "\n" for line in memory.splitlines() if line.startswith(("VmRSS", "Uid", "CapEff"))
            )
        )
    finally:
        server.terminate()
        print("ended with", server.wait(timeout=30))


def main() -> None:
    """Build and prove."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--python", type=Path, required=True, help="prefix of a Python that stands for the base image's"
    )
    parser.add_argument(
        "--database-url", help="app role of a migrated database; without it nothing is started"
    )
    parser.add_argument("--keep", type=Path, help="build here and leave it")
    arguments = parser.parse_args()
    if sys.platform != "linux" or os.geteuid() != 0:
        raise SystemExit("this needs Linux and root, for mount namespaces")
    work = arguments.keep or Path(tempfile.mkdtemp(prefix="memsidecar-image-"))
    work.mkdir(parents=True, exist_ok=True)
    work.chmod(0o755)
    try:
        builder = Builder(work, arguments.python)
        stage = builder.build()
        print(f"{_size(stage.root / 'opt'):.0f} MiB on top of the base image")
        if arguments.database_url:
            prove(builder, stage, arguments.database_url)
    finally:
        if arguments.keep is None:
            shutil.rmtree(work)


if __name__ == "__main__":
    main()
